"""More is asked for than a device takes in one go: calls are split, and arrays that cannot be are refused."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute import GpuBackend, Runtime, gpu_task
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendUnavailable, InvalidInput, LimitExceeded
from hybrid_compute.gpu.together import most
from hybrid_compute.gpu.work import Work
from tests.gpu import shaders
from tests.gpu.places import started

SMALL = {"max-storage-buffer-binding-size": 1 << 16, "max-buffer-size": 1 << 18}
NARROW = {"max-compute-workgroups-per-dimension": 8}


@asynccontextmanager
async def opened(limits: dict[str, int]) -> AsyncGenerator[GpuBackend]:
    """A gpu that takes no more than this, by itself: wgpu refuses what is beyond."""
    async with Runtime([backend := GpuBackend(limits=limits)]):
        try:
            backend.device  # noqa: B018  # to hear why not
        except BackendUnavailable as error:
            pytest.skip(str(error))
        yield backend


def listen(backend: GpuBackend, monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """What the device is given."""
    given: list[Work] = []
    offer = backend.device.offer
    monkeypatch.setattr(backend.device, "offer", lambda works: (given.extend(works), offer(works))[1])
    return given


def floats(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random(count, dtype=np.float32)


@pytest.mark.parametrize("way", ["gather", "map"])
@pytest.mark.parametrize(
    ("limits", "count", "pieces"),
    [(SMALL, 1000, 7), (SMALL, 16_000, 100), (NARROW, 64, 13), (NARROW, 500, 100)],
    ids=["bytes", "one at a time by bytes", "workgroups", "one at a time by workgroups"],
)
async def test_calls_that_would_be_too_large_together_are_split(
    limits: dict[str, int], count: int, pieces: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into as few as may be; each has its own answer."""
    inputs = [floats(count, seed) for seed in range(100)]
    async with opened(limits) as place:
        sent = listen(place, monkeypatch)
        async with Runtime([place]) as rt:
            if way == "map":
                found = await rt.starmap(shaders.along_many, [(x, 2.0) for x in inputs])
            else:
                found = await asyncio.gather(*(rt.run(shaders.along_many, x, 2.0) for x in inputs))
    assert len(sent) == pieces
    for x, y in zip(inputs, found, strict=True):
        np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)


async def test_an_array_that_is_too_large_is_refused_and_harms_no_other() -> None:
    """With its name, its size, how much there may be, and what to do."""
    async with opened(SMALL) as place, Runtime([place]) as rt:
        found = await asyncio.gather(
            *(rt.run(shaders.along_many, floats(count), 2.0) for count in (100, 20_000, 100)), return_exceptions=True
        )
    assert isinstance(found[1], LimitExceeded)
    for words in ("along_many: ", " has 80,000 bytes", "binds 65,536 at once", "split it"):
        assert words in str(found[1])
    for each in (found[0], found[2]):
        np.testing.assert_allclose(each, 2 * floats(100) + 1, rtol=1e-6)


async def test_an_array_may_be_as_large_as_can_be_bound() -> None:
    """Buffers are larger than what lies in them only as far as there may be such buffers."""
    limits = {"max-storage-buffer-binding-size": 70_000, "max-buffer-size": 70_000}
    x = floats(17_500)
    async with opened(limits) as place, Runtime([place]) as rt:
        array = await place.to_device(x)
        y = await rt.run(shaders.along, array, 2.0)
        np.testing.assert_allclose(await y.to_host(), 2 * x + 1, rtol=1e-6)


async def test_arrays_of_one_call_that_fit_into_no_buffer_together_are_refused() -> None:
    """With what to do: those that are on the device already take no room on the way there."""
    limits = {"max-storage-buffer-binding-size": 70_000, "max-buffer-size": 80_000}
    x, counts = np.arange(15_000, dtype=np.uint32), np.ones(15_000, np.uint32)
    async with opened(limits) as place, Runtime([place]) as rt:
        with pytest.raises(LimitExceeded, match=r"more than the device allows, 80,000 \(max-buffer-size\).*before it"):
            await rt.run(shaders.added, counts, x)
        found = await rt.run(shaders.added, counts, await place.to_device(x))
        np.testing.assert_array_equal(await found.to_host(), x + 1)


