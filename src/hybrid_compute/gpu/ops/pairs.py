"""How rows are sorted.

Elements are sorted as pairs of a key, a u32 in the order of the dtype, and the place that it came from. No two pairs
are alike, so equal elements stay in their order whatever the network of comparisons does. That is Batcher's bitonic
one, all in ascending order: https://en.wikipedia.org/wiki/Bitonic_sorter. Pieces that a workgroup can share are sorted
there, and longer rows by comparing across pieces in between.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

from hybrid_compute.gpu.ops.plan import Plan, Slot
from hybrid_compute.gpu.ops.shader import KEYS, LANES, SCALARS, Shader, key_of, of_key, shader
from hybrid_compute.gpu.shapes import ceil_div

_PIECE = 1024
_LEAST = 64
Pairs = tuple[Slot, Slot]
"""Keys, and places."""
What = Literal["key", "turned", "place", "other"]
"""What the keys were made of, in ascending or in descending order; the places; or what was at these places."""


def sorted_pairs(plan: Plan, x: Slot, rows: int, length: int, *, descending: bool = False) -> tuple[Pairs, int]:
    """The sorted pairs of all rows, and how long rows are among them: there may be more than was asked for."""
    piece = _piece(length)
    width = max(piece, 1 << (length - 1).bit_length())
    pairs = _sort_pieces(plan, x, None, rows, length, piece, piece, descending)
    size = 2 * piece
    while size <= width:
        _compare(plan, pairs, rows, width, size, mirrored=True)
        half = size // 4
        while half >= piece:
            _compare(plan, pairs, rows, width, 2 * half, mirrored=False)
            half //= 2
        plan.step(_merge(piece), [*pairs], [rows * (width // piece)], rows * (width // piece))
        size *= 2
    return pairs, width


def largest_pairs(plan: Plan, x: Slot, rows: int, length: int, count: int) -> tuple[Pairs, int]:
    """The pairs of the largest few of each row, the largest first: of each piece, and of what is left again."""
    if 2 * count > _PIECE:
        return sorted_pairs(plan, x, rows, length, descending=True)
    pairs: Pairs | None = None
    while True:
        piece = _piece(length)
        pairs = _sort_pieces(plan, x, pairs, rows, length, piece, count, descending=True)
        length = ceil_div(length, piece) * count
        if length == count:
            return pairs, count


def _piece(length: int) -> int:
    return min(_PIECE, max(_LEAST, 1 << (length - 1).bit_length()))


def _sort_pieces(
    plan: Plan, x: Slot, pairs: Pairs | None, rows: int, length: int, piece: int, keep: int, descending: bool
) -> Pairs:
    """Sort each piece by itself, and keep the first of it. Pieces of rows are padded with what sorts last."""
    width = max(piece, 1 << (length - 1).bit_length()) if keep == piece else ceil_div(length, piece) * piece
    count = width // piece
    made: Pairs = plan.scratch((rows, count, keep), "uint32"), plan.scratch((rows, count, keep), "uint32")
    sorting = _sort(x.dtype if pairs is None else "", piece, descending)
    source = [x] if pairs is None else [*pairs]
    plan.step(sorting, [*source, *made], [rows, length, count, keep], rows * count)
    return made


def _compare(plan: Plan, pairs: Pairs, rows: int, width: int, size: int, *, mirrored: bool) -> None:
    total = rows * width // 2
    plan.step(_across(mirrored), [*pairs], [total, size], ceil_div(total, LANES))


_SWAP = """
fn swap(i: u32, j: u32) {
    let a = keys[i]; let b = keys[j]; let c = places[i]; let d = places[j];
    if (a > b || (a == b && c > d)) { keys[i] = b; keys[j] = a; places[i] = d; places[j] = c; }
}
"""


def _shared(piece: int) -> str:
    return f"var<workgroup> keys: array<u32, {piece}>; var<workgroup> places: array<u32, {piece}>;" + _SWAP


def _lanes(piece: int) -> int:
    return min(LANES, piece // 2)


def _halves(piece: int, first: str) -> str:
    """Lines that compare elements `half` apart, then half of that, and so on."""
    return f"""
        for (var half = {first}; half > 0u; half /= 2u) {{
            for (var t = lane; t < {piece // 2}u; t += {_lanes(piece)}u) {{
                let i = t / half * half * 2u + t % half;
                swap(i, i + half);
            }}
            workgroupBarrier();
        }}
    """


@functools.cache
def _sort(dtype: str, piece: int, descending: bool) -> Shader:
    if dtype:
        key = key_of(dtype, "x[row * p.length + i]")
        load = f"key = {'~' if descending else ''}{key}; place = i;"
    else:
        load = "key = given_keys[row * p.length + i]; place = given_places[row * p.length + i];"
    lanes = _lanes(piece)
    return shader(
        "sort",
        reads={"x": SCALARS[dtype]} if dtype else {"given_keys": "u32", "given_places": "u32"},
        writes={"sorted_keys": "u32", "sorted_places": "u32"},
        numbers=["rows", "length", "pieces", "keep"],
        lanes=lanes,
        declare=KEYS + _shared(piece),
        body=f"""
            let row = group / p.pieces;
            if (row >= p.rows) {{ return; }}
            for (var e = lane; e < {piece}u; e += {lanes}u) {{
                let i = group % p.pieces * {piece}u + e;
                var key = 0xffffffffu; var place = 0xffffffffu;
                if (i < p.length) {{ {load} }}
                keys[e] = key; places[e] = place;
            }}
            workgroupBarrier();
            for (var size = 2u; size <= {piece}u; size *= 2u) {{
                for (var t = lane; t < {piece // 2}u; t += {lanes}u) {{
                    let begin = t / (size / 2u) * size;
                    let off = t % (size / 2u);
                    swap(begin + off, begin + size - 1u - off);
                }}
                workgroupBarrier();
                {_halves(piece, "size / 4u")}
            }}
            for (var e = lane; e < p.keep; e += {lanes}u) {{
                sorted_keys[group * p.keep + e] = keys[e];
                sorted_places[group * p.keep + e] = places[e];
            }}
        """,
    )


@functools.cache
def _merge(piece: int) -> Shader:
    lanes = _lanes(piece)
    return shader(
        "sort-merge",
        writes={"all_keys": "u32", "all_places": "u32"},
        numbers=["pieces"],
        lanes=lanes,
        declare=_shared(piece),
        body=f"""
            if (group >= p.pieces) {{ return; }}
            for (var e = lane; e < {piece}u; e += {lanes}u) {{
                keys[e] = all_keys[group * {piece}u + e]; places[e] = all_places[group * {piece}u + e];
            }}
            workgroupBarrier();
            {_halves(piece, f"{piece // 2}u")}
            for (var e = lane; e < {piece}u; e += {lanes}u) {{
                all_keys[group * {piece}u + e] = keys[e]; all_places[group * {piece}u + e] = places[e];
            }}
        """,
    )


@functools.cache
def _across(mirrored: bool) -> Shader:
    return shader(
        "sort-across",
        writes={"keys": "u32", "places": "u32"},
        numbers=["total", "size"],
        declare=_SWAP,
        body=f"""
            let t = group * {LANES}u + lane;
            if (t >= p.total) {{ return; }}
            let begin = t / (p.size / 2u) * p.size;
            let off = t % (p.size / 2u);
            swap(begin + off, begin + {"p.size - 1u - off" if mirrored else "p.size / 2u + off"});
        """,
    )


@functools.cache
def _values(dtype: str, what: What) -> Shader:
    source, value = {
        "key": ("u32", of_key(dtype, "x[at]")),
        "turned": ("u32", of_key(dtype, "(~x[at])")),
        "place": ("u32", "i32(x[at])"),
        "other": (SCALARS[dtype], "x[row * p.length + places[at]]"),
    }[what]
    return shader(
        f"sort-{what}",
        reads={"x": source} | ({"places": "u32"} if what == "other" else {}),
        writes={"y": "i32" if what == "place" else SCALARS[dtype]},
        numbers=["rows", "length", "width"],
        declare=KEYS,
        body=f"""
            let number = group * {LANES}u + lane;
            if (number >= p.rows * p.length) {{ return; }}
            let row = number / p.length;
            let at = row * p.width + number % p.length;
            y[number] = {value};
        """,
    )


def unpack(plan: Plan, what: What, out: Slot, slots: Sequence[Slot], rows: int, width: int) -> None:
    """Have `out` be what is wanted of pairs in rows of this width: see `What`."""
    length = out.shape[-1]
    plan.step(_values(out.dtype, what), [*slots, out], [rows, length, width], ceil_div(rows * length, LANES))
