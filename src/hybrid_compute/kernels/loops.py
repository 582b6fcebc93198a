"""Loops: over any range, and quicker where all that is asked of an array lies within it.

The innermost loops over `range(start, stop)` are written twice. Before the first turn it is asked once whether every
element that the loop comes to is there; then

    the quick version      asks no more, takes four turns at a time, and whole vectors where it can (see `vectors`)
    the careful version    asks at every element, and knows what an index below zero means

Both do the same: which one runs only shows in the time it takes.
"""

from __future__ import annotations

from dataclasses import replace

from hybrid_compute.kernels import vectors
from hybrid_compute.kernels.addresses import Fast, Plan
from hybrid_compute.kernels.branches import straightened
from hybrid_compute.kernels.plans import ask, planned, set_base
from hybrid_compute.kernels.tree import (
    Assign,
    Call,
    Const,
    For,
    Store,
    While,
    any_of,
    walk,
)
from hybrid_compute.kernels.turns import all_turns, bounds, counted, each_turn
from hybrid_compute.kernels.wat import Writer, local

TURNS = 4
LARGE = 60
"""A body of so many nodes is not written four times."""


def write(writer: Writer, loop: For) -> None:
    """The whole of a loop."""
    step = loop.step.value if isinstance(loop.step, Const) else None
    if step == 1:
        _upwards(writer, loop)
    elif step == -1:
        all_turns(writer, loop, "gt_s", -1)
    else:
        counted(writer, loop)


def _upwards(writer: Writer, loop: For) -> None:
    plans = planned(loop) if _innermost(loop) else {}
    if not plans and not _unrolls(loop):
        all_turns(writer, loop, "lt_s", 1)
        return
    counter, stop = bounds(writer, loop)
    done = writer.label("done")
    writer.say(f"block {done}", f"local.get {counter}", f"local.get {stop}", "i64.ge_s", f"br_if {done}")
    if plans:
        ask(writer, plans, counter, stop)
        writer.say("if")
    _quick(writer, loop, plans, counter, stop, done)
    if plans:
        writer.say("else")
        each_turn(writer, loop, counter, stop, done)
        writer.say("end")
    writer.say("end")


def _innermost(loop: For) -> bool:
    return not any_of(loop.body, lambda each: isinstance(each, For | While | Call))


def _straight(loop: For) -> bool:
    return all(isinstance(statement, Assign | Store) for statement in loop.body)


def _straightened(loop: For, plans: dict[int, Plan]) -> For | None:
    """The loop for vectors: without branches."""
    types = {plan.node.of.element.scalar for plan in plans.values()}
    if _straight(loop) or len(types) != 1:
        return loop if _straight(loop) else None
    body = straightened(loop.body, plans, types.pop())
    return None if body is None else replace(loop, body=body)


def _unrolls(loop: For) -> bool:
    return _straight(loop) and _innermost(loop) and len(list(walk(loop.body))) <= LARGE


def _quick(writer: Writer, loop: For, plans: dict[int, Plan], counter: str, stop: str, done: str) -> None:
    fast = Fast(plans, writer.new("i32"))
    straight = _straightened(loop, plans)
    for plan in plans.values():
        set_base(writer, fast, plan)
    writer.known = fast
    if straight is not None:
        vectors.write(writer, straight, fast, counter, stop)
    if _unrolls(loop):
        turns, again = writer.label("turns"), writer.label("for")
        writer.say(f"block {turns}", f"loop {again}")
        # Not stop - 4, nor counter + 4: either may wrap around. The stop is above the counter, so this does not.
        writer.say(
            f"local.get {stop}", f"local.get {counter}", "i64.sub", f"i64.const {TURNS}", "i64.lt_u", f"br_if {turns}"
        )
        writer.say(f"local.get {counter}", "i32.wrap_i64", f"local.set {fast.turn}")
        for fast.ahead in range(TURNS):
            writer.say(f"local.get {counter}", f"i64.const {fast.ahead}", "i64.add", f"local.set {local(loop.name)}")
            writer.block(loop.body)
        fast.ahead = 0
        writer.say(
            f"local.get {counter}", f"i64.const {TURNS}", "i64.add", f"local.set {counter}", f"br {again}", "end", "end"
        )
        writer.say(f"local.get {counter}", f"local.get {stop}", "i64.ge_s", f"br_if {done}")
    each_turn(writer, loop, counter, stop, done, turn=fast.turn)
    writer.known = None
