"""Filters laid over images."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from tests.gpu.ops.device import FEW, Computer, normal

SMALL = st.integers(1, 4)


def close(gpu: Computer, x: Any, filters: Any, bias: Any = None, **options: Any) -> None:
    """Within what the docstring promises."""
    found, wanted = gpu(ops.conv2d, x, filters, bias, **options), ops.conv2d(x, filters, bias, **options)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    magnitudes = [None if each is None else np.abs(each).astype("float32") for each in (x, filters, bias)]
    scale = ops.conv2d(*magnitudes, **options)
    rounding = 1e-3 if x.dtype == "float16" else 0.0
    assert np.all(np.abs(found.astype("float64") - wanted) <= 2e-6 * scale + 2 * rounding * np.abs(wanted))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@FEW
@given(
    images=st.integers(0, 3),
    channels=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    filters=st.tuples(SMALL, SMALL),
    stride=st.one_of(SMALL, st.tuples(SMALL, SMALL)),
    padding=st.one_of(st.integers(0, 3), st.tuples(st.integers(0, 3), st.integers(0, 3))),
    biased=st.booleans(),
)
def test_convolutions_are_numpys(
    gpu: Computer,
    dtype: str,
    images: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    filters: tuple[int, int],
    stride: Any,
    padding: Any,
    biased: bool,
) -> None:
    down, right = (padding, padding) if isinstance(padding, int) else padding
    assume(filters[0] <= size[0] + 2 * down and filters[1] <= size[1] + 2 * right)
    x, laid = (
        normal(1, images, channels[0], *size, dtype=dtype),
        normal(2, channels[1], channels[0], *filters, dtype=dtype),
    )
    bias = normal(3, channels[1], dtype=dtype) if biased else None
    close(gpu, x, laid, bias, stride=stride, padding=padding)


def test_many_channels_are_added_up_in_pieces(gpu: Computer) -> None:
    close(gpu, normal(1, 2, 300, 6, 6), normal(2, 5, 300, 3, 3), normal(3, 5), padding=1)


def test_more_than_65535_tiles(full_gpu: Computer) -> None:
    close(full_gpu, normal(1, 65_601, 1, 1, 2), normal(2, 1, 1, 1, 2))


@pytest.mark.parametrize(
    ("x", "filters", "options", "message"),
    [
        ((1, 3, 8, 8), (4, 2, 3, 3), {}, r"float32\[1, 3, 8, 8\] and filters float32\[4, 2, 3, 3\] do not fit"),
        ((3, 8, 8), (4, 3, 3, 3), {}, r"float32\[3, 8, 8\] and filters"),
        ((1, 1, 2, 8), (1, 1, 3, 3), {}, r"filters float32\[1, 1, 3, 3\] find no place on float32\[1, 1, 2, 8\]"),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"stride": 0}, "stride must be a number from 1, or two, .* not 0"),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"padding": (1, -1)}, r"padding must be a number from 0, .* not \(1, -1\)"),
        ((1, 1, 8, 8), (2, 1, 3, 3), {"bias": normal(1, 3)}, r"must be float32\[2\], not float32\[3\]"),
    ],
)
def test_what_does_not_fit_is_refused(gpu: Computer, x: Any, filters: Any, options: Any, message: str) -> None:
    for run in (ops.conv2d, lambda *args, **options: gpu(ops.conv2d, *args, **options)):
        with pytest.raises(InvalidInput, match=message):
            run(normal(1, *x), normal(2, *filters), **options)
