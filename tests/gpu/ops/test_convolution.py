"""Filters laid over images."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from tests.gpu.ops.device import FEW, KINDS, Computer, floats, normal

SMALL = st.integers(1, 4)


def close(gpu: Computer, x: Any, filters: Any, bias: Any = None, **options: Any) -> None:
    """Within what the docstring promises."""
    wide = [None if each is None else each.astype("float64") for each in (x, filters, bias)]
    exact = convolved(*wide, **options)
    scale = convolved(*(None if each is None else np.abs(each) for each in wide), **options)
    rounding = 1e-3 if x.dtype == "float16" else 0.0
    promised = (filters[0].size + 1) * 6e-8 * scale + rounding * np.abs(exact) if len(filters) else 0.0
    for found in (gpu(ops.conv2d, x, filters, bias, **options), ops.conv2d(x, filters, bias, **options)):
        assert (found.shape, found.dtype) == (exact.shape, x.dtype)
        assert np.all(np.abs(found.astype("float64") - exact) <= promised)


def convolved(x: Any, filters: Any, bias: Any, stride: Any = 1, padding: Any = 0) -> Any:
    """One place after the other, in float64."""
    (down, right), (above, beside) = (2 * (each,) if isinstance(each, int) else each for each in (stride, padding))
    image = np.pad(x, ((0, 0), (0, 0), (above, above), (beside, beside)))
    high, wide = filters.shape[2:]
    rows, columns = (image.shape[2] - high) // down + 1, (image.shape[3] - wide) // right + 1
    found = np.zeros((len(x), len(filters), rows, columns))
    for row in range(rows):
        for column in range(columns):
            patch = image[:, :, row * down : row * down + high, column * right : column * right + wide]
            found[:, :, row, column] = np.tensordot(patch, filters, ((1, 2, 3), (1, 2, 3)))
    return found if bias is None else found + bias[:, None, None]


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
    kind=st.sampled_from(KINDS),
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
    kind: str,
) -> None:
    down, right = (padding, padding) if isinstance(padding, int) else padding
    assume(filters[0] <= size[0] + 2 * down and filters[1] <= size[1] + 2 * right)
    x, laid = (
        floats(kind, 1, images, channels[0], *size, dtype=dtype),
        floats(kind, 2, channels[1], channels[0], *filters, dtype=dtype),
    )
    bias = floats(kind, 3, channels[1], dtype=dtype) if biased else None
    close(gpu, x, laid, bias, stride=stride, padding=padding)


@pytest.mark.parametrize("kind", KINDS)
def test_many_channels_are_added_up_in_pieces(gpu: Computer, kind: str) -> None:
    close(gpu, floats(kind, 1, 2, 300, 6, 6), floats(kind, 2, 5, 300, 3, 3), floats(kind, 3, 5), padding=1)


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
