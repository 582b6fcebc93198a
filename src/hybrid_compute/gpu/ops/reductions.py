"""Sums, means, extremes and where they are: over one axis, or over everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.ops.elementwise import check_dtype
from hybrid_compute.gpu.ops.operation import Decorator, Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.reducing import How, Span, find, reduce
from hybrid_compute.gpu.ops.shader import FLOATS, SCALARS
from hybrid_compute.gpu.shapes import Shape


def reduced(name: str, x: Spec, axis: Any, keepdims: Any) -> Shape:
    """The shape without the axis. Raises `InvalidInput` if there is no such axis."""
    if axis is None:
        return (1,) * len(x.shape) if keepdims else ()
    if type(axis) is not int or not -len(x.shape) <= axis < len(x.shape):
        raise InvalidInput(f"{name}: {x} has no axis {axis!r}: it must be one of its {len(x.shape)}, or None for all")
    axis %= len(x.shape)
    return (*x.shape[:axis], *((1,) if keepdims else ()), *x.shape[axis + 1 :])


def _over(how: How, dtypes: Sequence[str] = tuple(SCALARS)) -> Decorator:
    def rules(x: Spec, axis: Any, keepdims: Any) -> Spec:
        check_dtype(how, x, dtypes)
        shape = reduced(how, x, axis, keepdims)
        if how != "sum" and Spec(shape, x.dtype).size and not Span.of(x.shape, axis).length:
            raise InvalidInput(f"{how}: {x} has nothing in it along axis {axis}, and nothing has no {how}")
        return Spec(shape, x.dtype)

    def planner(plan: Plan, out: Sequence[Slot], x: Slot, axis: int | None, keepdims: bool) -> None:
        reduce(plan, x, out[0], how, Span.of(x.shape, axis))

    return operation(rules, planner, half=True)


@_over("sum")
def sum(x: Operand, axis: int | None = None, keepdims: bool = False) -> Any:
    """The sum along an axis, or of everything, in the dtype of `x`.

    Right to 2e-6 of the sum of the magnitudes; halves are added as floats, and rounded at the end (to 1e-3 of the
    result). Whole numbers wrap around. The sum of nothing is 0.

        >>> sum(np.array([[1, 2], [3, 4]], "f4"), axis=0)
        array([4., 6.], dtype=float32)
    """
    return _np(np.sum, x, axis, keepdims)


@_over("mean", FLOATS)
def mean(x: Operand, axis: int | None = None, keepdims: bool = False) -> Any:
    """The mean along an axis, or of everything, of floats. Right as `sum` is; `InvalidInput` for the mean of nothing.

    >>> mean(np.array([[1, 2], [3, 4]], "f4"))
    array(2.5, dtype=float32)
    """
    return _np(np.mean, x, axis, keepdims)


@_over("max")
def max(x: Operand, axis: int | None = None, keepdims: bool = False) -> Any:
    """The largest along an axis, or of everything: exactly, and not-a-number where there is one among them.

    -0.0 counts as 0.0, and comes out as such. Raises `InvalidInput` where there is nothing.

        >>> max(np.array([[1, 2], [3, 4]], "f4"), axis=1)
        array([2., 4.], dtype=float32)
    """
    return _said(np.max, x, axis, keepdims)


@_over("min")
def min(x: Operand, axis: int | None = None, keepdims: bool = False) -> Any:
    """The smallest; otherwise as `max`.

    >>> min(np.array([[1, 2], [3, 4]], "i4"), axis=1)
    array([1, 3], dtype=int32)
    """
    return _said(np.min, x, axis, keepdims)


def _find_rules(x: Spec, axis: Any, keepdims: Any) -> Spec:
    shape = reduced("argmax", x, axis, keepdims)
    if Spec(shape, x.dtype).size and not Span.of(x.shape, axis).length:
        raise InvalidInput(f"argmax: {x} has nothing in it along axis {axis}")
    return Spec(shape, "int32")


def _find_planner(plan: Plan, out: Sequence[Slot], x: Slot, axis: int | None, keepdims: bool) -> None:
    find(plan, x, out[0], Span.of(x.shape, axis))


@operation(_find_rules, _find_planner, half=True)
def argmax(x: Operand, axis: int | None = None, keepdims: bool = False) -> Any:
    """Where the largest is along an axis, or in the array read row by row, as int32: exactly; the first of several.

    The first not-a-number, where there is one. Raises `InvalidInput` where there is nothing.

        >>> argmax(np.array([[1, 5, 5], [3, 4, 0]], "f4"), axis=1)
        array([1, 1], dtype=int32)
    """
    return _said(np.argmax, x, axis, keepdims).astype("int32")


def _said(function: Any, x: Any, axis: int | None, keepdims: bool) -> Any:
    """What a function of numpy says, whose types tell `keepdims=True` from `keepdims=False` and know no flag."""
    return function(x, axis, keepdims=keepdims)


def _np(function: Any, x: Any, axis: int | None, keepdims: bool) -> Any:
    """Halves are added as floats here too, and whole numbers stay of their size."""
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    with np.errstate(over="ignore"):
        return function(x, axis, dtype=wide, keepdims=keepdims).astype(x.dtype)
