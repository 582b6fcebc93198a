"""What is moved arrives as it was."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from tests.gpu.ops.device import DTYPES, FEW, Computer, normal, whole


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(shape=hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=12), data=st.data())
def test_transposing(gpu: Computer, dtype: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    """Axes in any order, also counted from the end."""
    axes = data.draw(st.permutations(range(len(shape))))
    x = whole(1, *shape, dtype=dtype)
    signed = tuple(axis - len(shape) if axis % 2 else axis for axis in axes)
    np.testing.assert_array_equal(gpu(ops.transpose, x, signed), np.transpose(x, axes), strict=True)
    np.testing.assert_array_equal(gpu(ops.transpose, x), ops.transpose(x), strict=True)


@pytest.mark.parametrize("axes", [[1, 0], np.array([1, 0]), (np.int64(1), np.uint8(0)), range(1, -1, -1)], ids=repr)
def test_axes_in_a_row_of_any_kind(gpu: Computer, axes: Any) -> None:
    x = normal(1, 2, 3)
    np.testing.assert_array_equal(gpu(ops.transpose, x, axes), x.T)
    np.testing.assert_array_equal(ops.transpose(x, axes), x.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(33, 65), (1, 100), (100, 1), (5, 40, 31), (300, 257)], ids=str)
def test_transposing_in_tiles(gpu: Computer, dtype: str, shape: tuple[int, ...]) -> None:
    x = whole(1, *shape, dtype=dtype)
    axes = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    np.testing.assert_array_equal(gpu(ops.transpose, x, axes), np.swapaxes(x, -1, -2))


def test_more_than_65535_tiles(full_gpu: Computer) -> None:
    x = whole(1, 66_001, 2, 3)
    np.testing.assert_array_equal(full_gpu(ops.transpose, x, (0, 2, 1)), np.swapaxes(x, -1, -2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["int32", "uint32"])
@FEW
@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=20),
    wanted=hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=40),
)
def test_gathering(gpu: Computer, dtype: str, kind: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """From the front, from the end, and zeros where there is nothing."""
    x = whole(1, *shape, dtype=dtype)
    indices = np.asarray(np.random.default_rng(2).integers(-25 if kind == "int32" else 0, 25, wanted)).astype(kind)
    found = gpu(ops.gather, x, indices)
    np.testing.assert_array_equal(found, ops.gather(x, indices), strict=True)
    inside = (indices.astype("int64") < len(x)) & (indices.astype("int64") >= -len(x))
    np.testing.assert_array_equal(found[inside], x[indices[inside].astype("int64")])
    assert not found[~inside].any()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((normal(1, 2), (0, 0)), r"each of the 1 axes of float32\[2\] once, not be \(0, 0\)"),
        ((normal(1, 2, 3), (0, 2)), "not be"),
        ((normal(1, 2, 3), 1), "not be 1"),
        ((normal(1, 2, 3), (1.0, 0.0)), r"not be \(1.0, 0.0\)"),
        ((normal(1, 2, 3), [True, False]), r"not be \(True, False\)"),
    ],
)
def test_axes_that_do_not_fit_are_refused(gpu: Computer, args: tuple[Any, ...], message: str) -> None:
    for run in (ops.transpose, lambda *args: gpu(ops.transpose, *args)):
        with pytest.raises(InvalidInput, match=message):
            run(*args)


def test_indices_must_be_whole(gpu: Computer) -> None:
    with pytest.raises(InvalidInput, match=r"indices is for int32, uint32, and was given float32\[1\]"):
        gpu(ops.gather, normal(1, 3), normal(1, 1))
    with pytest.raises(InvalidInput, match="there are no rows in"):
        gpu(ops.gather, normal(1), np.zeros(1, "int32"))


def test_what_has_a_mask_is_no_array(gpu: Computer) -> None:
    """Neither here nor there; also where calls of the same shape went before."""
    x = normal(1, 2, 3)
    for run in (ops.transpose, lambda *args: gpu(ops.transpose, *args)):
        np.testing.assert_array_equal(run(x), x.T)
        with pytest.raises(InvalidInput, match="transpose: x must be an array, not a masked array"):
            run(np.ma.masked_greater(x, 0))


def test_one_number_has_no_axes_to_order(gpu: Computer) -> None:
    """It is the same array of no direction, here and there."""
    for found in (ops.transpose(normal(1)), gpu(ops.transpose, normal(1))):
        np.testing.assert_array_equal(found, normal(1), strict=True)
