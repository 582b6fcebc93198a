"""What is sorted is in order, nothing is lost, and equal elements stay as they were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from tests.gpu.ops.device import DTYPES, FEW, Computer, normal, whole

LONG = [(3, 1024), (2, 1025), (5000,), (3, 2048), (40_000,)]


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(shape=hnp.array_shapes(max_dims=3, min_side=0, max_side=70), data=st.data())
def test_sorting_is_numpys(gpu: Computer, dtype: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    """Also with values beside the keys, many of which are equal, and of the largest few."""
    x, values = whole(1, *shape, dtype=dtype), np.arange(np.prod(shape), dtype="int32").reshape(shape)
    np.testing.assert_array_equal(gpu(ops.sort, x), np.sort(x, -1))
    for found, wanted in zip(gpu(ops.sort_by_key, x, values), ops.sort_by_key(x, values), strict=True):
        np.testing.assert_array_equal(found, wanted)
    k = data.draw(st.integers(0, shape[-1]))
    for found, wanted in zip(gpu(ops.topk, x, k), ops.topk(x, k), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", LONG, ids=str)
def test_rows_longer_than_a_workgroup_sorts(gpu: Computer, shape: tuple[int, ...]) -> None:
    x, values = whole(1, *shape), normal(2, *shape)
    np.testing.assert_array_equal(gpu(ops.sort, x), np.sort(x, -1))
    for found, wanted in zip(gpu(ops.sort_by_key, x, values), ops.sort_by_key(x, values), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("k", [1, 40, 512, 513, 1000])
@pytest.mark.parametrize("shape", [(3, 1024), (2, 1025), (40_000,)], ids=str)
def test_the_largest_of_long_rows(gpu: Computer, shape: tuple[int, ...], k: int) -> None:
    x = whole(1, *shape)
    values, places = gpu(ops.topk, x, k)
    wanted, where = ops.topk(x, k)
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(places, where)
    np.testing.assert_array_equal(np.take_along_axis(x, where.astype("int64"), -1), values)
    assert places.dtype == "int32"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_no_ordinary_number(gpu: Computer, dtype: str) -> None:
    """Not-a-number is above inf, and there is one zero."""
    x = np.array([3, np.nan, -np.inf, 0.0, np.inf, -0.0, np.nan, -3, np.inf], dtype)
    places = np.arange(9, dtype="int32")
    np.testing.assert_array_equal(gpu(ops.sort, x), np.sort(x))
    np.testing.assert_array_equal(gpu(ops.sort_by_key, x, places)[1], np.argsort(x, kind="stable"))
    np.testing.assert_array_equal(gpu(ops.topk, x, 9)[0], np.sort(x)[::-1])
    np.testing.assert_array_equal(gpu(ops.topk, x, 9)[1], [1, 6, 4, 8, 0, 3, 5, 7, 2])


def test_the_ends_of_whole_numbers(gpu: Computer) -> None:
    """They are not taken for what rows are padded with."""
    for dtype in ("int32", "uint32"):
        ends = np.array([np.iinfo(dtype).max, np.iinfo(dtype).min] * 40, dtype)
        np.testing.assert_array_equal(gpu(ops.sort, ends), np.sort(ends))
        for found, wanted in zip(gpu(ops.topk, ends, 80), ops.topk(ends, 80), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_more_than_65535_rows(full_gpu: Computer) -> None:
    x = whole(1, 65_601, 3)
    np.testing.assert_array_equal(full_gpu(ops.topk, x, 1)[1], ops.topk(x, 1)[1])


def test_what_does_not_fit_is_refused(gpu: Computer) -> None:
    with pytest.raises(InvalidInput, match=r"of rows of 3 elements, in float32\[2, 3\], there are no 4 largest"):
        gpu(ops.topk, normal(1, 2, 3), 4)
    with pytest.raises(InvalidInput, match=r"keys float32\[2, 3\] and values float32\[3\] must be of one shape"):
        gpu(ops.sort_by_key, normal(1, 2, 3), normal(1, 3))
    with pytest.raises(InvalidInput, match="sort needs an array with at least one axis"):
        gpu(ops.sort, normal(1))
