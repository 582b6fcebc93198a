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
from hybrid_compute.kernels.addresses import Axis, Fast, Plan, key
from hybrid_compute.kernels.branches import straightened
from hybrid_compute.kernels.tree import (
    Assign,
    Binary,
    Call,
    Const,
    Expr,
    For,
    Length,
    Load,
    Local,
    Store,
    While,
    any_of,
    assigned,
    walk,
)
from hybrid_compute.kernels.types import Scalar
from hybrid_compute.kernels.wat import Writer, length, local

TURNS = 4
LARGE = 60
"""A body of so many nodes is not written four times."""


def write(writer: Writer, loop: For) -> None:
    """The whole of a loop."""
    step = loop.step.value if isinstance(loop.step, Const) else None
    if step == 1:
        _upwards(writer, loop)
    elif step == -1:
        _ends(writer, loop, "gt_s", -1)
    else:
        _counted(writer, loop)


# Any range.


def _bounds(writer: Writer, loop: For) -> tuple[str, str]:
    """The counter, which has the first number, and the stop. It is not the loop's name: a body may change that."""
    counter, stop = writer.new("i64"), writer.new("i64")
    writer.expression(loop.start)
    writer.say(f"local.set {counter}")
    writer.expression(loop.stop)
    writer.say(f"local.set {stop}")
    return counter, stop


def _ends(writer: Writer, loop: For, before: str, step: int) -> None:
    counter, stop = _bounds(writer, loop)
    done = writer.label("done")
    writer.say(
        f"block {done}", f"local.get {counter}", f"local.get {stop}", f"i64.{before}", "i32.eqz", f"br_if {done}"
    )
    _turns(writer, loop, counter, stop, done, before, step)
    writer.say("end")


def _turns(
    writer: Writer, loop: For, counter: str, stop: str, done: str, before: str = "lt_s", step: int = 1, turn: str = ""
) -> None:
    """One turn after the other, the first of which is due."""
    again = writer.label("for")
    writer.say(f"loop {again}", f"local.get {counter}", f"local.set {local(loop.name)}")
    if turn:
        writer.say(f"local.get {counter}", "i32.wrap_i64", f"local.set {turn}")
    writer.body(loop.body, done)
    # The counter goes no further than the stop, so it never wraps around.
    writer.say(f"local.get {counter}", f"i64.const {step}", "i64.add", f"local.tee {counter}", f"local.get {stop}")
    writer.say(f"i64.{before}", f"br_if {again}", "end")


def _counted(writer: Writer, loop: For) -> None:
    """Steps of any size: the turns are counted first, for the last step may lead beyond 64 bits."""
    counter, stop = _bounds(writer, loop)
    step, turns = writer.new("i64"), writer.new("i64")
    writer.expression(loop.step)
    writer.say(f"local.set {step}")
    if loop.site is not None:
        writer.say(f"local.get {step}", "i64.eqz")
        writer.fail_if(loop.site)
    first, last = f"local.get {counter}", f"local.get {stop}"
    writer.say(f"local.get {step}", "i64.const 0", "i64.gt_s", "if (result i64)")
    _count(writer, first, last, [f"local.get {step}"])
    writer.say("else")
    _count(writer, last, first, ["i64.const 0", f"local.get {step}", "i64.sub"])
    writer.say("end", f"local.set {turns}")
    done, again = writer.label("done"), writer.label("for")
    writer.say(f"block {done}", f"local.get {turns}", "i64.eqz", f"br_if {done}", f"loop {again}")
    writer.say(f"local.get {counter}", f"local.set {local(loop.name)}")
    writer.body(loop.body, done)
    writer.say(f"local.get {counter}", f"local.get {step}", "i64.add", f"local.set {counter}")
    writer.say(f"local.get {turns}", "i64.const 1", "i64.sub", f"local.tee {turns}", "i64.eqz", "i32.eqz")
    writer.say(f"br_if {again}", "end", "end")


def _count(writer: Writer, low: str, high: str, size: list[str]) -> None:
    """Push how many steps of this size it is from one to the other, where the last one need not fit."""
    writer.say(low, high, "i64.lt_s", "if (result i64)", high, low, "i64.sub", "i64.const 1", "i64.sub")
    writer.say(*size, "i64.div_u", "i64.const 1", "i64.add", "else", "i64.const 0", "end")


# One by one, upwards.


def _upwards(writer: Writer, loop: For) -> None:
    plans = _plans(loop) if _innermost(loop) else {}
    if not plans and not _unrolls(loop):
        _ends(writer, loop, "lt_s", 1)
        return
    counter, stop = _bounds(writer, loop)
    done = writer.label("done")
    writer.say(f"block {done}", f"local.get {counter}", f"local.get {stop}", "i64.ge_s", f"br_if {done}")
    if plans:
        _ask(writer, plans, counter, stop)
        writer.say("if")
    _quick(writer, loop, plans, counter, stop, done)
    if plans:
        writer.say("else")
        _turns(writer, loop, counter, stop, done)
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


