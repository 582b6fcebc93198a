"""The turns of a loop over any range, one after the other."""

from __future__ import annotations

from hybrid_compute.kernels.tree import For
from hybrid_compute.kernels.wat import Writer, local


def bounds(writer: Writer, loop: For) -> tuple[str, str]:
    """The counter, which has the first number, and the stop. It is not the loop's name: a body may change that."""
    counter, stop = writer.new("i64"), writer.new("i64")
    writer.expression(loop.start)
    writer.say(f"local.set {counter}")
    writer.expression(loop.stop)
    writer.say(f"local.set {stop}")
    return counter, stop


def all_turns(writer: Writer, loop: For, before: str, step: int) -> None:
    counter, stop = bounds(writer, loop)
    done = writer.label("done")
    writer.say(
        f"block {done}", f"local.get {counter}", f"local.get {stop}", f"i64.{before}", "i32.eqz", f"br_if {done}"
    )
    each_turn(writer, loop, counter, stop, done, before, step)
    writer.say("end")


def each_turn(
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


def counted(writer: Writer, loop: For) -> None:
    """Steps of any size: the turns are counted first, for the last step may lead beyond 64 bits."""
    counter, stop = bounds(writer, loop)
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
