"""Which values are never below zero, so that an index need not be asked whether it counts from the end.

It is assumed of every local and then disproved, until nothing more can be. Numbers that wrap around may be below zero
all the same: then the index is far out of range, as it is in Python, where numbers do not wrap around.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from hybrid_compute.kernels.tree import (
    Assign,
    Binary,
    Choose,
    Const,
    Convert,
    Expr,
    For,
    Function,
    Keep,
    Length,
    Load,
    Local,
    walk,
)
from hybrid_compute.kernels.types import Scalar


def nonnegative(function: Function) -> frozenset[str]:
    """The integer locals of which that is sure."""
    sure = {
        name
        for name, type in function.locals.items()
        if type in (Scalar.INT, Scalar.I32) and name not in function.parameters
    }
    nodes = list(walk(function.body))
    while True:
        wrong = {
            each.name
            for each in nodes
            if isinstance(each, Assign | Keep | For) and each.name in sure and not _is_sure(each, sure)
        }
        if not wrong:
            return frozenset(sure)
        sure -= wrong


def _is_sure(node: Assign | Keep | For, sure: AbstractSet[str]) -> bool:
    if not isinstance(node, For):
        return never_negative(node.value, sure)
    if not isinstance(node.step, Const):
        return False
    if node.step.value > 0:
        return never_negative(node.start, sure)
    return isinstance(node.stop, Const) and node.stop.value >= -1  # what is above it counts


def never_negative(value: Expr, sure: AbstractSet[str]) -> bool:
    """Whether this is never below zero, if these names are not."""

    def holds(value: Expr) -> bool:
        return never_negative(value, sure)

    match value:
        case Const(value=number):
            return number >= 0
        case Local(name=name):
            return name in sure
        case Length():
            return True
        case Load(of=of):
            return of.element.name == "u8"
        case Convert(operand=operand) if operand.type is Scalar.BOOL or operand.type is Scalar.I32:
            return operand.type is Scalar.BOOL or holds(operand)
        case Keep(value=kept):
            return holds(kept)
        case Choose(yes=yes, no=no):
            return holds(yes) and holds(no)
        case Binary(op="add" | "mul" | "or" | "xor" | "min", left=left, right=right):
            return holds(left) and holds(right)
        case Binary(op="floordiv", left=left, right=right):
            return holds(left) and holds(right)
        case Binary(op="mod", right=right):
            return holds(right)  # the result has the sign of the divisor
        case Binary(op="and" | "max", left=left, right=right):
            return holds(left) or holds(right)
        case Binary(op="shr" | "shl", left=left):
            return holds(left)
        case _:
            return False
