"""Modules that stay alive: `Instance`, and what can be done with one.

instance         an instance: its functions, its memory
handle           a function of it, called the shortest way
gate             one thread at a time, and only while it is fit to be entered
live             its guest
arrays, showing  arrays in its memory, and shared ones that lie there for a while
snapshot, binary all that is in it, kept and put back; what a module hides made visible for that
run, suspended   calls that go on a piece at a time
"""
