"""Loops over elements that follow one another, a vector at a time (v128), with the results of one at a time.

Which loops those are is decided in `shapes`. Whether an array that is stored into is also part of another one is asked
when the loop begins. A division by zero, or what else may fail, is looked for before anything is stored; if there is
one, the loop goes on one by one, and fails at the right element.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hybrid_compute.kernels.addresses import Fast
from hybrid_compute.kernels.lanes import Lanes
from hybrid_compute.kernels.shapes import NotVectors, Shape
from hybrid_compute.kernels.tree import (
    Assign,
    Binary,
    Expr,
    For,
    Load,
    Local,
    Store,
    walk,
)
from hybrid_compute.kernels.types import Scalar
from hybrid_compute.kernels.wat import Writer, length, local

SHAPES = {Scalar.FLOAT: ("f64x2", 2), Scalar.F32: ("f32x4", 4), Scalar.INT: ("i64x2", 2), Scalar.I32: ("i32x4", 4)}
SMALL = 14
"""Of a body with no more nodes, four vectors go side by side, else two."""


def write(writer: Writer, loop: For, fast: Fast, counter: str, stop: str) -> None:
    """The part of the loop that is done in vectors, if any is; at least one turn is left for after it."""
    try:
        shape = Shape(writer, loop, fast)
    except NotVectors:
        return
    _Vectors(writer, loop, fast, shape, counter).write(stop)


@dataclass(slots=True)
class _Vectors(Lanes):
    """Writes the loop."""

    later: list[list[str]] = field(default_factory=list)
    """What is done when nothing can fail any more."""

    def write(self, stop: str) -> None:
        writer, shape = self.writer, self.shape
        self.kind, self.lanes = SHAPES[shape.type]
        self.out = writer.label("vectors")
        count = 4 if len(list(walk(self.loop.body))) <= SMALL else 2
        turns = count * self.lanes
        writer.say(f"block {self.out}")
        self._insist_on_distance()
        self._constants()
        sums = {name: [writer.new("v128") for _ in range(count)] for name in shape.sums}
        for each in [each for group in sums.values() for each in group]:
            writer.say("v128.const i64x2 0 0", f"local.set {each}")
        again, ready = writer.label("for"), writer.label("ready")
        writer.say(f"block {ready}", f"loop {again}")
        writer.say(
            f"local.get {stop}",
            f"local.get {self.counter}",
            "i64.sub",
            f"i64.const {turns}",
            "i64.le_u",
            f"br_if {ready}",
        )
        writer.say(f"local.get {self.counter}", "i32.wrap_i64", f"local.set {self.fast.turn}")
        self.out = ready
        self.later = []
        for number in range(count):
            self.fast.ahead = number * self.lanes
            self._turns({name: group[number] for name, group in sums.items()})
        self.fast.ahead = 0
        for lines in self.later:
            writer.say(*lines)
        writer.say(
            f"local.get {self.counter}", f"i64.const {turns}", "i64.add", f"local.set {self.counter}", f"br {again}"
        )
        writer.say("end", "end")
        for name, group in sums.items():
            self._add_up(name, group)
        writer.say("end")

    def _insist_on_distance(self) -> None:
        """Leave, unless no array that is stored into shares memory with another one."""
        arrays = list(dict.fromkeys(each.array for each in self.shape.accesses))
        asked: set[frozenset[str]] = set()
        for mine in self.shape.stored:
            for other in arrays:
                if other != mine and frozenset((mine, other)) not in asked:
                    asked.add(frozenset((mine, other)))
                    for low, high in ((mine, other), (other, mine)):
                        self._end(low)
                        self.writer.say(f"local.get {local(high)}", "i64.extend_i32_u", "i64.gt_u")
                    self.writer.say("i32.and", f"br_if {self.out}")

    def _end(self, array: str) -> None:
        """Push where the array ends."""
        of = next(each.of for each in self.shape.accesses if each.array == array)
        self.writer.say(f"local.get {length(array, 0)}")
        if of.axes == 2:
            self.writer.say(f"local.get {length(array, 1)}", "i64.mul")
        self.writer.say(
            f"i64.const {of.element.shift}", "i64.shl", f"local.get {local(array)}", "i64.extend_i32_u", "i64.add"
        )

    def _constants(self) -> None:
        """Have a vector of each value that is the same in all turns."""
        for each in walk([statement.value for statement in self.loop.body if isinstance(statement, Assign | Store)]):
            if (isinstance(each, Load) and not self.fast.plans[id(each)].moves) or (
                each.type is self.shape.type and self.shape.is_constant(each)
            ):
                self._constant(each)

    def _constant(self, value: Expr) -> None:
        name = self.name(value)
        if name not in self.splats:
            if isinstance(value, Local) and value.name in self.shape.sums:
                return
            self.splats[name] = self.writer.new("v128")
            self.writer.expression(value)
            self.writer.say(f"{self.kind}.splat", f"local.set {self.splats[name]}")

    def _turns(self, sums: dict[str, str]) -> None:
        """One vector of turns."""
        self.names, self.stored = {}, {}
        for statement in self.loop.body:
            assert isinstance(statement, Assign | Store)
            if isinstance(statement, Assign) and statement.name in sums:
                assert isinstance(statement.value, Binary)
                total = sums[statement.name]
                self.writer.say(f"local.get {total}")
                self.vector(self.shape.term(statement.value, statement.name))
                self.writer.say(f"{self.kind}.add")
                self.later.append([f"local.get {self.kept()}", f"local.set {total}"])
                continue
            self.vector(statement.value)
            kept = self.kept()
            if isinstance(statement, Assign):
                self.names[statement.name] = kept
            else:
                self._store(statement, kept)

    def _store(self, statement: Store, value: str) -> None:
        plan = self.fast.plans[id(statement)]
        self.stored[plan.key] = value
        before, self.writer.out = self.writer.out, []
        offset = self.fast.push(self.writer, statement)
        self.writer.say(f"local.get {value}", f"v128.store{offset}")
        self.later.append(self.writer.out)
        self.writer.out = before

    def _add_up(self, name: str, group: list[str]) -> None:
        """Add the sums of all lanes to the total."""
        first, *others = group
        self.writer.say(f"local.get {first}")
        for other in others:
            self.writer.say(f"local.get {other}", f"{self.kind}.add")
        whole = self.kept()
        type = self.shape.type.wasm
        for lane in range(self.lanes):
            self.writer.say(f"local.get {local(name)}", f"local.get {whole}", f"{self.kind}.extract_lane {lane}")
            self.writer.say(f"{type}.add", f"local.set {local(name)}")
