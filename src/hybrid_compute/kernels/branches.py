"""Bodies with branches as bodies without: what is stored either way is a choice, and choices can be made in vectors.

    if x[i] > 1.0:          .if1 = 1.0 if x[i] > 1.0 else 0.0
        y[i] = x[i]   ──>   y[i] = x[i] if .if1 != 0.0 else y[i]

The values of both branches are computed in all turns. What could fail in them is what vectors look for anyway, and what
is stored where the branch is not taken is what was there.
"""

from __future__ import annotations

from hybrid_compute.kernels.addresses import Plan
from hybrid_compute.kernels.tree import Assign, Choose, Compare, Const, Expr, If, Load, Local, Statement, Store
from hybrid_compute.kernels.types import Scalar


class _Branched(Exception):
    """More than stores and locals depends on a branch."""


def straightened(body: list[Statement], plans: dict[int, Plan], type: Scalar) -> list[Statement] | None:
    """The body without branches, if that can be; the loads that are new get plans. All values are of this type."""
    try:
        return _Straight(plans, type).block(body, None)
    except _Branched:
        return None


class _Straight:
    def __init__(self, plans: dict[int, Plan], type: Scalar) -> None:
        self._plans = plans
        self._type = type
        self._count = 0

    def block(self, body: list[Statement], taken: Expr | None) -> list[Statement]:
        return [each for statement in body for each in self._statement(statement, taken)]

    def _statement(self, node: Statement, taken: Expr | None) -> list[Statement]:
        """The same, done only where `taken` holds."""
        match node:
            case If(test=test, yes=yes, no=no):
                mask, name = self._mask(test, taken)
                branches = self.block(yes, self._is(name, "ne"))
                if no:
                    other, name = self._mask(self._is(name, "eq"), taken)
                    branches += [other, *self.block(no, self._is(name, "ne"))]
                return [mask, *branches]
            case Assign() | Store() if taken is None:
                return [node]
            case Assign(name=name, value=value) if value.type is self._type:
                return [Assign(name, Choose(self._type, taken, value, Local(self._type, name)))]  # type: ignore[arg-type]
            case Store() if node.value.type is self._type and id(node) in self._plans:
                there = self._load(node)
                value = Choose(self._type, taken, node.value, there)  # type: ignore[arg-type]
                stored = Store(node.array, node.of, node.indexes, value, node.site)
                self._plans[id(stored)] = Plan(stored, self._plans[id(node)].axes)
                return [stored]
            case _:
                raise _Branched

    def _mask(self, test: Expr, taken: Expr | None) -> tuple[Statement, str]:
        """A local that is 1 where this branch is taken, and where what is around it is."""
        self._count += 1
        name = f".if{self._count}"
        value = Choose(self._type, test, self._number(1), self._number(0))
        if taken is not None:
            value = Choose(self._type, taken, value, self._number(0))
        return Assign(name, value), name

    def _is(self, name: str, op: str) -> Expr:
        return Compare(op, Local(self._type, name), self._number(0))

    def _number(self, value: int) -> Const:
        return Const(self._type, float(value) if self._type.is_float else value, weak=False)

    def _load(self, node: Store) -> Load:
        """What is in the place of a store."""
        load = Load(self._type, node.array, node.of, node.indexes, node.site)
        self._plans[id(load)] = Plan(load, self._plans[id(node)].axes)
        return load
