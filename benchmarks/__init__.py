"""Hybrid Compute side by side with its peers, on this machine, in one run.

    python -m benchmarks [--quick] [--only GROUP ...] [--rounds N] [--json FILE]

A contender is one way to get one thing done: the bare mechanism that nobody can beat (the limit), ours, or
a peer. Each runs in a fresh process, all of them in turn, round after round, so that whatever else the machine
does hits them alike; a figure is the median over the rounds. Trust the ratios: absolute times belong to this
machine.

The groups about latency run twice. `free`: the system places the processes, mostly on separate cores, where
waking a sleeping core costs more than all the rest. `pinned`: one core holds the contender and its workers.

The groups about servers start each in one more process, and ask it over this machine's own network. There the CPU time
that a call takes is told, too: of all figures it is the one that a busy machine moves least. That nothing is lost when
servers die, `python -m benchmarks.soak` finds out.
"""
