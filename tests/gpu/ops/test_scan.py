"""Running sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from tests.gpu.ops.device import DTYPES, FEW, KINDS, Computer, floats, normal, whole


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(shape=hnp.array_shapes(max_dims=3, min_side=0, max_side=40))
def test_whole_numbers_are_added_exactly(gpu: Computer, dtype: str, shape: tuple[int, ...]) -> None:
    x = whole(1, *shape, dtype=dtype)
    found = gpu(ops.scan, x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, ops.scan(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 2048), (2, 2049), (9001,), (2, 70_001)], ids=str)
def test_long_rows(gpu: Computer, dtype: str, shape: tuple[int, ...]) -> None:
    """In pieces, whose sums are added up."""
    x = normal(1, *shape).astype(dtype) if dtype.startswith("f") else whole(1, *shape, dtype=dtype)
    found, wanted = gpu(ops.scan, x), ops.scan(x)
    if dtype.startswith("f"):
        scale = np.cumsum(np.abs(x), -1, dtype="float64")
        rounding = 1e-3 if dtype == "float16" else 0.0
        assert np.all(np.abs(found - wanted.astype("float64")) <= 4e-6 * scale + rounding * np.abs(wanted))
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 100), (2, 2049), (300_001,)], ids=str)
def test_what_is_rounded_off_does_not_add_up(full_gpu: Computer, kind: str, shape: tuple[int, ...]) -> None:
    x = floats(kind, 1, *shape)
    exact, scale = (np.cumsum(each, -1, dtype="float64") for each in (x, np.abs(x)))
    assert np.all(np.abs(full_gpu(ops.scan, x) - exact) <= 4e-6 * scale)


def test_pieces_of_pieces(full_gpu: Computer) -> None:
    """So long a row that the sums of its pieces have pieces, wrapping around on the way."""
    x = np.full(2048 * 2048 + 5, 4099, "uint32")
    np.testing.assert_array_equal(full_gpu(ops.scan, x), ops.scan(x))


def test_more_than_65535_rows(full_gpu: Computer) -> None:
    x = whole(1, 65_601, 2, dtype="int32")
    np.testing.assert_array_equal(full_gpu(ops.scan, x), ops.scan(x))


def test_a_single_number_is_refused(gpu: Computer) -> None:
    with pytest.raises(InvalidInput, match="scan needs an array with at least one axis"):
        gpu(ops.scan, normal(1))
