"""Operations on each element give what numpy gives, whatever the shapes."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu import ops
from hybrid_compute.gpu.array import GpuArray
from hybrid_compute.tasks import AnyTask
from tests.gpu.ops.device import FEW, Computer, normal, whole

SHAPES = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=5, min_side=0, max_side=9)


@pytest.mark.parametrize("task", [ops.add, ops.sub, ops.mul, ops.scale], ids=lambda task: task.name)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint32"])
@FEW
@given(shapes=SHAPES)
def test_sums_and_products_are_numpys(gpu: Computer, task: AnyTask, dtype: str, shapes: Any) -> None:
    """With any shapes that fit together, to the last bit."""
    a, b = (whole(seed, *shape, dtype=dtype) for seed, shape in enumerate(shapes.input_shapes))
    np.testing.assert_array_equal(gpu(task, a, b), task(a, b))


@pytest.mark.parametrize(("dtype", "promised"), [("float32", (3e-7, 1e-37)), ("float16", (1e-3, 1e-4))])
@FEW
@given(shapes=SHAPES)
def test_quotients_are_right(gpu: Computer, dtype: str, promised: tuple[float, float], shapes: Any) -> None:
    """To 2.5 units in the last place, of 32 bits."""
    a, b = (normal(seed, *shape, dtype=dtype) for seed, shape in enumerate(shapes.input_shapes))
    relative, beside = promised
    for found in (gpu(ops.div, a, b), ops.div(a, b)):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, a.astype("float64") / b, rtol=relative, atol=beside)


ACTIVATIONS = {
    ops.silu: lambda x: x / (1 + np.exp(-x)),
    ops.gelu: lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}
PROMISED = {"float32": {"rtol": 1e-5, "atol": 1e-6}, "float16": {"rtol": 1e-3, "atol": 1e-4}}
OF_ACTIVATIONS = pytest.mark.parametrize("task", ACTIVATIONS, ids=lambda task: task.name)


@OF_ACTIVATIONS
@pytest.mark.parametrize("dtype", PROMISED)
@FEW
@given(shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=70))
def test_activations_are_right(gpu: Computer, task: AnyTask, dtype: str, shape: tuple[int, ...]) -> None:
    """Where the numbers are small, and where `exp` would overflow; there, and here."""
    x = (normal(1, *shape) * 20).astype(dtype)
    for found in (gpu(task, x), task(x)):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, ACTIVATIONS[task](x.astype("float64")), **PROMISED[dtype])


@OF_ACTIVATIONS
@pytest.mark.parametrize("dtype", PROMISED)
def test_activations_have_their_limits(gpu: Computer, task: AnyTask, dtype: str) -> None:
    """Nothing below, the number itself above, and no number stays none."""
    most = float(np.finfo(dtype).max)
    x = np.array([-np.inf, -most, -most / 7, -1e4, -200, 200, 1e4, most / 7, most, np.inf, np.nan], dtype)
    for found in (gpu(task, x), task(x)):
        np.testing.assert_array_equal(found, [0] * 5 + [*x[5:]])


def test_whole_numbers_wrap_around(gpu: Computer) -> None:
    x = np.array([2**31 - 1, -(2**31), 7], "int32")
    np.testing.assert_array_equal(gpu(ops.add, x, x), x + x)
    np.testing.assert_array_equal(gpu(ops.mul, x, 3), x * np.int32(3))


def test_a_plain_number_takes_the_dtype_of_the_array(gpu: Computer) -> None:
    x = normal(1, 6)
    np.testing.assert_array_equal(gpu(ops.scale, x, 0.1), x * np.float32(0.1))
    np.testing.assert_array_equal(gpu(ops.sub, 1, x), 1 - x)
    np.testing.assert_array_equal(gpu(ops.sub, b=x, a=1), 1 - x)
    np.testing.assert_array_equal(gpu(ops.mul, whole(1, 6, dtype="int32"), 2.0), whole(1, 6, dtype="int32") * 2)
    for number in (math.inf, math.nan):
        np.testing.assert_array_equal(gpu(ops.add, x.astype("float16"), number), np.full(6, number, "float16"))


def test_more_than_65535_workgroups_are_folded(full_gpu: Computer) -> None:
    """One row of workgroups would not do for so many elements, which do not go by fours."""
    x, y = whole(1, 4201, 1), whole(2, 1, 4203)
    found = full_gpu(ops.add, x, y)
    assert found.size > 65_535 * 256
    assert np.array_equal(found, x + y)


def test_with_an_array_of_the_device_the_result_stays_there(gpu: Computer) -> None:
    """Whichever of the arguments it is; with arrays of this process alone it comes back."""
    x, y = normal(1, 4, 5), normal(2, 5)
    for a, b in [(gpu.put(x), y), (x, gpu.put(y)), (gpu.put(x), gpu.put(y))]:
        kept = gpu(ops.add, a, b)
        assert isinstance(kept, GpuArray)
        np.testing.assert_array_equal(np.asarray(gpu(ops.mul, kept, kept)), (x + y) * (x + y))
    np.testing.assert_array_equal(ops.add(gpu.put(x), y), x + y)


def test_arrays_that_do_not_lie_in_one_piece_are_taken(gpu: Computer) -> None:
    x = normal(1, 6, 8)
    np.testing.assert_array_equal(gpu(ops.add, x[::2, ::-1].T, 1), x[::2, ::-1].T + 1)


@pytest.mark.parametrize(
    ("task", "args", "message"),
    [
        (ops.add, (normal(1, 3, 2), normal(1, 4)), r"add: the shapes \(3, 2\) and \(4,\) do not fit together"),
        (ops.add, (normal(1, 3), whole(1, 3, dtype="int32")), r"float32\[3\] and int32\[3\] have different dtypes"),
        (ops.add, (np.zeros(3), np.zeros(3)), r"a is an array of float64, and a gpu has float16, float32, .* astype"),
        (ops.add, ([1.0], normal(1, 1)), "a must be an array, not list"),
        (ops.add, (1, 2), "add needs an array"),
        (ops.add, (normal(1, 1),), "missing a required argument: 'b'"),
        (ops.add, (np.zeros(1, "uint32"), -1), "add: -1 cannot be uint32, as the array beside it: use astype"),
        (ops.mul, (np.zeros(1, "int32"), 0.5), "mul: 0.5 cannot be int32"),
        (ops.mul, (1e10, np.zeros(1, "int32")), "mul: 10000000000.0 cannot be int32"),
        (ops.add, (np.zeros(1, "int32"), math.nan), "add: nan cannot be int32"),
        (ops.sub, (np.zeros(1, "uint32"), math.inf), "sub: inf cannot be uint32"),
        (ops.add, (np.zeros(1, "float16"), 1e6), "add: 1000000.0 cannot be float16"),
        (ops.scale, (np.zeros(1, "float32"), 10**400), "scale: 10+ cannot be float32"),
        (ops.div, (np.zeros(1, "int32"), 1), r"div is for float32, float16, and was given int32\[1\]"),
        (ops.gelu, (np.zeros(1, "int32"),), r"gelu is for float32, float16, and was given int32\[1\]"),
    ],
)
def test_what_does_not_fit_is_refused(gpu: Computer, task: AnyTask, args: tuple[Any, ...], message: str) -> None:
    """There, and here."""
    with pytest.raises(InvalidInput, match=message):
        gpu(task, *args)
    with pytest.raises(InvalidInput, match=message):
        task(*args)
