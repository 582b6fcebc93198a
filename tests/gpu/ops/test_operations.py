"""What all operations have in common: they are tasks, run anywhere, and can be recorded."""

import asyncio
import dataclasses
import doctest
import pickle
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from hybrid_compute.backends.gpu import GpuBackend
from hybrid_compute.errors import BackendUnavailable, InvalidInput, LimitExceeded
from hybrid_compute.gpu import ops
from hybrid_compute.gpu.array import GpuArray
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import AnyTask
from tests.gpu.ops.device import Computer, normal


@pytest.mark.parametrize("name", ops.__all__)
def test_the_example_of_each_runs(name: str) -> None:
    """As numpy computes it."""
    names = {each: getattr(ops, each) for each in ops.__all__} | {"np": np}
    example = doctest.DocTestParser().get_doctest(getattr(ops, name).__doc__ or "", names, name, name, 0)
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example) == (0, len(example.examples))


@pytest.mark.parametrize("name", ops.__all__)
def test_each_is_known_to_other_processes_by_its_name(name: str) -> None:
    assert pickle.loads(pickle.dumps(getattr(ops, name))) is getattr(ops, name)


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "rms_norm", "sum", "max", "argmax", "scan", "matvec"])
def test_what_is_added_up_by_many_uses_subgroups_where_there_are_any(name: str, full_gpu: Computer) -> None:
    """And the memory that a workgroup shares; where there are none, only that."""
    with_them = dataclasses.replace(full_gpu.facts, features=full_gpu.facts.features | {"subgroup"})
    without = dataclasses.replace(full_gpu.facts, features=full_gpu.facts.features - {"subgroup"})
    x = normal(1, 1000, 1000)
    operation = getattr(ops, name).fn
    options = {"axis": -1} if name in ("sum", "max", "argmax") else {}
    args = operation.positional((x, x[0]) if name == "matvec" else (x,), options)
    for facts, uses in ((with_them, True), (without, False)):
        shaders = [step.kernel.source for step in operation.work(args, facts, Waiting()).steps]
        assert any("var<workgroup>" in source for source in shaders)
        assert any(re.search("subgroup(Add|Max|ExclusiveAdd)", source) for source in shaders) == uses


def test_importing_them_does_not_load_wgpu() -> None:
    program = "import sys, hybrid_compute.gpu.ops; sys.exit('wgpu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_they_run_where_the_runtime_says() -> None:
    """On the device, with arrays that stay there, and in this process."""
    backend = GpuBackend()
    async with Runtime([backend], strategy="gpu") as runtime:
        try:
            device = backend.device
        except BackendUnavailable as error:
            pytest.skip(str(error))
        x, y = normal(1, 30, 40), normal(2, 40)
        kept = await backend.to_device(x)
        total = await runtime.run(ops.add, kept, y)
        assert isinstance(total, GpuArray)
        found = await runtime.run(ops.softmax, total)
        np.testing.assert_allclose(await found.to_host(), ops.softmax(x + y), rtol=1e-5, atol=1e-7)
        back = await runtime.run(ops.transpose, x, axes=(1, 0))
        np.testing.assert_array_equal(back, x.T)
        many = await asyncio.gather(*(runtime.run(ops.scale, x, factor) for factor in range(5)))
        np.testing.assert_array_equal(many, [x * factor for factor in range(5)])
        assert device is backend.device


async def test_a_chain_of_them_is_recorded_and_played() -> None:
    """All that there are numbers between: constants, scratch, and results that nothing is written to."""
    backend = GpuBackend()
    async with Runtime([backend], strategy="gpu"):
        try:
            backend.device  # noqa: B018  # there is none, or there is
        except BackendUnavailable as error:
            pytest.skip(str(error))
        recording = backend.record()
        weight = normal(3, 64, 64)
        with recording:
            x = recording.input("x", (5, 64))
            hidden = ops.gelu(ops.matmul(ops.layer_norm(x), weight))
            top, places = ops.topk(ops.softmax(hidden), 3)
            spectrum = ops.fft(recording.input("signal", (2048, 2)))
        recording.returns(top, places, spectrum)
        for seed in range(3):
            given, signal = normal(seed, 5, 64), normal(seed, 2048, 2)
            found = await recording(x=given, signal=signal)
            hidden = ops.gelu(ops.matmul(ops.layer_norm(given), weight))
            wanted = ops.topk(ops.softmax(hidden), 3)
            np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4)
            np.testing.assert_array_equal(found[1], wanted[1])
            np.testing.assert_allclose(found[2], ops.fft(signal), atol=1e-3)