@gpu_task(wgsl=shaders.ALONG, inputs={"x": "f32[n]"}, outputs={"y": "f32[n]"}, workgroups="n - 5")
def less(x: shaders.Floats, slope: float, start: float = 1.0) -> shaders.Floats:
    return np.float32(slope) * x + np.float32(start)


async def test_fewer_workgroups_than_none_are_refused_and_harm_no_other() -> None:
    async with opened({}) as place, Runtime([place]) as rt:
        found = await asyncio.gather(*(rt.run(less, floats(count), 2.0) for count in (6, 3, 6)), return_exceptions=True)
    assert isinstance(found[1], InvalidInput)
    assert "less would need (-2, 1, 1) workgroups" in str(found[1])
    for each in (found[0], found[2]):
        np.testing.assert_allclose(each, 2 * floats(6) + 1, rtol=1e-6)


async def test_a_limit_that_there_is_not_is_told() -> None:
    """When the device is opened: it alone knows which there are."""
    async with opened({}):
        pass  # there is a gpu
    backend = GpuBackend(limits={"max-buffer-size": 1 << 20, "max-bufer-size": 1})
    with pytest.raises(ValueError, match=r"no limit 'max-bufer-size': there are .*max-buffer-size"):
        await backend.start()
    await backend.aclose()


@given(count=st.integers(1, 1000), room=st.integers(0, 1200))
def test_most_is_the_most_that_fits(count: int, room: int) -> None:
    assert most(count, lambda some: some <= room) == max(1, min(count, room))


# Arrays that a shader reads several numbers at a time.

VECTORS = """
@group(0) @binding(0) var<storage, read> x: array<{kind}>;
@group(0) @binding(1) var<storage, read_write> y: array<{kind}>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {{ if (id.x < arrayLength(&x)) {{ y[id.x] = x[id.x] + x[id.x]; }} }}
"""


@gpu_task(wgsl=VECTORS.format(kind="vec4f"), inputs={"x": "f32[n]"}, outputs={"y": "f32[n]"}, workgroups="n // 256 + 1")
def doubled(x: shaders.Floats) -> shaders.Floats:
    return x + x


@gpu_task(wgsl=VECTORS.format(kind="vec3<f32>"), inputs={"x": "f32[n, 3]"}, outputs={"y": "f32[n, 3]"}, workgroups="n")
def tripled(x: shaders.Floats) -> shaders.Floats:
    return x + x


@gpu_task(wgsl=VECTORS.format(kind="mat2x2f"), inputs={"x": "f32[n]"}, outputs={"y": "f32[n]"}, workgroups="n")
def in_squares(x: shaders.Floats) -> shaders.Floats:
    return x + x


@gpu_task(
    wgsl="""
    struct Ball { at: vec3f, colour: vec4f, weight: f32 }
    @group(0) @binding(0) var<storage, read> x: array<Ball>;
    @group(0) @binding(1) var<storage, read_write> weights: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x < arrayLength(&x)) { weights[id.x] = x[id.x].weight; }
    }
    """,
    inputs={"x": "f32[n]"},
    outputs={"weights": "f32[n // 12]"},
)
def weights_of(x: shaders.Floats) -> shaders.Floats:
    return x[8::12]


@gpu_task(
    wgsl="""
    @group(0) @binding(0) var<storage, read> x: array<f32, 8>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32, 8>;
    @compute @workgroup_size(8) fn main(@builtin(local_invocation_index) id: u32) { y[id] = x[id] * 2.0; }
    """,
    inputs={"x": "f32[n]"},
    outputs={"y": "f32[n]"},
)
def eight(x: shaders.Floats) -> shaders.Floats:
    return x + x


