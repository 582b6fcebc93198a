"""Which loops can be done in vectors: decided before anything of them is written.

All values of such a loop have one type, and no turn uses what another one stored. Sums of floats stay in order, and so
are not made of vectors, unless the kernel says `fast=True`.
"""

from __future__ import annotations

from hybrid_compute.kernels.addresses import Fast
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
from hybrid_compute.kernels.wat import Writer

FLOAT_OPS = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "min": "pmin", "max": "pmax"}
INTEGER_OPS = {"add", "sub", "mul", "and", "or", "xor"}


class NotVectors(Exception):
    """This loop is done one by one."""


class Shape:
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
            raise NotVectors

    def _type(self) -> Scalar:
        types = {each.of.element.scalar for each in self.accesses}
        plans = self.fast.plans
        if len(types) != 1 or any(each.of.element.name == "u8" or id(each) not in plans for each in self.accesses):
            raise NotVectors
        if any(plans[id(each)].moves and not plans[id(each)].consecutive for each in self.accesses):
            raise NotVectors
        return types.pop()

    def _stored(self) -> list[str]:
        """The arrays that are stored into: each at one element a turn, which is all that is read of it."""
        found: list[str] = []
        for each in self.accesses:
            if isinstance(each, Store):
                plan = self.fast.plans[id(each)]
                same = all(self.fast.plans[id(one)].key == plan.key for one in self.accesses if one.array == each.array)
                if not (plan.moves and same):
                    raise NotVectors
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
        """Raise `NotVectors` unless there is a vector for this."""
        if value is None or value.type is not self.type:
            raise NotVectors
        if self.is_constant(value):
            return
        match value:
            case Local(name=name):
                if name not in self._given and not (name == self.loop.name and self.type is Scalar.INT):
                    raise NotVectors
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
                raise NotVectors

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
                raise NotVectors
