"""More workgroups than a device takes in one direction go in two, and all that they compute is in its place."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hybrid_compute.gpu import ops
from hybrid_compute.tasks import AnyTask
from tests.gpu.ops.device import Computer, normal, whole

WORDS = {bits: ops.quantize(normal(1, 128, 32), bits) for bits in (4, 8)}  # type: ignore[arg-type]
INDICES = np.asarray(np.random.default_rng(1).integers(-9, 9, 12_345)).astype("int32")
FEW: list[tuple[AnyTask, tuple[Any, ...]]] = [
    *((task, (whole(1, 89, 139), whole(2, 89, 139))) for task in (ops.add, ops.sub, ops.mul, ops.div)),
    *((task, (whole(1, 89, 1), whole(2, 139))) for task in (ops.add, ops.sub, ops.mul, ops.div)),
    (ops.scale, (normal(1, 89, 139), 3.0)),
    (ops.gelu, (normal(1, 89, 139),)),
    (ops.silu, (normal(1, 89, 139),)),
    *((task, (normal(1, 50, 33), 1)) for task in (ops.sum, ops.mean, ops.max, ops.min, ops.argmax)),
    *((task, (normal(1, 2, 3, 5141), 1)) for task in (ops.sum, ops.mean, ops.max, ops.min, ops.argmax)),
    *((task, (normal(1, 50, 33),)) for task in (ops.softmax, ops.layer_norm, ops.rms_norm)),
    *((task, (normal(1, 6001, 3),)) for task in (ops.softmax, ops.layer_norm, ops.rms_norm)),
    (ops.matmul, (normal(1, 50, 5, 7), normal(2, 50, 7, 3))),
    (ops.matmul, (normal(1, 300, 5), normal(2, 5, 301))),
    (ops.matvec, (normal(1, 51, 5), normal(2, 3, 5))),
    *((ops.matmul_quantized, (normal(2, 32), *words)) for words in WORDS.values()),
    *((ops.matmul_quantized, (normal(2, 300, 32), *words)) for words in WORDS.values()),
    (ops.transpose, (normal(1, 50, 2, 3), (0, 2, 1))),
    (ops.transpose, (normal(1, 11, 7, 13, 9), (2, 0, 3, 1))),
    (ops.gather, (normal(1, 9), INDICES)),
    (ops.gather, (normal(1, 9, 3), INDICES)),
    (ops.scan, (whole(1, 50, 3),)),
    (ops.scan, (whole(1, 2048 * 25 + 1),)),
    (ops.sort, (normal(1, 250, 3),)),
    (ops.sort, (normal(1, 30_001),)),
    (ops.sort_by_key, (normal(1, 250, 3), normal(2, 250, 3))),
    (ops.topk, (normal(1, 250, 3), 2)),
    (ops.conv2d, (normal(1, 50, 1, 4, 4), normal(2, 1, 1, 3, 3))),
    (ops.fft, (normal(1, 51, 1024, 2),)),
    (ops.fft, (normal(1, 7, 4096, 2),)),
]
MANY: list[tuple[AnyTask, tuple[Any, ...]]] = [
    *((task, (normal(1, 65_601, 33),)) for task in (ops.softmax, ops.layer_norm)),
    *((task, (normal(1, 65_601, 33), 1)) for task in (ops.max, ops.min, ops.mean)),
    (ops.matvec, (normal(1, 65_601, 3), normal(2, 3))),
    (ops.matmul_quantized, (normal(2, 32), *(np.repeat(each, 1000, 0) for each in WORDS[4]))),
    (ops.sort, (whole(1, 65_601, 3),)),
    (ops.sort_by_key, (whole(1, 65_601, 3), normal(2, 65_601, 3))),
]

SIZE = 65_535 * 256 + 3
"""One element for each invocation of a few more workgroups. An odd number: by fours, a quarter of them would do."""


def numbers() -> Any:
    return np.random.default_rng(1).standard_normal(SIZE, dtype="float32")


def pair() -> Any:
    return normal(1, 4201, 1), normal(2, 1, 4203)  # together 4201 × 4203, more than SIZE


def rows() -> Any:
    return whole(1, 3, 65_537), np.resize(np.asarray([2, 0, -2], "int32"), 257)


EACH: list[tuple[AnyTask, Callable[[], tuple[Any, ...]], float]] = [
    (ops.sub, pair, 0),
    (ops.mul, pair, 0),
    (ops.div, pair, 3e-7),
    (ops.scale, lambda: (numbers(), 3.0), 0),
    (ops.gelu, lambda: (numbers(),), 1e-5),
    (ops.silu, lambda: (numbers(),), 1e-5),
    (ops.gather, rows, 0),
    (ops.fft, lambda: (numbers()[1:].reshape(-1, 1, 2),), 0),
]
"""With what is promised of the result. Those that only move or multiply are exact."""


def named(each: Any) -> str:
    if isinstance(each, tuple):
        return "-".join(str(list(one.shape)) for one in each if isinstance(one, np.ndarray))
    return str(each.name)


def test_all_operations_are_among_them() -> None:
    assert {task.name.removeprefix("gpu.") for task, _ in FEW} == set(ops.__all__) - {"quantize", "dequantize"}


@pytest.mark.parametrize(("task", "args"), FEW, ids=named)
def test_where_a_device_takes_few(narrow_gpu: Computer, task: AnyTask, args: tuple[Any, ...]) -> None:
    are_in_place(narrow_gpu, task, args)


@pytest.mark.parametrize(("task", "args"), MANY, ids=named)
def test_more_than_65535(full_gpu: Computer, task: AnyTask, args: tuple[Any, ...]) -> None:
    are_in_place(full_gpu, task, args)


@pytest.mark.parametrize(("task", "args", "promised"), EACH, ids=[each[0].name for each in EACH])
def test_more_than_65535_for_each_element(
    full_gpu: Computer, task: AnyTask, args: Callable[[], tuple[Any, ...]], promised: float
) -> None:
    """With 256 elements to a workgroup, that takes an array of 64 MiB."""
    given = args()
    assert is_folded(full_gpu, task, given)
    found, wanted = full_gpu(task, *given), task(*given)
    if promised:
        assert np.all(np.abs(found - wanted) <= promised * np.abs(wanted) + 1e-6)
    else:
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("length", [1024, 2048])
@pytest.mark.parametrize("name", ["narrow", "full"])
def test_transforms_by_more_workgroups_than_a_row_has(request: Any, name: str, length: int) -> None:
    """A workgroup takes 1024 complex numbers, or 512 of the first pass of a longer row.

    65,535 of them take 512 MiB or 256 MiB, and Mesa's driver binds no more than 128 MiB: so that is for others.
    """
    gpu: Computer = request.getfixturevalue(f"{name}_gpu")
    facts = gpu.facts
    count = (facts.workgroups + 1) * (1024 if length == 1024 else 512) // length + 1
    if count * length * 8 > facts.binding:
        pytest.skip(f"the device binds no more than {facts.binding >> 20} MiB")
    which = np.arange(count) % 101
    few = normal(1, 101, length, 2)
    x = few[which]
    assert is_folded(gpu, ops.fft, (x,))
    found, wanted = gpu(ops.fft, x), ops.fft(few)
    for start in range(0, count, 1000):
        own = wanted[which[start : start + 1000]]
        assert np.all(mean_square(found[start : start + 1000] - own) <= 1e-6**2 * mean_square(own))


def mean_square(x: Any) -> Any:
    return np.mean(np.square(x), (-2, -1))


def is_folded(gpu: Computer, task: AnyTask, args: tuple[Any, ...]) -> bool:
    """Whether it is done by more workgroups than a row has."""
    function: Any = task.fn
    plan = function.plan(function.positional(args, {}), gpu.facts)
    return any(dispatch.groups[1] > 1 for dispatch in plan.dispatches)


def are_in_place(gpu: Computer, task: AnyTask, args: tuple[Any, ...]) -> None:
    """What was computed, by workgroups in two directions."""
    assert is_folded(gpu, task, args)
    found, wanted = gpu(task, *args), task(*args)
    pairs = zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]
    for one, other in pairs:
        assert one.dtype == other.dtype
        largest = np.abs(other[np.isfinite(other)]).max(initial=0)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * largest)