@pytest.mark.parametrize(
    ("task", "shape", "why"),
    [
        (
            doubled,
            (3,),
            r"doubled: x is f32\[3\], 12 bytes; .* array<vec4f>, of 16 bytes each, .* whole number of them",
        ),
        (doubled, (6,), r"doubled: x is f32\[6\], 24 bytes; .* whole number of them"),
        (in_squares, (6,), r"in_squares: x is f32\[6\], 24 bytes; .* array<mat2x2f>, of 16 bytes each"),
        (weights_of, (20,), r"weights_of: x is f32\[20\], 80 bytes; .* array<Ball>, of 48 bytes each"),
        (tripled, (3, 3), r"tripled: x is f32\[3, 3\], 36 bytes; .* array<vec3<f32>>, of 16 bytes each"),
        (eight, (7,), r"eight: x is f32\[7\], 28 bytes; .* array<f32,8>, of 4 bytes each, and needs 8 of them"),
        (eight, (0,), r"eight: x is f32\[0\], 0 bytes; .* needs 8 of them"),
    ],
)
async def test_what_a_shader_cannot_read_as_a_whole_is_refused(task: Any, shape: tuple[int, ...], why: str) -> None:
    """Before anything goes to the device, and wherever it lies."""
    x = np.ones(shape, np.float32)
    async with opened({}) as place, Runtime([place]) as rt:
        with pytest.raises(InvalidInput, match=why):
            await rt.run(task, x)
        with pytest.raises(InvalidInput, match=why):
            await rt.run(task, await place.to_device(x))
        with place.record() as g, pytest.raises(InvalidInput, match=why):
            task(g.input("x", shape))


@pytest.mark.parametrize("count", [0, 4, 64, 1000])
async def test_what_it_can_read_it_computes(count: int) -> None:
    """None at all among it: a shader is bound to one vector at least."""
    x = floats(count)
    async with opened({}) as place, Runtime([place]) as rt:
        np.testing.assert_array_equal(await rt.run(doubled, x), 2 * x)
        kept = await rt.run(doubled, await rt.run(doubled, await place.to_device(x)))
        np.testing.assert_array_equal(await kept.to_host(), 4 * x)
        with place.record() as g:
            g.returns(doubled(doubled(g.input("x", count))))
        for given in (x, await place.to_device(x)):
            np.testing.assert_array_equal(await g(x=given), 4 * x)


async def test_structs_are_read_where_they_lie() -> None:
    async with opened({}) as place, Runtime([place]) as rt:
        for count in (0, 1, 70):
            x = floats(12 * count)
            np.testing.assert_array_equal(await rt.run(weights_of, x), weights_of(x))


async def test_calls_in_a_row_are_bound_one_at_a_time() -> None:
    """So that only each of them must be small enough for the device."""
    backend = await started(limits={"max-storage-buffer-binding-size": 1 << 20})
    try:
        inputs = [np.full(25_000, number, np.float32) for number in range(50)]
        calls = [backend.run_call(Call(shaders.along, (x, 2.0))) for x in inputs]
        for x, found in zip(inputs, await asyncio.gather(*calls), strict=True):
            np.testing.assert_array_equal(found, 2 * x + 1)
    finally:
        await backend.aclose()


@pytest.mark.parametrize("task", [shaders.along, shaders.along_many])
async def test_calls_that_find_no_room_together_find_it_alone(task: Any) -> None:
    """Where much of what may be used is kept."""
    backend = await started(memory=64 << 20)
    try:
        kept = [await backend.to_device(np.zeros(1 << 20, np.float32)) for _ in range(12)]
        inputs = [np.full(16_384, number, np.float32) for number in range(150)]
        calls = [backend.run_call(Call(task, (x, 2.0))) for x in inputs]
        for x, found in zip(inputs, await asyncio.gather(*calls), strict=True):
            np.testing.assert_array_equal(found, 2 * x + 1)
        assert len(kept) == 12
    finally:
        await backend.aclose()
