"""Products of matrices in tiles: a workgroup has a tile of the result, and shares what it needs of both factors.

           ┌─ b ─┐         Both factors go through memory that the workgroup shares, `depth` rows or columns at a time,
           │     │         four numbers to a vector; each invocation keeps a block of the result in its registers.
    ┌ a ┐  ┌─────┐
    │   │  │  y  │         What `b` is, is open: a matrix, weights of a few bits, patches of an image.
    └───┘  └─────┘

Few tiles with many products each are cut along the products, and added up in a step of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_compute.gpu.ops.layout import Strides, collapsed, walk
from hybrid_compute.gpu.ops.plan import Plan, Slot
from hybrid_compute.gpu.ops.reducing import Span, reduce
from hybrid_compute.gpu.ops.shader import SCALARS, Shader, shader
from hybrid_compute.gpu.shapes import Shape, ceil_div

DEPTH = 16


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows and columns of a tile, and of what each invocation has of it."""

    size: int
    block: int

    @property
    def lanes(self) -> int:
        return (self.size // self.block) ** 2


_SMALL, _LARGE = Tile(32, 4), Tile(128, 8)
_ENOUGH = 256
"""So many workgroups keep a large device busy."""


@dataclass(frozen=True, slots=True)
class Source:
    """How the right factor is read. `lines` set b0, b1, ... to what is at rows k, k + 1, ..., columns n to n + 3.

    They are called with `factor`, the number of the matrix among several, and must give 0 beyond its ends.
    """

    name: str
    arrays: tuple[tuple[str, str], ...]
    lines: str
    rows: int = 1
    numbers: tuple[str, ...] = ()


def dense(dtype: str, fours: bool) -> Source:
    """An ordinary matrix, of which the number of columns is divisible by four or not."""
    at = "(factor * p.inner + k) * p.columns + n"
    if fours:
        kind = f"vec4<{SCALARS[dtype]}>"
        lines = f"if (k < p.inner && n < p.columns) {{ b0 = vec4f(b[({at}) / 4u]); }}"
    else:
        kind = SCALARS[dtype]
        reads = "\n".join(f"if (n + {c}u < p.columns) {{ b0[{c}] = f32(b[at_b + {c}u]); }}" for c in range(4))
        lines = f"if (k < p.inner) {{ let at_b = {at}; {reads} }}"
    return Source("dense", (("b", kind),), lines)


def multiply(
    plan: Plan,
    out: Slot,
    a: Slot,
    factors: Sequence[Slot],
    source: Source,
    shape: tuple[int, int, int],
    batch: tuple[Shape, Strides, Strides] = ((), (), ()),
    numbers: Sequence[int] = (),
) -> None:
    """Have `out` be a times b: shape is rows, inner and columns; batch is how many, and which of a and b for each."""
    rows, inner, columns = shape
    dims, (step_a, step_b) = collapsed(batch[0], batch[1:])
    many = 1
    for size in dims:
        many *= size
    if not rows * inner * columns * many:
        return
    tile, pieces, depth = _choose(many, rows, columns, inner)
    target = out if pieces == 1 else plan.scratch((pieces, many, rows, columns), "float32")
    made = _shader(a.dtype, target.dtype, source, tile, len(dims), columns % 4 == 0)
    across, down = ceil_div(columns, tile.size), ceil_div(rows, tile.size)
    sizes = [rows, inner, columns, across, down, pieces, depth, many]
    plan.step(
        made, [a, *factors, target], [*sizes, *dims[1:], *step_a, *step_b, *numbers], across * down * pieces * many
    )
    if pieces > 1:
        reduce(plan, target, out, "sum", Span(1, pieces, many * rows * columns))


def _choose(many: int, rows: int, columns: int, inner: int) -> tuple[Tile, int, int]:
    """The tile, and into how many pieces of which depth the products are cut."""
    large = many * ceil_div(rows, _LARGE.size) * ceil_div(columns, _LARGE.size)
    if large >= _ENOUGH // 2 and min(rows, columns) >= _LARGE.size:
        return _LARGE, 1, ceil_div(inner, DEPTH) * DEPTH
    tiles = many * ceil_div(rows, _SMALL.size) * ceil_div(columns, _SMALL.size)
    pieces = max(1, min(ceil_div(_ENOUGH, tiles), inner // 512))
    depth = ceil_div(ceil_div(inner, pieces), DEPTH) * DEPTH
    return _SMALL, ceil_div(inner, depth), depth


@functools.cache
def _shader(dtype: str, out: str, source: Source, tile: Tile, rank: int, fours: bool) -> Shader:
    quarter = tile.size // 4
    walks: dict[str, Sequence[str]] = {name: [f"p.{name}_{at}" for at in range(rank)] for name in ("left", "factor")}
    return shader(
        f"matmul-{source.name}",
        reads={"a": SCALARS[dtype], **dict(source.arrays)},
        writes={"y": f"vec4<{SCALARS[out]}>" if fours else SCALARS[out]},
        numbers=[
            *("rows", "inner", "columns", "across", "down", "pieces", "depth", "many"),
            *(f"d{at}" for at in range(1, rank)),
            *(step[2:] for steps in walks.values() for step in steps),
            *source.numbers,
        ],
        lanes=tile.lanes,
        declare=f"""
            var<workgroup> tile_a: array<vec4f, {DEPTH * quarter}>;
            var<workgroup> tile_b: array<vec4f, {DEPTH * quarter}>;
        """,
        body=f"""
            let piece = group / p.across / p.down % p.pieces;
            let batch = group / p.across / p.down / p.pieces;
            if (batch >= p.many) {{ return; }}
            {walk("batch", [f"p.d{at}" for at in range(1, rank)], walks)}
            let top = group / p.across % p.down * {tile.size}u;
            let begin = group % p.across * {tile.size}u;
            let mine_m = lane / {tile.size // tile.block}u;
            let mine_n = lane % {tile.size // tile.block}u;
            {_sums(tile)}
            let end = min((piece + 1u) * p.depth, p.inner);
            for (var first = piece * p.depth; first < end; first += {DEPTH}u) {{
                {_fill_a(tile)}
                {_fill_b(tile, source)}
                workgroupBarrier();
                {_products(tile)}
                workgroupBarrier();
            }}
            {_store(tile, out, fours)}
        """,
    )


def _each(tile: Tile, count: int, lines: str) -> str:
    """The lines for each `unit` of so many, shared out among the invocations."""
    pieces: list[str] = []
    for start in range(0, count, tile.lanes):
        inside = f"if (unit < {count}u)" if start + tile.lanes > count else ""
        pieces.append(f"{inside or ''} {{ {lines} }}".replace("unit", f"(lane + {start}u)"))
    return "\n".join(pieces)


def _fill_a(tile: Tile) -> str:
    """Four rows of one column of `a`, side by side: neighbours read neighbouring columns."""
    reads = "\n".join(
        f"if (m + {row}u < p.rows) {{ four[{row}] = f32(a[at_a + {row}u * p.inner]); }}" for row in range(4)
    )
    return _each(
        tile,
        DEPTH * tile.size // 4,
        f"""
            let k = first + unit % {DEPTH}u;
            let m = top + unit / {DEPTH}u * 4u;
            var four = vec4f();
            if (k < p.inner) {{ let at_a = (left * p.rows + m) * p.inner + k; {reads} }}
            tile_a[unit % {DEPTH}u * {tile.size // 4}u + unit / {DEPTH}u] = four;
        """,
    )


def _fill_b(tile: Tile, source: Source) -> str:
    quarter, rows = tile.size // 4, source.rows
    declared = " ".join(f"var b{row} = vec4f();" for row in range(rows))
    writes = " ".join(
        f"tile_b[(unit / {quarter}u * {rows}u + {row}u) * {quarter}u + unit % {quarter}u] = b{row};"
        for row in range(rows)
    )
    return _each(
        tile,
        DEPTH // rows * quarter,
        f"""
            let k = first + unit / {quarter}u * {rows}u;
            let n = begin + unit % {quarter}u * 4u;
            {declared}
            {source.lines}
            {writes}
        """,
    )


def _sums(tile: Tile) -> str:
    return " ".join(f"var s{i}_{j} = vec4f();" for i in range(tile.block) for j in range(tile.block // 4))


def _products(tile: Tile) -> str:
    """The products of `DEPTH` columns and rows are added up before their sum is added to the rest.

    One after the other, thousands lose precision. Four rows of a block at a time: a sum for each of its elements would
    take as many registers again.
    """
    vectors = range(tile.block // 4)
    lines: list[str] = []
    for v in vectors:
        parts = [(i, j) for i in range(4) for j in vectors]
        lines += ["{", *(f"var part{i}_{j} = vec4f();" for i, j in parts)]
        lines += [_multiplied(tile, k, v) for k in range(DEPTH)]
        lines += [*(f"s{4 * v + i}_{j} += part{i}_{j};" for i, j in parts), "}"]
    return "\n".join(lines)


def _multiplied(tile: Tile, k: int, v: int) -> str:
    # Written out: as a loop it would be one more thing to count for each product.
    quarter, half, vectors = tile.size // 4, tile.size // 8, range(tile.block // 4)
    lines = [f"let a = tile_a[{k * quarter + v * half}u + mine_m];"]
    lines += [f"let b{j} = tile_b[{k * quarter + j * half}u + mine_n];" for j in vectors]
    lines += [f"part{i}_{j} = fma(vec4f(a[{i}]), b{j}, part{i}_{j});" for i in range(4) for j in vectors]
    return f"{{ {' '.join(lines)} }}"


def _store(tile: Tile, out: str, fours: bool) -> str:
    kind, lines = SCALARS[out], list[str]()
    for i in range(tile.block):
        lines.append(f"{{ let m = top + {i // 4 * tile.size // 2 + i % 4}u + mine_m * 4u; if (m < p.rows) {{")
        lines.append("let at_y = ((piece * p.many + batch) * p.rows + m) * p.columns;")
        for j in range(tile.block // 4):
            lines.append(f"{{ let n = begin + {j * tile.size // 2}u + mine_n * 4u;")
            if fours:
                lines.append(f"if (n < p.columns) {{ y[(at_y + n) / 4u] = vec4<{kind}>(s{i}_{j}); }}")
            else:
                lines += [
                    f"if (n + {c}u < p.columns) {{ y[at_y + n + {c}u] = {kind}(s{i}_{j}[{c}]); }}" for c in range(4)
                ]
            lines.append("}")
        lines.append("}}")
    return "\n".join(lines)
