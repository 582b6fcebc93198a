"""How an axis is reduced to a number: in pieces, by workgroups.

An axis that is long is cut into pieces, each for one workgroup, and what came of the pieces is reduced again. Where the
axis is the innermost a workgroup goes along it together; else each invocation has a column of its own.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

from hybrid_compute.gpu.ops.plan import Plan, Slot
from hybrid_compute.gpu.ops.shader import FLOATS, KEYS, LANES, SCALARS, WIDE, Shader, key_of, of_key, shader, together
from hybrid_compute.gpu.shapes import Shape, ceil_div

How = Literal["sum", "mean", "max", "min"]
_SHORT = 32
"""An axis of so many elements is better gone along by a single invocation."""
_BLOCK = 64
"""So many numbers are added up before their sum is added to the rest: one after the other, thousands lose precision."""
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
            wanted = min(ceil_div(self.length, 4096), ceil_div(1024, max(self.outer, 1)))
            count = max(wanted, ceil_div(self.length, 1 << 16))
        else:
            wanted = min(ceil_div(self.length, 64), ceil_div(1 << 16, max(self.outer * self.inner, 1)))
            count = max(wanted, ceil_div(self.length, 1 << 13))
        size = ceil_div(self.length, max(count, 1))
        return ceil_div(self.length, max(size, 1)), size


def reduce(plan: Plan, x: Slot, out: Slot, how: How, span: Span) -> None:
    """Have `out` be the sum, mean, maximum or minimum of `x` along the axis."""
    kind = WIDE[x.dtype] if how in ("sum", "mean") else "u32"
    source, raw, length = x, x.dtype, span.length
    while span.outer * span.inner and span.length:
        count, size = span.pieces()
        final = count == 1
        target = out if final else plan.scratch((span.outer, count, span.inner), _DTYPES[kind])
        lanes = plan.lanes(size) if span.along else 1
        made = _reduction(how, kind, raw, out.dtype if final else "", lanes, plan.subgroups)
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
        made = _search(raw, plan.lanes(size) if span.along else 1, plan.subgroups)
        slots = [source, keys, places] if raw else [source, found, keys, places]
        plan.step(made, slots, [span.outer * span.inner, span.length, span.inner, count, size], _groups(span, count))
        if final:
            return
        source, found, raw, span = keys, places, "", Span(span.outer, count, span.inner)


def _groups(span: Span, count: int) -> int:
    rows = span.outer * span.inner * count
    return rows if span.along else ceil_div(rows, LANES)


def _reduction(how: How, kind: str, raw: str, final: str, lanes: int, subgroups: bool) -> Shader:
    """One pass: from what is given (`raw` is its dtype) or from earlier results, to results or to the end (`final`).

    So many lanes go along a piece together; if it is one, each has a piece of its own.
    """
    # What does not matter to a shader must not tell two apart.
    return _made(
        how if raw or final else "sum" if how in ("sum", "mean") else "max", kind, raw, final, lanes, subgroups
    )


@functools.cache
def _made(how: How, kind: str, raw: str, final: str, lanes: int, subgroups: bool) -> Shader:
    along = lanes > 1
    adds = how in ("sum", "mean")
    value = "x[at_x]"
    if raw:
        value = f"{kind}({value})" if adds else _extreme_key(how, raw, value)
    begin, each, end = f"var best = {kind}();", f"best = max(best, {value});", ""
    if adds:
        begin, each, end = f"{begin} var part = {kind}();", _added(value, lanes), "best += part;"
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
        lanes=lanes if along else LANES,
        subgroups=subgroups,
        body=_walk(lanes, begin, each)
        + end
        + (together("best", "sum" if adds else "max", shared="heap", subgroups=subgroups, lanes=lanes) if along else "")
        + f"{'if (lane == 0u)' if along else ''} {{ y[number] = {best}; }}",
    )


def _added(value: str, lanes: int) -> str:
    """Lines that add a value to its block, and a block that is full to the rest."""
    return f"part += {value}; if (i / {lanes}u % {_BLOCK}u == {_BLOCK - 1}u) {{ best += part; part = 0; }}"


@functools.cache
def _search(raw: str, lanes: int, subgroups: bool) -> Shader:
    along = lanes > 1
    subgroups = subgroups and along
    better = f"""
        let key = {key_of(raw, "x[at_x]") if raw else "x[at_x]"};
        if (key > best || found == 0xffffffffu) {{ best = key; found = {"i" if raw else "places[at_x]"}; }}
    """
    first = f"""
        let mine = best;
        {together("best", "max", shared="heap", subgroups=subgroups, lanes=lanes)}
        found = select(0xffffffffu, found, mine == best);
        {together("found", "min", shared="heap", subgroups=subgroups, lanes=lanes)}
    """
    return shader(
        "argmax",
        reads={"x": SCALARS[raw]} if raw else {"x": "u32", "places": "u32"},
        writes={"keys": "u32", "y": "u32"},
        numbers=["rows", "all", "inner", "pieces", "size"],
        declare=KEYS + f"var<workgroup> heap: array<u32, {LANES}>;",
        lanes=lanes if along else LANES,
        subgroups=subgroups,
        body=_walk(lanes, "var best = 0u; var found = 0xffffffffu;", better)
        + (first if along else "")
        + f"{'if (lane == 0u)' if along else ''} {{ keys[number] = best; y[number] = found; }}",
    )


def _walk(lanes: int, begin: str, each: str) -> str:
    """Lines that do `each` for all elements of a piece, with the number of the piece in `number`."""
    number, start = ("group", "lane") if lanes > 1 else (f"group * {LANES}u + lane", "0u")
    return f"""
        let number = {number};
        if (number >= p.rows * p.pieces) {{ return; }}
        let column = number % p.inner;
        let piece = number / p.inner % p.pieces;
        let row = number / p.inner / p.pieces;
        let end = min((piece + 1u) * p.size, p.all);
        {begin}
        for (var i = piece * p.size + {start}; i < end; i += {lanes}u) {{
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
