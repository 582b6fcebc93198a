"""What is reduced is what numpy makes of it, however long the axis, and wherever it lies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from hybrid_compute.tasks import AnyTask
from tests.gpu.ops.device import DTYPES, FEW, KINDS, Computer, floats, normal, whole

ALL = [ops.sum, ops.mean, ops.max, ops.min, ops.argmax]
LARGE = [((3, 5000), 1), ((5000, 3), 0), ((2, 9001, 3), 1), ((300_001,), None), ((600, 700), None), ((2, 33, 257), 1)]


@pytest.fixture
def gpu(any_gpu: Computer) -> Computer:
    """What goes along rows has two shapes."""
    return any_gpu


def close(
    gpu: Computer, task: AnyTask, x: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", axis: int | None
) -> None:
    """Within what the docstrings promise."""
    found, wanted = gpu(task, x, axis), task(x, axis)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    if task in (ops.sum, ops.mean) and x.dtype.kind == "f":
        of = np.sum if task is ops.sum else np.mean
        exact, scale = of(x, axis, dtype="float64"), of(np.abs(x), axis, dtype="float64")
        rounding = 1e-3 if x.dtype == "float16" else 0.0
        assert np.all(np.abs(found - exact) <= 2e-6 * scale + rounding * np.abs(exact))
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("task", "dtype"),
    [(task, dtype) for task in ALL for dtype in DTYPES if task is not ops.mean or dtype.startswith("float")],
    ids=lambda each: getattr(each, "name", each),
)
@FEW
@given(shape=hnp.array_shapes(max_dims=4, min_side=0, max_side=70), data=st.data())
def test_reductions_are_numpys(
    gpu: Computer, task: AnyTask, dtype: str, shape: tuple[int, ...], data: st.DataObject
) -> None:
    """Of nothing too, where it has a sum and nothing else."""
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1)))
    x = normal(1, *shape, dtype=dtype) if dtype == "float16" else whole(1, *shape, dtype=dtype)
    if task is ops.sum or x.size or np.sum(x, axis).size == 0:
        close(gpu, task, x, axis)
    else:
        for run in (task, lambda *args: gpu(task, *args)):
            with pytest.raises(InvalidInput, match="nothing in it along axis"):
                run(x, axis)


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_the_mean_of_whole_numbers_is_refused(gpu: Computer, dtype: str) -> None:
    for run in (ops.mean, lambda *args: gpu(ops.mean, *args)):
        with pytest.raises(InvalidInput, match=rf"mean is for float32, float16, and was given {dtype}\[2, 3\]"):
            run(whole(1, 2, 3, dtype=dtype), 1)


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
@pytest.mark.parametrize(("shape", "axis"), LARGE, ids=str)
def test_a_long_axis_is_cut_into_pieces(gpu: Computer, task: AnyTask, shape: tuple[int, ...], axis: int | None) -> None:
    close(gpu, task, normal(1, *shape), axis)


@pytest.mark.parametrize("task", [ops.sum, ops.mean], ids=lambda task: task.name)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "axis"), [*LARGE, ((500, 40_000), 0)], ids=str)
@pytest.mark.parametrize("software", [False, True])
def test_what_is_rounded_off_does_not_add_up(
    full_gpu: Computer, task: AnyTask, kind: str, shape: tuple[int, ...], axis: int | None, software: bool
) -> None:
    close(Computer(full_gpu.device, software=software), task, floats(kind, 1, *shape), axis)


@pytest.mark.parametrize("task", [ops.sum, ops.argmax], ids=lambda task: task.name)
def test_more_than_65535_rows(full_gpu: Computer, task: AnyTask) -> None:
    close(full_gpu, task, whole(1, 65_601, 33), 1)


@pytest.mark.parametrize("task", [ops.max, ops.min, ops.argmax], ids=lambda task: task.name)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("length", [3, 700], ids=str)
def test_not_a_number_is_found_and_infinities_are_numbers(
    gpu: Computer, task: AnyTask, dtype: str, length: int
) -> None:
    x = normal(1, 6, length, dtype=dtype)
    x[0, 1] = np.nan
    x[1, :] = -np.inf
    x[2, :] = np.inf
    x[3, 1:] = [np.inf, *[np.nan] * (length - 2)]
    x[4, 0], x[4, 2] = np.inf, -np.inf
    x[5, :] = -0.0
    x[5, 1] = 0.0
    close(gpu, task, x, 1)


def test_the_first_of_several_is_found(gpu: Computer) -> None:
    """Also where many workgroups look for it, and whatever the sign of zero."""
    x = np.zeros(100_000, "float32")
    x[::2] = -0.0
    assert gpu(ops.argmax, x) == 0
    x[[70_000, 40_001, 99_999]] = 1
    assert gpu(ops.argmax, x) == 40_001
    assert gpu(ops.argmax, np.full(9000, -(2**31), "int32")) == 0


def test_an_axis_may_be_kept(gpu: Computer) -> None:
    x = normal(1, 3, 4)
    assert gpu(ops.max, x, axis=0, keepdims=True).shape == (1, 4)
    assert gpu(ops.argmax, x, keepdims=True).shape == (1, 1)


def test_the_sum_of_nothing_is_nothing(gpu: Computer) -> None:
    np.testing.assert_array_equal(gpu(ops.sum, np.zeros((3, 0), "float32"), 1), np.zeros(3))
    assert gpu(ops.sum, np.zeros((0, 3), "float32"), 1).shape == (0,)
    assert gpu(ops.max, np.zeros((0, 3), "float32"), 1).shape == (0,)


@pytest.mark.parametrize("task", [ops.mean, ops.max, ops.argmax], ids=lambda task: task.name)
def test_the_largest_of_nothing_is_refused(gpu: Computer, task: AnyTask) -> None:
    for run in (task, lambda *args: gpu(task, *args)):
        with pytest.raises(InvalidInput, match=r"float32\[3, 0\] has nothing in it along axis 1"):
            run(np.zeros((3, 0), "float32"), 1)
        with pytest.raises(InvalidInput, match=r"float32\[2\] has no axis 1: it must be one of its 1"):
            run(np.zeros(2, "float32"), 1)
