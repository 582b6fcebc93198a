"""Softmax and the normalisations, of rows of any length."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from hybrid_compute.tasks import AnyTask
from tests.gpu.ops.device import FEW, Computer, floats, normal

ALL = [ops.softmax, ops.layer_norm, ops.rms_norm]
LENGTHS = [1, 2, 31, 33, 256, 257, 700, 4096, 4097, 9001]

PROMISED_OF_SOFTMAX = {"float32": 2e-6, "float16": 1e-3}
PROMISED = {"float32": 2e-5, "float16": 2e-3}


@pytest.fixture
def gpu(any_gpu: Computer) -> Computer:
    """What goes along rows has two shapes."""
    return any_gpu


def close(gpu: Computer, task: AnyTask, x: Any, *others: Any) -> None:
    """Within what the docstrings promise, of the largest number of each row; there, and here."""
    wanted = exactly(task, x.astype("float64"), *others) if x.size else x
    promised = (PROMISED_OF_SOFTMAX if task is ops.softmax else PROMISED)[x.dtype.name]
    for found in (gpu(task, x, *others), task(x, *others)):
        assert (found.shape, found.dtype) == (x.shape, x.dtype)
        if x.size:
            largest = np.abs(wanted).max(-1, keepdims=True)
            assert np.all(np.abs(found.astype("float64") - wanted) <= promised * np.maximum(largest, 1e-6))


def exactly(task: AnyTask, x: Any, weight: Any = None, bias: Any = None, epsilon: float = 1e-5) -> Any:
    """What the docstrings say, in float64."""
    if task is ops.softmax:
        powers = np.exp(x - x.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)
    if task is ops.rms_norm and bias is not None:  # it has none: what comes third is its epsilon
        bias, epsilon = None, bias
    off = x - x.mean(-1, keepdims=True) if task is ops.layer_norm else x
    found = off / np.sqrt(np.mean(off * off, -1, keepdims=True) + epsilon)
    found = found if weight is None else found * weight.astype("float64")
    return found if bias is None else found + bias.astype("float64")


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@FEW
@given(shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=80))
def test_rows_are_numpys(gpu: Computer, task: AnyTask, dtype: str, shape: tuple[int, ...]) -> None:
    close(gpu, task, normal(1, *shape, dtype=dtype))


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
@pytest.mark.parametrize("length", LENGTHS)
def test_rows_of_any_length(gpu: Computer, task: AnyTask, length: int) -> None:
    """Kept in registers, and read again where they are too long for that."""
    close(gpu, task, normal(1, 3, length) * 3)
    close(gpu, task, floats("positive", 1, 3, length))
    if task is not ops.layer_norm:  # for which rows without a spread are something else
        close(gpu, task, floats("same", 1, 3, length))


@pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)
def test_a_row_too_long_for_a_workgroup(gpu: Computer, task: AnyTask) -> None:
    x = normal(1, 2, 70_001)
    others = [] if task is ops.softmax else [normal(2, 70_001)]
    close(gpu, task, x, *others)
    if task is ops.softmax:
        x[1, 5] = -np.inf
        assert gpu(task, x)[1, 5] == 0
        x[0, 7] = np.inf
        assert np.isnan(gpu(task, x)).tolist() == [[True] * 70_001, [False] * 70_001]


@pytest.mark.parametrize(("length", "lanes"), [(40, 16), (1024, 16), (1025, 32), (4096, 64), (60_000, 256)])
def test_a_processor_has_an_invocation_for_each_64_elements(full_gpu: Computer, length: int, lanes: int) -> None:
    """And a gpu always has 256."""
    for software, wanted in ((True, lanes), (False, 256)):
        facts = dataclasses.replace(full_gpu.facts, software=software)
        for task, args in ((ops.softmax, ()), (ops.sum, (1, False)), (ops.argmax, (1, False))):
            plan = task.fn.plan((np.empty((512, length), "float32"), *args), facts)  # type: ignore[attr-defined]
            assert f"@workgroup_size({wanted})" in plan.dispatches[0].kernel.source


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("length", [7, 300, 5000])
def test_weight_and_bias(gpu: Computer, length: int, dtype: str) -> None:
    x, weight, bias = (
        normal(seed, *shape, dtype=dtype) for seed, shape in enumerate([(3, length), (length,), (length,)])
    )
    close(gpu, ops.layer_norm, x, weight, bias)
    close(gpu, ops.layer_norm, x, None, bias)
    close(gpu, ops.layer_norm, x, weight)
    close(gpu, ops.rms_norm, x, weight)
    close(gpu, ops.rms_norm, x, weight, 0.5)


def test_more_than_65535_rows(full_gpu: Computer) -> None:
    """A workgroup for each, whatever is made of them."""
    close(full_gpu, ops.rms_norm, normal(1, 65_601, 33))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("length", [4, 300, 5000])
def test_softmax_of_what_is_no_ordinary_number(gpu: Computer, length: int, dtype: str) -> None:
    """NaN and inf spoil their row; -inf is nothing, unless there is nothing else."""
    x = normal(1, 6, length, dtype=dtype)
    x[0, 1], x[1, 2], x[2, :], x[3, 1:], x[4, 0] = np.nan, np.inf, -np.inf, -np.inf, 60000
    found = gpu(ops.softmax, x)
    assert np.isnan(found).all(-1).tolist() == [True, True, True, False, False, False]
    np.testing.assert_array_equal(found[3], [1] + [0] * (length - 1))
    np.testing.assert_array_equal(found[4], [1] + [0] * (length - 1))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(ops.softmax(x)))


@pytest.mark.parametrize(
    ("task", "args", "message"),
    [
        (ops.softmax, (np.zeros((), "float32"),), "needs an array with at least one axis"),
        (ops.softmax, (np.zeros(2, "int32"),), r"softmax is for float32, float16, and was given int32\[2\]"),
        (ops.rms_norm, (normal(1, 4, 3), normal(1, 4)), r"of float32\[4, 3\] must be float32\[3\], not float32\[4\]"),
        (ops.layer_norm, (normal(1, 2), None, normal(1, 2, dtype="float16")), "must be .*, not float16"),
        (ops.layer_norm, (normal(1, 2), None, None, -1), "epsilon must be a small number, such as 1e-5, not -1"),
    ],
)
def test_what_does_not_fit_is_refused(gpu: Computer, task: AnyTask, args: tuple[Any, ...], message: str) -> None:
    """There, and here."""
    for run in (task, lambda *args: gpu(task, *args)):
        with pytest.raises(InvalidInput, match=message):
            run(*args)
