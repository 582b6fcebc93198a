"""Which elements a loop comes to, as far as that is known before its first turn, and whether they are all there."""

from __future__ import annotations

from hybrid_compute.kernels.addresses import Axis, Fast, Plan, key
from hybrid_compute.kernels.tree import Binary, Const, Expr, For, Length, Load, Local, Store, assigned, walk
from hybrid_compute.kernels.types import Scalar
from hybrid_compute.kernels.wat import Writer, length, local

FAR = 1 << 40
"""No array is that long, and sums of two such numbers do not wrap around."""


def planned(loop: For) -> dict[int, Plan]:
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


def ask(writer: Writer, plans: dict[int, Plan], counter: str, stop: str) -> None:
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


def set_base(writer: Writer, fast: Fast, plan: Plan) -> None:
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
