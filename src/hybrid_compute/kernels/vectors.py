"""Loops over elements that follow one another, a vector at a time (v128), with the results of one at a time.

All values of such a loop have one type, and no turn uses what another one stored: so what is stored is no other part
of an array that is read, which is asked when the loop begins. A division by zero, or what else may fail, is looked for
before anything is stored; if there is one, the loop goes on one by one, and fails at the right element.

Sums of floats stay in order, and so are not made of vectors, unless the kernel says `fast=True`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hybrid_compute.kernels.addresses import Fast, key
from hybrid_compute.kernels.tree import (
    Assign,
    Binary,
    Choose,
    Compare,
    Const,
    Convert,
    Expr,
    For,
    Length,
    Load,
    Local,
    Store,
    Unary,
    assigned,
    walk,
)
from hybrid_compute.kernels.types import Scalar
from hybrid_compute.kernels.wat import Writer, length, local

SHAPES = {Scalar.FLOAT: ("f64x2", 2), Scalar.F32: ("f32x4", 4), Scalar.INT: ("i64x2", 2), Scalar.I32: ("i32x4", 4)}
FLOAT_OPS = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "min": "pmin", "max": "pmax"}
INTEGER_OPS = {"add", "sub", "mul", "and", "or", "xor"}
SMALL = 14
"""Of a body with no more nodes, four vectors go side by side, else two."""


class _Not(Exception):
    """This loop is none of vectors."""


def write(writer: Writer, loop: For, fast: Fast, counter: str, stop: str) -> None:
    """The part of the loop that is done in vectors, if any is; at least one turn is left for after it."""
    try:
        shape = _Shape(writer, loop, fast)
    except _Not:
        return
    _Vectors(writer, loop, fast, shape, counter).write(stop)


class _Shape:
    """What the loop has to be. Nothing is written before all of that is known."""

    def __init__(self, writer: Writer, loop: For, fast: Fast) -> None:
        self.fast = fast
        self.loop = loop
        self.may_regroup = writer.function.fast
        self.changed = assigned(loop.body) | {loop.name}
        self.accesses = [each for each in walk(loop.body) if isinstance(each, Load | Store)]
        self.type = self._type()
        self.stored = self._stored()
        self.sums: dict[str, Assign] = {}
        self._given: set[str] = set()
        for statement in loop.body:
            if isinstance(statement, Assign) and self._is_sum(statement):
                self.sums[statement.name] = statement
                assert isinstance(statement.value, Binary)
                self._check(self.term(statement.value, statement.name))
            else:
                self._check(statement.value if isinstance(statement, Assign | Store) else None)
                if isinstance(statement, Assign):
                    self._given.add(statement.name)
        if not self.stored and not self.sums:
            raise _Not

    def _type(self) -> Scalar:
        types = {each.of.element.scalar for each in self.accesses}
        plans = self.fast.plans
        if len(types) != 1 or any(each.of.element.name == "u8" or id(each) not in plans for each in self.accesses):
            raise _Not
        if any(plans[id(each)].moves and not plans[id(each)].consecutive for each in self.accesses):
            raise _Not
        return types.pop()

    def _stored(self) -> list[str]:
        """The arrays that are stored into: each at one element a turn, which is all that is read of it."""
        found: list[str] = []
        for each in self.accesses:
            if isinstance(each, Store):
                plan = self.fast.plans[id(each)]
                same = all(self.fast.plans[id(one)].key == plan.key for one in self.accesses if one.array == each.array)
                if not (plan.moves and same):
                    raise _Not
                if each.array not in found:
                    found.append(each.array)
        return found

    def _is_sum(self, statement: Assign) -> bool:
        """`total += ...`, where nothing else in the loop knows of the total."""
        value = statement.value
        if not (isinstance(value, Binary) and value.op == "add" and value.type is self.type):
            return False
        uses = [
            each for each in walk(self.loop.body) if isinstance(each, Local | Assign) and each.name == statement.name
        ]
        mine = [side for side in (value.left, value.right) if isinstance(side, Local) and side.name == statement.name]
        regroups = self.may_regroup or not self.type.is_float
        return regroups and len(mine) == 1 and len(uses) == 2

    def term(self, value: Binary, name: str) -> Expr:
        """What is added."""
        return value.right if isinstance(value.left, Local) and value.left.name == name else value.left

    def is_constant(self, value: Expr) -> bool:
        """Whether it is one value for all turns, which can be had before the first."""
        match value:
            case Const() | Length():
                return True
            case Local(name=name):
                return name not in self.changed
            case Convert(operand=operand, site=None):
                return self.is_constant(operand)
            case Unary(op="neg" | "abs", operand=operand):
                return self.is_constant(operand)
            case Binary(op="add" | "sub" | "mul", left=left, right=right):
                return self.is_constant(left) and self.is_constant(right)
            case _:
                return False

    def _check(self, value: Expr | None) -> None:
        """Raise `_Not` unless there is a vector for this."""
        if value is None or value.type is not self.type:
            raise _Not
        if self.is_constant(value):
            return
        match value:
            case Local(name=name):
                if name not in self._given and not (name == self.loop.name and self.type is Scalar.INT):
                    raise _Not
            case Load():
                pass
            case Convert(operand=Local(name=name)) if name == self.loop.name and self.type is Scalar.FLOAT:
                pass
            case Unary(op="neg" | "abs" | "sqrt", operand=operand):
                self._check(operand)
            case Unary(op="invert", operand=operand) if not self.type.is_float:
                self._check(operand)
            case Binary(op=op, left=left, right=right) if self._has(op, right):
                self._check(left)
                if op not in {"shl", "shr"}:
                    self._check(right)
            case Choose(test=test, yes=yes, no=no):
                self._test(test)
                self._check(yes)
                self._check(no)
            case _:
                raise _Not

    def _has(self, op: str, right: Expr) -> bool:
        if self.type.is_float:
            return op in FLOAT_OPS
        if op in {"shl", "shr"}:
            return isinstance(right, Const) and 0 <= right.value < self.type.bits
        return op in INTEGER_OPS or (op in {"min", "max"} and self.type is Scalar.I32)

    def _test(self, test: Expr) -> None:
        match test:
            case Compare(left=left, right=right):
                self._check(left)
                self._check(right)
            case Choose(test=first, yes=yes, no=no):
                self._test(first)
                self._test(yes)
                self._test(no)
            case Unary(op="not", operand=operand):
                self._test(operand)
            case Const():
                pass
            case _:
                raise _Not


@dataclass(slots=True)
class _Vectors:
    """Writes the loop."""

    writer: Writer
    loop: For
    fast: Fast
    shape: _Shape
    counter: str
    lanes: int = 0
    kind: str = ""
    out: str = ""
    splats: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """The vectors that locals of the kernel are, in the turns that are being written."""
    stored: dict[str, str] = field(default_factory=dict)
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
        name = self._name(value)
        if name not in self.splats:
            if isinstance(value, Local) and value.name in self.shape.sums:
                return
            self.splats[name] = self.writer.new("v128")
            self.writer.expression(value)
            self.writer.say(f"{self.kind}.splat", f"local.set {self.splats[name]}")

    def _name(self, value: Expr) -> str:
        return self.fast.plans[id(value)].key if isinstance(value, Load) else key(value)

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
                self.later.append([f"local.get {self._kept()}", f"local.set {total}"])
                continue
            self.vector(statement.value)
            kept = self._kept()
            if isinstance(statement, Assign):
                self.names[statement.name] = kept
            else:
                self._store(statement, kept)

    def _kept(self) -> str:
        name = self.writer.new("v128")
        self.writer.say(f"local.set {name}")
        return name

    def _store(self, statement: Store, value: str) -> None:
        plan = self.fast.plans[id(statement)]
        self.stored[plan.key] = value
        before, self.writer.out = self.writer.out, []
        offset = self.fast.push(self.writer, statement)
        self.writer.say(f"local.get {value}", f"v128.store{offset}")
        self.later.append(self.writer.out)
        self.writer.out = before

    def vector(self, node: Expr) -> None:
        """Push the values of this expression in the turns of one vector."""
        say, kind = self.writer.say, self.kind
        if self._name(node) in self.splats:
            say(f"local.get {self.splats[self._name(node)]}")
            return
        match node:
            case Local(name=name) if name == self.loop.name:
                self._numbers(["i64x2.splat"], "i64x2")
            case Local(name=name):
                say(f"local.get {self.names[name]}")
            case Load():
                plan = self.fast.plans[id(node)]
                if plan.key in self.stored:
                    say(f"local.get {self.stored[plan.key]}")
                else:
                    say(f"v128.load{self.fast.push(self.writer, node)}")
            case Convert():
                self._numbers(["f64.convert_i64_s", "f64x2.splat"], "f64x2")
            case Unary():
                self._unary(node)
            case Binary():
                self._binary(node)
            case Choose(test=test, yes=yes, no=no):
                self.vector(yes)
                self.vector(no)
                self._mask(test)
                say("v128.bitselect")
            case _:
                raise AssertionError(kind)

    def _numbers(self, splat: list[str], kind: str) -> None:
        """The numbers of these turns."""
        self.writer.say(f"local.get {self.counter}", f"i64.const {self.fast.ahead}", "i64.add", *splat)
        self.writer.say(f"v128.const {kind} 0 1", f"{kind}.add")

    def _unary(self, node: Unary) -> None:
        self.vector(node.operand)
        if node.op == "sqrt" and node.site is not None:
            value = self._kept()
            self.writer.say(f"local.get {value}", "v128.const i64x2 0 0", f"{self.kind}.lt")
            self.writer.say("v128.any_true", f"br_if {self.out}", f"local.get {value}")
        self.writer.say("v128.not" if node.op == "invert" else f"{self.kind}.{node.op}")

    def _binary(self, node: Binary) -> None:
        self.vector(node.left)
        if node.op in {"shl", "shr"}:
            assert isinstance(node.right, Const)
            self.writer.say(
                f"i32.const {int(node.right.value)}", f"{self.kind}.{'shl' if node.op == 'shl' else 'shr_s'}"
            )
            return
        self.vector(node.right)
        if node.op == "truediv" and node.site is not None:
            divisor = self._kept()
            self.writer.say(f"local.get {divisor}", "v128.const i64x2 0 0", f"{self.kind}.eq")
            self.writer.say("v128.any_true", f"br_if {self.out}", f"local.get {divisor}")
        if node.type.is_float:
            self.writer.say(f"{self.kind}.{FLOAT_OPS[node.op]}")
        elif node.op in {"and", "or", "xor"}:
            self.writer.say(f"v128.{node.op}")
        else:
            self.writer.say(f"{self.kind}.{node.op}{'_s' if node.op in {'min', 'max'} else ''}")

    def _mask(self, test: Expr) -> None:
        """Push a vector with all bits set where this holds."""
        say = self.writer.say
        match test:
            case Compare(op=op, left=left, right=right):
                self.vector(left)
                self.vector(right)
                say(f"{self.kind}.{op}{'' if self.shape.type.is_float or op in {'eq', 'ne'} else '_s'}")
            case Choose(test=first, yes=yes, no=no):
                self._mask(yes)
                self._mask(no)
                self._mask(first)
                say("v128.bitselect")
            case Unary(operand=operand):
                self._mask(operand)
                say("v128.not")
            case Const(value=value):
                say(f"v128.const i64x2 {-bool(value)} {-bool(value)}")
            case _:
                raise AssertionError(test)

    def _add_up(self, name: str, group: list[str]) -> None:
        """Add the sums of all lanes to the total."""
        first, *others = group
        self.writer.say(f"local.get {first}")
        for other in others:
            self.writer.say(f"local.get {other}", f"{self.kind}.add")
        whole = self._kept()
        type = self.shape.type.wasm
        for lane in range(self.lanes):
            self.writer.say(f"local.get {local(name)}", f"local.get {whole}", f"{self.kind}.extract_lane {lane}")
            self.writer.say(f"{type}.add", f"local.set {local(name)}")