def _plans(loop: For) -> dict[int, Plan]:
    """For each access to an array of which it can be told beforehand where it leads, how to get there."""
    changed = assigned(loop.body) | {loop.name}
    if loop.name in assigned(loop.body):
        return {}
    found: dict[int, Plan] = {}
    for each in walk(loop.body):
        if isinstance(each, Load | Store):
            axes = [_axis(index, loop.name, changed) for index in each.indexes]
            if all(axis is not None for axis in axes):
                found[id(each)] = Plan(each, [axis for axis in axes if axis is not None])
    return found


def _axis(index: Expr, name: str, changed: set[str]) -> Axis | None:
    """What an index is in terms of the turn; None if that is not seen."""
    if invariant(index, changed):
        return Axis(False, index)
    match index:
        case Local(name=given) if given == name:
            return Axis(True, None)
        case Binary(op="add", left=Local(name=given), right=other) if given == name and invariant(other, changed):
            return Axis(True, other)
        case Binary(op="add", left=other, right=Local(name=given)) if given == name and invariant(other, changed):
            return Axis(True, other)
        case Binary(op="sub", left=Local(name=given), right=Const() as other) if given == name and other.value > -(
            2**62
        ):
            return Axis(True, Const(Scalar.INT, -other.value))
        case _:
            return None


def invariant(value: Expr, changed: set[str]) -> bool:
    """Whether it is the same in every turn, cheap to find out, and cannot fail."""
    match value:
        case Const() | Length():
            return True
        case Local(name=name):
            return name not in changed
        case Binary(op="add" | "sub" | "mul", left=left, right=right):
            return invariant(left, changed) and invariant(right, changed)
        case _:
            return False


FAR = 1 << 40
"""No array is that long, and sums of two such numbers do not wrap around."""


def _ask(writer: Writer, plans: dict[int, Plan], counter: str, stop: str) -> None:
    """Push whether all these elements are there, in all turns from the counter to the stop."""
    writer.say(f"local.get {counter}", "i64.const 0", "i64.ge_s")
    writer.say(f"local.get {stop}", f"i64.const {FAR}", "i64.le_s", "i32.and")
    asked: set[str] = set()
    for plan in plans.values():
        for number, axis in enumerate(plan.axes):
            what = f"{plan.node.array} {number} {axis.moves} {key(axis.invariant)}"
            if what in asked:
                continue
            asked.add(what)
            most = length(plan.node.array, number)
            if axis.invariant is None:
                writer.say(f"local.get {stop}", f"local.get {most}", "i64.le_s", "i32.and")
                continue
            value = writer.held(axis.invariant)
            if not axis.moves:
                writer.say(f"local.get {value}", f"local.get {most}", "i64.lt_u", "i32.and")
                continue
            writer.say(
                f"local.get {value}", f"i64.const {FAR}", "i64.add", f"i64.const {2 * FAR}", "i64.lt_u", "i32.and"
            )
            writer.say(f"local.get {counter}", f"local.get {value}", "i64.add", "i64.const 0", "i64.ge_s", "i32.and")
            writer.say(f"local.get {stop}", f"local.get {value}", "i64.add", f"local.get {most}", "i64.le_s", "i32.and")


def _quick(writer: Writer, loop: For, plans: dict[int, Plan], counter: str, stop: str, done: str) -> None:
    fast = Fast(plans, writer.new("i32"))
    straight = _straightened(loop, plans)
    for plan in plans.values():
        _base(writer, fast, plan)
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
    _turns(writer, loop, counter, stop, done, turn=fast.turn)
    writer.known = None


def _base(writer: Writer, fast: Fast, plan: Plan) -> None:
    """Set the locals in which the address of turn 0 and the stride are. They are found out once for the loop."""
    if plan.key not in fast.bases:
        node, shift = plan.node, plan.node.of.element.shift
        base, stride = writer.new("i32"), ""
        writer.say(f"local.get {local(node.array)}")
        for number, axis in enumerate(plan.axes):
            if number:
                writer.say(f"local.get {length(node.array, number)}", "i32.wrap_i64", "i32.mul")
            if axis.invariant is None:
                writer.say("i32.const 0")
            else:
                writer.expression(axis.invariant)
                writer.say("i32.wrap_i64")
            if number:
                writer.say("i32.add")
        writer.say(f"i32.const {shift}", "i32.shl", "i32.add", f"local.set {base}")
        if len(plan.axes) == 2 and plan.axes[0].moves:
            stride = writer.new("i32")
            writer.say(f"local.get {length(node.array, 1)}", "i32.wrap_i64")
            if plan.axes[1].moves:
                writer.say("i32.const 1", "i32.add")
            writer.say(f"i32.const {shift}", "i32.shl", f"local.set {stride}")
        fast.bases[plan.key] = base, stride
    plan.base, plan.stride = fast.bases[plan.key]
