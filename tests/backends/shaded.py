"""The tasks of other tests as a gpu runs them: the same promises, kept by shaders.

A shader takes arrays and numbers and gives arrays. So each twin is a gpu task, with what makes arrays of the arguments
and a value of the result. What a shader cannot do has no twin: it raises nothing, waits for nobody, and sees no files.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_compute import GpuBackend, gpu_task
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.gpu.adapters import choose
from hybrid_compute.tasks import AnyTask
from tests.faults.watching import until

Words = NDArray[np.uint32]
Whole = NDArray[np.int32]


@gpu_task(
    name="contract.add",
    wgsl="""
    struct Terms { a: i32, b: i32 }
    @group(0) @binding(0) var<storage, read_write> sum: array<i32>;
    @group(0) @binding(1) var<uniform> terms: Terms;
    @compute @workgroup_size(1) fn main() { sum[0] = terms.a + terms.b; }
    """,
    inputs={},
    outputs={"sum": "i32[]"},
)
def add(a: int, b: int = 0) -> Whole:
    return np.array(a + b, np.int32)


@gpu_task(
    name="contract.echo",
    wgsl="""
    @group(0) @binding(0) var<storage, read> value: array<u32>;
    @group(0) @binding(1) var<storage, read_write> back: array<u32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
        for (var at = id.x; at < arrayLength(&value); at += groups.x * 64) { back[at] = value[at]; }
    }
    """,
    inputs={"value": "u32[n]"},
    outputs={"back": "u32[n]"},
)
def echo(value: Words) -> Words:
    return value


@gpu_task(
    name="contract.hold",
    wgsl="""
    struct Wait { turns: u32 }
    @group(0) @binding(0) var<storage, read_write> reached: array<f32>;
    @group(0) @binding(1) var<uniform> wait: Wait;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3u) {
        var value = f32(id.x);
        for (var round = 0u; round < 1000u; round++) {
            for (var turn = 0u; turn < wait.turns; turn++) { value = value * 1.0001 + 1.0; }
        }
        if (id.x == 0u) { reached[0] = value; }
    }
    """,
    inputs={},
    outputs={"reached": "f32[1]"},
    workgroups=200,
)
def hold(turns: int) -> NDArray[np.float32]:
    """Take 0.15 s of an adapter in software, which ends all loops early, and the like of another."""
    raise NotImplementedError("it is for the gpu alone")


@gpu_task(
    name="abs",
    wgsl="""
    @group(0) @binding(0) var<storage, read> x: array<i32>;
    @group(0) @binding(1) var<storage, read_write> y: array<i32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x < arrayLength(&x)) { y[id.x] = abs(x[id.x]); }
    }
    """,
    inputs={"x": "i32[n]"},
    outputs={"y": "i32[n]"},
    batchable=True,
)
def absolute(x: Whole) -> Whole:
    return np.abs(x)


@gpu_task(
    name="secret",
    private=True,
    wgsl="""
    @group(0) @binding(0) var<storage, read_write> word: array<u32>;
    @compute @workgroup_size(1) fn main() { word[0] = 0x61736573; word[1] = 0x656d; }
    """,
    inputs={},
    outputs={"word": "u32[2]"},
    workgroups=1,
)
def secret() -> Words:
    return np.frombuffer(b"sesame\0\0", np.uint32)


@dataclass(frozen=True)
class Twin:
    """A gpu task, what it is given for the arguments of the other, and what its result means."""

    task: AnyTask
    given: Callable[..., tuple[Any, ...]]
    meaning: Callable[[Any, Any], Any]
    """Of the result, and of what was given first."""


def same(*args: Any) -> tuple[Any, ...]:
    return args


def as_words(value: Any) -> tuple[Words]:
    """The words of a whole number of 64 bits, of a float or of bytes, as many as there are of these."""
    if isinstance(value, bytes):
        return (np.frombuffer(value, np.uint32),)
    return (np.array([value], np.int64 if isinstance(value, int) else np.float64).view(np.uint32),)


def as_was(found: Words, value: Any) -> Any:
    if isinstance(value, bytes):
        return found.tobytes()
    return found.view(np.int64 if isinstance(value, int) else np.float64)[0].item()


def as_number(found: Whole, _: Any) -> int:
    return int(found.item())


TWINS = {
    each.task.name: each
    for each in (
        Twin(add, same, as_number),
        Twin(echo, as_words, as_was),
        Twin(hold, lambda folder: (65_000,), lambda found, _: "done"),
        Twin(absolute, lambda x: (np.array([x], np.int32),), as_number),
        Twin(secret, same, lambda found, _: found.tobytes().rstrip(b"\0").decode()),
    )
}


class Twins(GpuBackend):
    """A gpu that runs, for each task that it knows, the one of the same name above."""

    def can_run(self, task: AnyTask, /) -> bool:
        twin = TWINS.get(task.name)
        return super().can_run(twin.task if twin is not None else task)

    async def run_call(self, call: Call, /) -> Any:
        twin = TWINS[call.task.name]
        running = asyncio.ensure_future(super().run_call(_for(twin, call, twin.given(*call.args))))
        try:
            if twin.task is hold:
                await self._say_that_it_has_begun(running, call.args[0])
            return twin.meaning(await running, call.args[0] if call.args else None)
        finally:
            running.cancel()

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        twin = TWINS[call.task.name]
        found = await super().run_batch(_for(twin, call, ()), [twin.given(*each) for each in inputs], limit)
        return [twin.meaning(each, args[0]) for each, args in zip(found, inputs, strict=True)]

    async def _say_that_it_has_begun(self, running: asyncio.Future[Any], folder: str) -> None:
        """What a shader cannot: once the device is at it."""
        await until(lambda: running.done() or self.device.is_busy)
        if not running.done():
            Path(folder, "begun").touch()


def _for(twin: Twin, call: Call, args: tuple[Any, ...]) -> Call:
    made = Call(twin.task, args, call.kwargs)
    made.timeout, made.deadline = call.timeout, call.deadline
    return made


@functools.cache
def _why_none() -> str:
    try:
        choose()
    except BackendUnavailable as error:
        return str(error)
    return ""


def make_gpu() -> Twins:
    """The gpu with these tasks. Where there is none the test is skipped, with the reason."""
    if _why_none():
        pytest.skip(_why_none())
    return Twins()
