"""Convolution of images: the product of the filters with the patches that they meet, which are never written down."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.ops.elementwise import check_dtype, map_each
from hybrid_compute.gpu.ops.layout import spread
from hybrid_compute.gpu.ops.operation import Operand, operation
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec
from hybrid_compute.gpu.ops.shader import FLOATS, SCALARS
from hybrid_compute.gpu.ops.tiles import Source, multiply

Pair = int | tuple[int, int]


def _pair(name: str, value: Any, least: int) -> tuple[int, int]:
    found = (value, value) if isinstance(value, int) else value
    if (
        not isinstance(found, tuple)
        or len(found) != 2
        or not all(type(each) is int and each >= least for each in found)
    ):
        raise InvalidInput(f"conv2d: {name} must be a number from {least}, or two, for rows and columns, not {value!r}")
    return found


def _rules(x: Spec, filters: Spec, bias: Spec | None, stride: Any, padding: Any) -> Spec:
    check_dtype("conv2d", x, FLOATS)
    down, right = _pair("stride", stride, 1)
    above, beside = _pair("padding", padding, 0)
    if x.dtype != filters.dtype or len(x.shape) != 4 or len(filters.shape) != 4 or x.shape[1] != filters.shape[1]:
        raise InvalidInput(
            f"conv2d: {x} and filters {filters} do not fit: of one dtype, [images, channels, rows, columns] and "
            f"[out, channels, rows, columns] are asked for"
        )
    if bias is not None and bias != Spec(filters.shape[:1], x.dtype):
        raise InvalidInput(f"conv2d: bias of filters {filters} must be {Spec(filters.shape[:1], x.dtype)}, not {bias}")
    rows, columns = x.shape[2] + 2 * above - filters.shape[2], x.shape[3] + 2 * beside - filters.shape[3]
    if min(rows, columns) < 0 or 0 in filters.shape[2:]:
        raise InvalidInput(f"conv2d: filters {filters} find no place on {x} with padding {padding!r}")
    return Spec((x.shape[0], filters.shape[0], rows // down + 1, columns // right + 1), x.dtype)


def _planner(
    plan: Plan, out: Sequence[Slot], x: Slot, filters: Slot, bias: Slot | None, stride: Any, padding: Any
) -> None:
    images, count, rows, columns = out[0].shape
    channels, high, wide = filters.shape[1:]
    numbers = [high, wide, columns, *_pair("stride", stride, 1), *_pair("padding", padding, 0), *x.shape[2:], channels]
    target = out[0] if bias is None else plan.scratch(out[0].shape, "float32")
    shape = (count, channels * high * wide, rows * columns)
    if channels:
        multiply(plan, target, filters, [x], _patches(x.dtype), shape, ((images,), (0,), (1,)), numbers)
    if bias is not None:
        over = spread((*bias.shape, 1, 1), target.shape)
        if channels:
            map_each(plan, out[0], [target, bias], [spread(target.shape, target.shape), over], "x0 + x1")
        else:
            map_each(plan, out[0], [bias], [over], "x0")


@functools.cache
def _patches(dtype: str) -> Source:
    """A row for each number of a filter, and a column for each place where it is laid."""
    lines = "\n".join(
        f"""if (n + {column}u < p.columns) {{
            let row = (n + {column}u) / p.out_columns * p.stride_down + down;
            let column = (n + {column}u) % p.out_columns * p.stride_right + along;
            if (row >= p.above && row < p.above + p.image_rows
                && column >= p.beside && column < p.beside + p.image_columns) {{
                let at = ((factor * p.channels + channel) * p.image_rows + row - p.above) * p.image_columns;
                b0[{column}] = f32(image[at + column - p.beside]);
            }}
        }}"""
        for column in range(4)
    )
    return Source(
        "patches",
        (("image", SCALARS[dtype]),),
        f"""if (k < p.inner) {{
            let along = k % p.wide;
            let down = k / p.wide % p.high;
            let channel = k / p.wide / p.high;
            {lines}
        }}""",
        numbers=(
            *("high", "wide", "out_columns", "stride_down", "stride_right", "above", "beside"),
            *("image_rows", "image_columns", "channels"),
        ),
    )


@operation(_rules, _planner, arrays=3, half=True)
def conv2d(x: Operand, filters: Operand, bias: Operand | None = None, stride: Pair = 1, padding: Pair = 0) -> Any:
    """Images [images, channels, rows, columns] met by filters [out, channels, rows, columns], as networks do it.

    Filters are not turned around. Images are padded with zeros. `bias` has a number for each filter. Products are
    added as floats of 32 bits. Right to 6e-8 of the same with magnitudes for each number of a filter and the bias, as
    `matmul` is, and to 1e-3 of the result beside it for halves.

        >>> conv2d(np.ones((1, 1, 3, 3), "f4"), np.ones((1, 1, 2, 2), "f4"))[0, 0]
        array([[4., 4.],
               [4., 4.]], dtype=float32)
    """
    (down, right), (above, beside) = _pair("stride", stride, 1), _pair("padding", padding, 0)
    image = np.pad(np.asarray(x, "float32"), ((0, 0), (0, 0), (above, above), (beside, beside)))
    windows = np.lib.stride_tricks.sliding_window_view(image, np.shape(filters)[2:], axis=(2, 3))
    found = np.einsum(
        "ncyxhw,ochw->noyx", windows[:, :, ::down, ::right], np.asarray(filters, "float32"), optimize=True
    )
    if bias is not None:
        found = found + np.asarray(bias, "float32")[:, None, None]
    return found.astype(x.dtype)
