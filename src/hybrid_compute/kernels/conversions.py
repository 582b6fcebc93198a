"""Which type a value takes, and how one type becomes another.

A literal takes the type of what it meets, as in numpy: `x[i] * 2.0` is an f32 where `x` is an array of them. Otherwise
the wider type wins: bool < i32 < int < f32 < float.
"""

from __future__ import annotations

from hybrid_compute.kernels.tree import Compare, Const, Convert, Expr
from hybrid_compute.kernels.types import Scalar

ORDER = [Scalar.BOOL, Scalar.I32, Scalar.INT, Scalar.F32, Scalar.FLOAT]


def fits(value: float, type: Scalar) -> bool:
    """Whether a constant can be of this type without losing what it is."""
    if type.is_float:
        return True
    return isinstance(value, int) and -(1 << (type.bits - 1)) <= value < 1 << (type.bits - 1)


def common(left: Expr, right: Expr) -> Scalar:
    """The type in which these two meet."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Const) and one.weak and not (isinstance(other, Const) and other.weak):
            assert other.type is not None
            kept = other.type if other.type.is_float or not one.type.is_float else Scalar.FLOAT
            if kept is not Scalar.BOOL and fits(one.value, kept):
                return kept
    assert left.type is not None
    assert right.type is not None
    return max(left.type, right.type, key=ORDER.index)


def arithmetic(type: Scalar) -> Scalar:
    """What a bool counts as."""
    return Scalar.INT if type is Scalar.BOOL else type


def convert(value: Expr, type: Scalar) -> Expr:
    """The value in another type. It is not asked here whether that may be done silently."""
    if value.type is type:
        return value
    if isinstance(value, Const):
        if type.is_float:
            return Const(type, float(value.value), weak=False)
        if fits(value.value, type) and not value.type.is_float:
            return Const(type, int(value.value), weak=False)
    return Convert(type, value)


def may_become(value: Expr, type: Scalar) -> bool:
    """Whether an assignment converts: never a float to an integer, or a number to a bool."""
    given = value.type
    assert given is not None
    if given is type or type.is_float:
        return True
    return type.is_integer and not given.is_float


def truth(value: Expr) -> Expr:
    """What `if` asks."""
    if value.type is Scalar.BOOL:
        return value
    assert value.type is not None
    return Compare("ne", value, Const(value.type, 0.0 if value.type.is_float else 0))
