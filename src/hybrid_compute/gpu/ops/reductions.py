"""Sums, means, extremes and where they are: over one axis, or over everything.

An axis that is long is cut into pieces, each for one workgroup, and what came of the pieces is reduced again. Where the
axis is the innermost a workgroup goes along it together; else each invocation has a column of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from builtins import max as larger
from builtins import min as smaller
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.ops.elementwise import FLOATS, check_dtype
from hybrid_compute.gpu.ops.operation import Decorator, Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.shader import KEYS, LANES, SCALARS, WIDE, Shader, key_of, of_key, shader, together
from hybrid_compute.gpu.shapes import Shape, ceil_div

How = Literal["sum", "mean", "max", "min"]
_SHORT = 32
"""An axis of so many elements is better gone along by a single invocation."""
_DTYPES = {"f32": "float32", "i32": "int32", "u32": "uint32"}


@dataclass(frozen=True, slots=True)
class Span:
    """An axis of `length` elements, with so many rows before it and so many elements side by side within."""

    outer: int
    length: int
    inner: int

    @classmethod
    def of(cls, shape: Shape, axis: int | None) -> Span:
        if axis is None:
            return cls(1, math.prod(shape), 1)
        axis %= len(shape)
        return cls(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))

    @property
    def along(self) -> bool:
        """Whether a workgroup goes along it together."""
        return self.inner == 1 and self.length > _SHORT

    def pieces(self) -> tuple[int, int]:
        """How many pieces it is cut into, and how long each is: enough to have the whole device at work."""
        if self.along:
            wanted = smaller(ceil_div(self.length, 4096), ceil_div(1024, larger(self.outer, 1)))
            count = larger(wanted, ceil_div(self.length, 1 << 16))
        else:
            wanted = smaller(ceil_div(self.length, 64), ceil_div(1 << 16, larger(self.outer * self.inner, 1)))
            count = larger(wanted, ceil_div(self.length, 1 << 13))
        size = ceil_div(self.length, larger(count, 1))
        return ceil_div(self.length, larger(size, 1)), size


def reduce(plan: Plan, x: Slot, out: Slot, how: How, span: Span) -> None:
    """Have `out` be the sum, mean, maximum or minimum of `x` along the axis."""
    kind = WIDE[x.dtype] if how in ("sum", "mean") else "u32"
    source, raw, length = x, x.dtype, span.length
    while span.outer * span.inner and span.length:
        count, size = span.pieces()
        final = count == 1
        target = out if final else plan.scratch((span.outer, count, span.inner), _DTYPES[kind])
        made = _reduction(how, kind, raw, out.dtype if final else "", span.along, plan.subgroups)
        numbers = [span.outer * span.inner, span.length, span.inner, count, size]
        plan.step(made, [source, target], [*numbers, float(length)], _groups(span, count))
        if final:
            return
        source, raw, span = target, "", Span(span.outer, count, span.inner)


def find(plan: Plan, x: Slot, out: Slot, span: Span) -> None:
    """Have `out` be the place of the first maximum along the axis."""
    source, found, raw = x, x, x.dtype
    while span.outer * span.inner and span.length:
        count, size = span.pieces()
        final = count == 1
        shape = (span.outer, count, span.inner)
        keys, places = plan.scratch(shape, "uint32"), out if final else plan.scratch(shape, "uint32")
        made = _search(raw, span.along, plan.subgroups)
        slots = [source, keys, places] if raw else [source, found, keys, places]
        plan.step(made, slots, [span.outer * span.inner, span.length, span.inner, count, size], _groups(span, count))
        if final:
            return
        source, found, raw, span = keys, places, "", Span(span.outer, count, span.inner)


def _groups(span: Span, count: int) -> int:
    rows = span.outer * span.inner * count
    return rows if span.along else ceil_div(rows, LANES)


def _reduction(how: How, kind: str, raw: str, final: str, along: bool, subgroups: bool) -> Shader:
    """One pass: from what is given (`raw` is its dtype) or from earlier results, to results or to the end (`final`)."""
    # What does not matter to a shader must not tell two apart.
    return _made(how if raw or final else "sum" if how in ("sum", "mean") else "max", kind, raw, final, along, subgroups)


@functools.cache
def _made(how: How, kind: str, raw: str, final: str, along: bool, subgroups: bool) -> Shader:
    adds = how in ("sum", "mean")
    value = "x[at_x]"
    if raw:
        value = f"{kind}({value})" if adds else _extreme_key(how, raw, value)
    best = "best"
    if final:
        best = f"{SCALARS[final]}(best)" if adds else _of_extreme_key(how, final, "best")
        best = f"{SCALARS[final]}(best / p.length)" if how == "mean" else best
    subgroups = subgroups and along
    return shader(
        f"reduce-{how}",
        reads={"x": SCALARS[raw] if raw else kind},
        writes={"y": SCALARS[final] if final else kind},
        numbers=["rows", "all", "inner", "pieces", "size"],
        floats=["length"],
        declare=KEYS + f"var<workgroup> heap: array<{kind}, {LANES}>;",
        subgroups=subgroups,
        body=_walk(along, f"var best = {kind}();", f"best = {'best + ' + value if adds else f'max(best, {value})'};")
        + (together("best", "sum" if adds else "max", shared="heap", subgroups=subgroups) if along else "")
        + f"{'if (lane == 0u)' if along else ''} {{ y[number] = {best}; }}",
    )


@functools.cache
def _search(raw: str, along: bool, subgroups: bool) -> Shader:
    subgroups = subgroups and along
    better = f"""
        let key = {key_of(raw, "x[at_x]") if raw else "x[at_x]"};
        if (key > best || found == 0xffffffffu) {{ best = key; found = {"i" if raw else "places[at_x]"}; }}
    """
    first = f"""
        let mine = best;
        {together("best", "max", shared="heap", subgroups=subgroups)}
        found = select(0xffffffffu, found, mine == best);
        {together("found", "min", shared="heap", subgroups=subgroups)}
    """
    return shader(
        "argmax",
        reads={"x": SCALARS[raw]} if raw else {"x": "u32", "places": "u32"},
        writes={"keys": "u32", "y": "u32"},
        numbers=["rows", "all", "inner", "pieces", "size"],
        declare=KEYS + f"var<workgroup> heap: array<u32, {LANES}>;",
        subgroups=subgroups,
        body=_walk(along, "var best = 0u; var found = 0xffffffffu;", better)
        + (first if along else "")
        + f"{'if (lane == 0u)' if along else ''} {{ keys[number] = best; y[number] = found; }}",
    )


def _walk(along: bool, begin: str, each: str) -> str:
    """Lines that do `each` for all elements of a piece, with the number of the piece in `number`."""
    number, start, by = ("group", "lane", LANES) if along else (f"group * {LANES}u + lane", "0u", 1)
    return f"""
        let number = {number};
        if (number >= p.rows * p.pieces) {{ return; }}
        let column = number % p.inner;
        let piece = number / p.inner % p.pieces;
        let row = number / p.inner / p.pieces;
        let end = min((piece + 1u) * p.size, p.all);
        {begin}
        for (var i = piece * p.size + {start}; i < end; i += {by}u) {{
            let at_x = (row * p.all + i) * p.inner + column;
            {each}
        }}
    """


def _extreme_key(how: How, dtype: str, value: str) -> str:
    """The key of a value, of which the largest is wanted. Not-a-number stays above all where order is turned around."""
    key = key_of(dtype, value)
    if how == "max":
        return key
    return f"turned({key})" if dtype in FLOATS else f"~({key})"


def _of_extreme_key(how: How, dtype: str, key: str) -> str:
    if how == "max":
        return of_key(dtype, key)
    return of_key(dtype, f"turned({key})" if dtype in FLOATS else f"(~{key})")


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
        if how != "sum" and math.prod(shape) and not Span.of(x.shape, axis).length:
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
    return np.max(x, axis, keepdims=keepdims)


@_over("min")
def min(x: Operand, axis: int | None = None, keepdims: bool = False) -> Any:
    """The smallest; otherwise as `max`.

    >>> min(np.array([[1, 2], [3, 4]], "i4"), axis=1)
    array([1, 3], dtype=int32)
    """
    return np.min(x, axis, keepdims=keepdims)


def _find_rules(x: Spec, axis: Any, keepdims: Any) -> Spec:
    shape = reduced("argmax", x, axis, keepdims)
    if math.prod(shape) and not Span.of(x.shape, axis).length:
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
    return np.argmax(x, axis, keepdims=keepdims).astype("int32")


def _np(function: Any, x: Any, axis: int | None, keepdims: bool) -> Any:
    """Halves are added as floats here too, and whole numbers stay of their size."""
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    with np.errstate(over="ignore"):
        return function(x, axis, dtype=wide, keepdims=keepdims).astype(x.dtype)
