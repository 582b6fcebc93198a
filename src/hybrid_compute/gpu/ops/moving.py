"""Operations that move numbers and change none: transposing, and gathering rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.ops.elementwise import check_dtype, map_each
from hybrid_compute.gpu.ops.layout import collapsed, strides
from hybrid_compute.gpu.ops.operation import Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.shader import LANES, SCALARS, Shader, shader
from hybrid_compute.gpu.shapes import ceil_div

_TILE = 32
_LINES = 8


def _axes(x: Spec, axes: Any) -> tuple[int, ...]:
    rank = len(x.shape)
    if axes is None:
        return tuple(reversed(range(rank)))
    try:
        found = tuple(axis % rank if type(axis) is int and -rank <= axis < rank else rank for axis in axes)
    except TypeError:
        found = ()
    if sorted(found) != list(range(rank)):
        raise InvalidInput(f"transpose: axes must name each of the {rank} axes of {x} once, not be {axes!r}")
    return found


def _transpose_rules(x: Spec, axes: Any) -> Spec:
    return Spec(tuple(x.shape[axis] for axis in _axes(x, axes)), x.dtype)


def _transpose_planner(plan: Plan, out: Sequence[Slot], x: Slot, axes: Any) -> None:
    order, steps = _axes(x.spec, axes), strides(x.shape)
    walk = tuple(steps[axis] for axis in order)
    dims, [collapsed_walk] = collapsed(out[0].shape, [walk])
    many, rows, columns = (1,) * (3 - len(dims)) + dims[-3:]
    if len(dims) > 3 or collapsed_walk[-2:] != (1, rows) or not out[0].size:
        map_each(plan, out[0], [x], [walk], "x0")
        return
    # Read along the rows, written along the columns, through memory that the workgroup shares.
    across, down = ceil_div(columns, _TILE), ceil_div(rows, _TILE)
    step = collapsed_walk[0] if len(dims) == 3 else 0
    made = _transpose(x.dtype)
    plan.step(made, [x, out[0]], [many, rows, columns, across, down, step], many * across * down)


@functools.cache
def _transpose(dtype: str) -> Shader:
    kind = SCALARS[dtype]
    return shader(
        "transpose",
        reads={"x": kind},
        writes={"y": kind},
        numbers=["many", "rows", "columns", "across", "down", "step"],
        declare=f"var<workgroup> tile: array<{kind}, {_TILE * (_TILE + 1)}>;",  # one more, so that no bank is hit twice
        body=f"""
            let matrix = group / p.across / p.down;
            if (matrix >= p.many) {{ return; }}
            let row = group / p.across % p.down * {_TILE}u;
            let column = group % p.across * {_TILE}u;
            for (var line = lane / {_TILE}u; line < {_TILE}u; line += {_LINES}u) {{
                let from_row = column + line;
                let from_column = row + lane % {_TILE}u;
                if (from_row < p.columns && from_column < p.rows) {{
                    tile[line * {_TILE + 1}u + lane % {_TILE}u] = x[matrix * p.step + from_row * p.rows + from_column];
                }}
            }}
            workgroupBarrier();
            for (var line = lane / {_TILE}u; line < {_TILE}u; line += {_LINES}u) {{
                let to_row = row + line;
                let to_column = column + lane % {_TILE}u;
                if (to_row < p.rows && to_column < p.columns) {{
                    y[(matrix * p.rows + to_row) * p.columns + to_column] = tile[lane % {_TILE}u * {_TILE + 1}u + line];
                }}
            }}
        """,
    )


@operation(_transpose_rules, _transpose_planner, half=True)
def transpose(x: Operand, axes: Sequence[int] | None = None) -> Any:
    """The array with its axes in another order; reversed, if none is given. Exact, for every dtype.

    >>> transpose(np.array([[1, 2], [3, 4]], "f4"))
    array([[1., 3.],
           [2., 4.]], dtype=float32)
    """
    return np.array(np.transpose(x, axes), order="C")


def _gather_rules(x: Spec, indices: Spec) -> Spec:
    check_dtype("gather: indices", indices, ("int32", "uint32"))
    if not x.shape:
        raise InvalidInput(f"gather: there are no rows in {x}")
    return Spec((*indices.shape, *x.shape[1:]), x.dtype)


def _gather_planner(plan: Plan, out: Sequence[Slot], x: Slot, indices: Slot) -> None:
    width = math.prod(x.shape[1:])
    if not x.size:
        return
    fours = width % 4 == 0
    size, width = (out[0].size // 4, width // 4) if fours else (out[0].size, width)
    made = _gather(x.dtype, indices.dtype, fours)
    plan.step(made, [x, indices, out[0]], [size, width, x.shape[0]], ceil_div(size, LANES))


@functools.cache
def _gather(dtype: str, indices: str, fours: bool) -> Shader:
    kind = f"vec4<{SCALARS[dtype]}>" if fours else SCALARS[dtype]
    row = "select(u32(index), u32(index + i32(p.rows)), index < 0)" if indices == "int32" else "index"
    return shader(
        "gather",
        reads={"x": kind, "indices": SCALARS[indices]},
        writes={"y": kind},
        numbers=["size", "width", "rows"],
        body=f"""
            let number = group * {LANES}u + lane;
            if (number >= p.size) {{ return; }}
            let index = indices[number / p.width];
            let row = {row};
            if (row < p.rows) {{ y[number] = x[row * p.width + number % p.width]; }} else {{ y[number] = {kind}(); }}
        """,
    )


@operation(_gather_rules, _gather_planner, arrays=2, half=True)
def gather(x: Operand, indices: Operand) -> Any:
    """The rows of `x` that are named by `indices`, of int32 or uint32: `x[indices]`. Exact, for every dtype.

    A negative index counts from the end. One outside gives zeros, here as there: a device cannot raise.

        >>> gather(np.array([[1, 2], [3, 4]], "f4"), np.array([1, -1, 0, 2], "i4"))
        array([[3., 4.],
               [3., 4.],
               [1., 2.],
               [0., 0.]], dtype=float32)
    """
    found, rows = np.asarray(indices, "int64"), len(x)
    found = np.where(found < 0, found + rows, found)
    inside = (found >= 0) & (found < rows)
    if not rows:
        return np.zeros((*found.shape, *x.shape[1:]), x.dtype)
    taken = np.array(np.asarray(x)[np.where(inside, found, 0)])
    taken[~inside] = 0
    return taken