def test_a_plan_is_made_once_for_the_same_shapes(gpu: Computer) -> None:
    """Whatever the numbers are."""
    facts = gpu.facts
    function: Any = ops.softmax.fn
    one, other = function.plan((normal(1, 3, 5),), facts), function.plan((normal(2, 3, 5),), facts)
    assert one is other
    assert one is not function.plan((normal(1, 5, 3),), facts)


OF_WHOLE = pytest.mark.parametrize(
    ("task", "args", "number"),
    [
        (ops.topk, (normal(1, 7),), 3),
        (ops.sum, (normal(1, 4, 3),), 1),
        (ops.conv2d, (normal(1, 1, 1, 5, 5), normal(2, 1, 1, 2, 2), None), 1),
    ],
    ids=lambda each: getattr(each, "name", ""),
)


@OF_WHOLE
def test_whole_numbers_of_any_kind_are_options(gpu: Computer, task: AnyTask, args: Any, number: int) -> None:
    for option in (np.int64(number), np.uint8(number), np.array(number)):
        task.fn._plans.clear()  # type: ignore[attr-defined]
        for found, wanted in zip(gpu(task, *args, option), task(*args, number), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5)
        np.testing.assert_array_equal(task(*args, option), task(*args, number))


@OF_WHOLE
def test_what_is_refused_is_refused_after_its_equal_as_well(
    gpu: Computer, task: AnyTask, args: Any, number: int
) -> None:
    """A plan that is known does not let in what only compares like its options."""
    gpu(task, *args, number)
    for option in (float(number), np.float32(number), number == 1, {number}):
        for run in (task, lambda *args: gpu(task, *args)):
            with pytest.raises(InvalidInput, match=re.escape(repr(option))):
                run(*args, option)


@pytest.mark.parametrize(
    ("task", "args", "limits", "message"),
    [
        (
            *(ops.add, (normal(1, 300, 100), 1.0), {"binding": 1 << 16}),
            r"^add of a float32\[300, 100\], b float32\[\]: a, float32\[300, 100\], is 120,000 bytes, more .* 65,536",
        ),
        (
            *(ops.add, (normal(1, 300, 1), normal(1, 1, 100)), {"binding": 1 << 16}),
            r"^add of a float32\[300, 1\], b float32\[1, 100\]: a result, float32\[300, 100\], is 120,000 bytes",
        ),
        (
            *(ops.sort, (normal(1, 10_000),), {"binding": 50_000}),
            r"^sort of x float32\[10000\]: what lies between its steps, uint32\[1, 16, 1024\], is 65,536 bytes",
        ),
        (
            *(ops.add, (normal(1, 100_001), 1.0), {"workgroups": 8}),
            r"^add of a float32\[100001\], b float32\[\]: that needs more than 8 times 8 workgroups",
        ),
    ],
    ids=["given", "made", "between", "workgroups"],
)
def test_what_a_device_cannot_do_is_refused_by_the_name_of_the_operation(
    gpu: Computer, task: AnyTask, args: Any, limits: dict[str, int], message: str
) -> None:
    """Each time, and not only the first."""
    facts = dataclasses.replace(gpu.facts, **limits)
    for _ in range(2):
        with pytest.raises(LimitExceeded, match=message):
            task.fn.work(task.fn.positional(args, {}), facts, Waiting())  # type: ignore[attr-defined]


def test_workgroups_are_folded_by_what_the_device_takes(gpu: Computer) -> None:
    facts = dataclasses.replace(gpu.facts, workgroups=8)
    plan: Any = ops.add.fn.plan((normal(1, 15_000, 1), normal(1, 1)), facts)  # type: ignore[attr-defined]
    (columns, rows, _), *_ = (dispatch.groups for dispatch in plan.dispatches)
    assert max(columns, rows) <= 8
    assert columns * rows >= 15_000 / 4 / 256
