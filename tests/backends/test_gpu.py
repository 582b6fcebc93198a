"""The gpu as a place among others: who gets a call, how calls go together, and what happens when it fails."""

import asyncio
import dataclasses
import re
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from hybrid_compute import BlockingRuntime, GpuBackend, LocalBackend, Runtime, WorkerBackend, gpu_task, task
from hybrid_compute.calls import Call
from hybrid_compute.errors import (
    BackendClosed,
    BackendUnavailable,
    InvalidInput,
    LimitExceeded,
    NoBackendAvailable,
    TaskFailed,
    TaskTimeout,
)
from hybrid_compute.gpu import GpuArray
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.frame import Frame
from hybrid_compute.gpu.watch import Watch
from hybrid_compute.gpu.work import Work
from hybrid_compute.testing import ManualClock
from tests.faults.watching import until
from tests.gpu import shaders
from tests.gpu.places import started


@pytest.fixture
async def place() -> AsyncIterator[GpuBackend]:
    """The gpu, open; skipped where there is none, and the reason is told."""
    backend = await started()
    yield backend
    await backend.aclose()


def floats(count: int) -> Any:
    return np.random.default_rng(count).random(count, dtype=np.float32)


class Lookalike:
    """Has what is asked of arrays first, and is none."""

    dtype, shape, ndim = np.dtype("float32"), (4,), 1


@pytest.fixture
def sent(place: GpuBackend, monkeypatch: pytest.MonkeyPatch) -> list[list[Work]]:
    """What the device was given, each time."""
    given: list[list[Work]] = []
    offer = place.device.offer

    def listening(works: list[Work]) -> bool:
        given.append(list(works))
        return offer(works)

    monkeypatch.setattr(place.device, "offer", listening)
    return given


# Who gets a call.


async def test_a_task_runs_on_the_gpu_and_everywhere_else(place: GpuBackend) -> None:
    """The same call, the same answer."""
    x = floats(100)
    async with Runtime([place, LocalBackend(), WorkerBackend(1)]) as rt:
        for strategy in ("gpu", "local", "worker"):
            found = await rt.options(strategy=strategy).run(shaders.along, x, slope=2.0)
            np.testing.assert_allclose(found, 2 * x + 1, rtol=1e-6)


async def test_an_adapter_in_software_is_the_last_choice(place: GpuBackend) -> None:
    """`auto` does not take it for speed."""
    if not place._facts.software:
        pytest.skip("this is a real gpu")
    async with Runtime([place, LocalBackend(), WorkerBackend(1)]) as rt:
        assert rt.explain(shaders.along, floats(10), 2.0).order == ("worker", "local", "gpu")


async def test_where_there_is_no_gpu_the_twin_runs_elsewhere() -> None:
    """And it is said why."""
    async with Runtime([GpuBackend("no such adapter"), LocalBackend()]) as rt:
        np.testing.assert_array_equal(await rt.run(shaders.along, np.ones(3, np.float32), 2.0), np.full(3, 3))
        assert "'no such adapter'" in rt.explain(shaders.along, floats(3), 2.0).refusals["gpu"]
    async with Runtime([GpuBackend("no such adapter")]) as rt:
        with pytest.raises(NoBackendAvailable, match="none is called 'no such adapter'"):
            await rt.run(shaders.along, floats(3), 2.0)


async def test_a_shader_that_needs_what_the_gpu_lacks_runs_elsewhere(place: GpuBackend) -> None:
    """It is no fault of the shader."""

    def halves(x: Any) -> Any:
        return x / 2

    text = """
    enable f16;
    @group(0) @binding(0) var<storage, read> x: array<f16>;
    @group(0) @binding(1) var<storage, read_write> y: array<f16>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x < arrayLength(&x)) { y[id.x] = x[id.x] / 2h; }
    }
    """
    halved = gpu_task(wgsl=text, inputs={"x": "f16[n]"}, outputs={"y": "f16[n]"})(halves)
    assert place._known is not None
    place._known = dataclasses.replace(place._known, features=place._known.features - {"shader-f16"})
    x = np.arange(4, dtype=np.float16)
    async with Runtime([place, LocalBackend()]) as rt:
        np.testing.assert_array_equal(await rt.run(halved, x), x / 2)
        assert "its shader needs shader-f16" in rt.explain(halved, x).refusals["gpu"]
        assert "gpu" not in rt.explain(shaders.along, floats(4), 2.0).refusals


async def test_only_tasks_with_a_shader_run_there(place: GpuBackend) -> None:
    @task
    def plain() -> None:
        pass

    async with Runtime([place]) as rt:
        with pytest.raises(NoBackendAvailable, match="it runs only what @gpu_task made"):
            await rt.run(plain)


def test_ordinary_code_can_use_it() -> None:
    with BlockingRuntime([GpuBackend(), LocalBackend()]) as rt:
        x = floats(10)
        np.testing.assert_allclose(rt.run(shaders.along, x, 2.0), 2 * x + 1, rtol=1e-6)


# Calls that go together.


async def test_calls_of_one_turn_go_together(place: GpuBackend, sent: list[list[Work]]) -> None:
    """In one frame; each with its own answer."""
    inputs = [floats(count) for count in range(50)]
    async with Runtime([place]) as rt:
        found = await asyncio.gather(*(rt.run(shaders.along, x, 2.0) for x in inputs))
    assert [len(works) for works in sent] == [50]
    for x, y in zip(inputs, found, strict=True):
        np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)


@pytest.mark.parametrize("way", ["gather", "map"])
async def test_calls_of_a_batchable_task_become_one(way: str, place: GpuBackend, sent: list[list[Work]]) -> None:
    """One dispatch over joined inputs."""
    inputs = [floats(64) + number for number in range(50)]
    async with Runtime([place]) as rt:
        if way == "gather":
            found = await asyncio.gather(*(rt.run(shaders.along_many, x, 2.0, 3.0) for x in inputs))
        else:
            found = await rt.starmap(shaders.along_many, [(x, 2.0, 3.0) for x in inputs])
    assert [len(works) for works in sent] == [1]
    for x, y in zip(inputs, found, strict=True):
        np.testing.assert_allclose(y, 2 * x + 3, rtol=1e-6)


@pytest.mark.parametrize("odd", [(floats(3), 2.0), (floats(64), 2.5), (floats(64).astype("float64"), 2.0), ("x", 2.0)])
async def test_calls_that_differ_are_not_joined(odd: tuple[Any, float], place: GpuBackend) -> None:
    """Each is answered for itself; one that does not fit fails alone."""
    calls = [(floats(64), 2.0), odd, (floats(64), 2.0)]
    async with Runtime([place]) as rt:
        found = await asyncio.gather(*(rt.run(shaders.along_many, *each) for each in calls), return_exceptions=True)
    for (x, slope), y in zip(calls, found, strict=True):
        if getattr(x, "dtype", None) != np.float32:
            assert isinstance(y, InvalidInput)
        else:
            np.testing.assert_allclose(y, slope * x + 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        ([(np.ones((3, 3), np.float32), 2.0)] * 3, r"has the shape \(3, 3\)"),
        ([(floats(9), 2.0), (floats(9), np.ones(2)), (floats(9), None)], "is a f32, and "),
        ([(Lookalike(), 2.0)] * 2, "must be an array of float32, not Lookalike"),
    ],
    ids=["none fits", "what cannot be compared", "what only looks like an array"],
)
async def test_calls_that_cannot_be_made_ready_are_answered(
    calls: list[tuple[Any, Any]], why: str, place: GpuBackend
) -> None:
    """Whatever comes up while they are joined: nobody waits for ever, and only who was wrong is told so."""
    async with Runtime([place]) as rt:
        found = await asyncio.gather(*(rt.run(shaders.along_many, *each) for each in calls), return_exceptions=True)
    told = [each for each in found if isinstance(each, InvalidInput)]
    assert len(told) == sum(type(slope) is not float or x.shape != (9,) for x, slope in calls)
    for each in told:
        assert re.search(why, str(each))


@pytest.mark.parametrize("way", ["gather", "map"])
async def test_calls_with_nothing_in_them_are_answered_too(way: str, place: GpuBackend) -> None:
    nothing = np.empty(0, np.float32)
    async with Runtime([place]) as rt:
        if way == "map":
            found = await rt.starmap(shaders.along_many, [(nothing, 2.0)] * 5)
        else:
            found = await asyncio.gather(*(rt.run(shaders.along_many, nothing, 2.0) for _ in range(5)))
    assert [each.shape for each in found] == [(0,)] * 5


async def test_a_batch_fails_as_a_whole(place: GpuBackend) -> None:
    async with Runtime([place]) as rt:
        with pytest.raises(InvalidInput, match="float64"):
            await rt.starmap(shaders.along, [(floats(3), 1.0), (np.zeros(3), 1.0)])
        assert await rt.starmap(shaders.along, []) == []
        (only,) = await rt.starmap(shaders.along, [(floats(3), 1.0)])
        np.testing.assert_allclose(only, floats(3) + 1, rtol=1e-6)


# Arrays that stay.


async def test_what_begins_on_the_device_stays_there(place: GpuBackend) -> None:
    x = floats(1000)
    async with Runtime([place, LocalBackend()], strategy="gpu") as rt:
        array = await place.to_device(x)
        for _ in range(10):
            array = await rt.run(shaders.along, array, 1.5)
        assert isinstance(array, GpuArray)
        expected = x
        for _ in range(10):
            expected = shaders.along(expected, 1.5)
        np.testing.assert_allclose(await array.to_host(), expected, rtol=1e-5)


async def test_a_worker_gets_it_as_an_ordinary_array(place: GpuBackend) -> None:
    """It is fetched on the way, so that a call which goes elsewhere is answered all the same."""
    async with Runtime([place, WorkerBackend(1)], strategy="worker") as rt:
        found = await rt.run(shaders.along, await place.to_device(floats(10)), 2.0)
        np.testing.assert_allclose(found, 2 * floats(10) + 1, rtol=1e-6)


async def test_its_twin_gets_it_as_an_ordinary_array(place: GpuBackend) -> None:
    """Wherever that runs, so that it can reckon with it; once the device has gone with it, it is said so."""
    x = floats(30).reshape(10, 3)
    array = await place.to_device(x)
    async with Runtime([LocalBackend()]) as rt:
        for low, high in (await rt.run(shaders.split_up, array), await rt.run(shaders.split_up, x=array)):
            np.testing.assert_array_equal(low, -x)
            np.testing.assert_array_equal(high, x.T.astype(np.uint32))
        await place.aclose()
        with pytest.raises(TaskFailed, match="BackendClosed: this array went with its device"):
            await rt.run(shaders.split_up, array)


# What fails.


def hurry(place: GpuBackend) -> None:
    """From here on calls have little time, and somebody looks soon."""
    place._watch.end()
    place._watch = Watch(place._look, "hybrid-compute-gpu-watch")
    place.time_limit = 0.05


async def test_a_shader_that_does_not_end_is_given_up(place: GpuBackend) -> None:
    """Who asked for it is told; what came later is done by the device that was opened in its place."""
    hurry(place)
    with pytest.raises(LimitExceeded, match=r"did not end within 0\.05 s") as caught:
        await place.run_call(Call(shaders.busy, (np.ones(1, np.float32),)))
    assert caught.value.started
    place.time_limit = 30.0
    found = await place.run_call(Call(shaders.along, (floats(10), 2.0)))
    np.testing.assert_allclose(found, 2 * floats(10) + 1, rtol=1e-6)


async def test_what_is_handed_on_is_watched_as_well(place: GpuBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it does not end on the next device either, who waits is told, though nothing more was asked for."""
    device, waits, released = place.device, threading.Event(), threading.Event()
    finish = Frame.finish
    monkeypatch.setattr(Frame, "finish", lambda frame: (waits.set(), released.wait(60), finish(frame))[2])
    try:
        one = asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(10), 2.0))))
        await until(waits.is_set)
        other = asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(10), 2.0))))
        await until(lambda: not device._inbox.empty())
        hurry(place)
        monkeypatch.setattr("hybrid_compute.gpu.device.PATIENCE", 0.0)  # the next one does not wait for this one
        place._give_up(device)
        found = await asyncio.wait_for(asyncio.gather(one, other, return_exceptions=True), 20)
        assert [type(each) for each in found] == [LimitExceeded] * 2
        assert place.device is not device
    finally:
        released.set()
        assert device.join(20)


@pytest.mark.parametrize("way", ["to_device", "to_host", "recording"])
async def test_whatever_is_asked_of_a_device_is_watched(
    way: str, place: GpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only calls: whoever waits for one that is stuck is told so."""
    device, released, x = place.device, threading.Event(), floats(4)
    array = await place.to_device(x)
    with place.record() as g:
        g.returns(shaders.along(g.input("x", 4), 2.0))
    ways = {"to_device": lambda: place.to_device(x), "to_host": array.to_host, "recording": lambda: g(x=x)}
    hurry(place)
    finish = Frame.finish
    monkeypatch.setattr(Frame, "finish", lambda frame: (released.wait(60), finish(frame))[1])
    try:
        with pytest.raises(LimitExceeded, match=r"did not end within 0\.05 s"):
            await asyncio.wait_for(ways[way](), 20)
    finally:
        released.set()
        assert device.join(20)


async def test_what_lies_on_a_device_that_is_given_up_is_gone(
    place: GpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for who wanted it back, and was waiting behind what did not end."""
    device, held, released = place.device, threading.Event(), threading.Event()
    arrays = [await place.to_device(floats(count)) for count in (1000, 1 << 18)]
    finish = Frame.finish
    monkeypatch.setattr(Frame, "finish", lambda frame: (held.set(), released.wait(60), finish(frame))[2])
    stuck = asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(10), 2.0))))
    await until(held.is_set)
    back = [asyncio.ensure_future(array.to_host()) for array in arrays]
    await asyncio.sleep(0)
    place._give_up(device)
    released.set()
    with pytest.raises(LimitExceeded):
        await stuck
    for each in back:
        with pytest.raises(BackendClosed, match="lies on another device, or on one that is gone"):
            await asyncio.wait_for(each, 20)
    assert device.join(20)


async def test_a_device_that_is_lost_is_opened_again(place: GpuBackend) -> None:
    """Calls that it had not begun do not notice. What lay on it is gone."""
    array = await place.to_device(floats(10))
    lost = place.device
    lost._wgpu.destroy()
    found = await asyncio.gather(*(place.run_call(Call(shaders.along, (floats(10), 2.0))) for _ in range(5)))
    for each in found:
        np.testing.assert_allclose(each, 2 * floats(10) + 1, rtol=1e-6)
    assert place.device is not lost
    with pytest.raises(BackendClosed, match="went with its device"):
        await place.run_call(Call(shaders.along, (array, 2.0)))


async def test_a_gpu_that_loses_each_device_at_once_is_given_up(
    place: GpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls go elsewhere, and it says why."""

    class Lost(Device):
        def _open(self) -> Any:
            opened = super()._open()
            opened.wgpu.destroy()
            return opened

    monkeypatch.setattr("hybrid_compute.backends.gpu.Device", Lost)
    backend = GpuBackend()
    await backend.start()
    why = "4 devices in a row were lost before they had done anything"
    try:
        with pytest.raises(BackendUnavailable, match=why) as caught:
            await backend.run_call(Call(shaders.along, (floats(10), 2.0)))
        assert not caught.value.started
        assert not backend.can_run(shaders.along)
        assert backend.why_not(shaders.along) == why
    finally:
        await backend.aclose()


async def test_a_call_whose_time_is_up_is_answered_at_once() -> None:
    """The device may go on with it; nobody waits for that."""
    clock = ManualClock()
    backend = GpuBackend()
    backend.clock = clock
    await backend.start()
    try:
        call = Call(shaders.busy, (np.ones(1, np.float32),))
        call.deadline = clock.time() + 5
        running = asyncio.ensure_future(backend.run_call(call))
        await until(lambda: backend.device.is_busy)
        clock.advance(5)
        with pytest.raises(TaskTimeout):
            await running
    except BackendUnavailable as error:
        pytest.skip(str(error))
    finally:
        await backend.aclose()


async def test_closing_answers_every_call(place: GpuBackend) -> None:
    pending = [asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(9), 2.0)))) for _ in range(20)]
    await asyncio.sleep(0)
    await place.aclose()
    await place.aclose()
    for found in await asyncio.gather(*pending, return_exceptions=True):
        assert isinstance(found, np.ndarray | BackendClosed)
    with pytest.raises(BackendClosed):
        await place.run_call(Call(shaders.along, (floats(9), 2.0)))


async def test_closing_answers_also_what_a_stuck_device_was_given(
    place: GpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recordings and arrays on their way, begun or not; it has a moment to come to an end."""
    monkeypatch.setattr("hybrid_compute.backends.gpu.CLOSING", 0.05)
    device, released, x = place.device, threading.Event(), floats(4)
    finish = Frame.finish
    monkeypatch.setattr(Frame, "finish", lambda frame: (released.wait(60), finish(frame))[1])
    with place.record() as g:
        g.returns(shaders.along(g.input("x", 4), 2.0))
    pending: list[asyncio.Future[Any]] = [asyncio.ensure_future(g(x=x))]
    await until(lambda: device.is_busy)
    pending += [asyncio.ensure_future(each) for each in (place.to_device(x), g(x=x))]
    await asyncio.sleep(0)
    try:
        await place.aclose()
        found = await asyncio.wait_for(asyncio.gather(*pending, return_exceptions=True), 20)
        assert [type(each) for each in found] == [BackendClosed] * 3
        assert found[0].started
    finally:
        released.set()
        assert device.join(20)


def test_no_time_at_all_is_no_limit() -> None:
    with pytest.raises(ValueError, match="time_limit must be a positive number"):
        GpuBackend(time_limit=0)
    with pytest.raises(ValueError, match="memory must be a positive number"):
        GpuBackend(memory=-5)


async def test_a_start_that_was_broken_off_is_no_end(place: GpuBackend) -> None:
    """Whoever starts it again waits for the same device."""
    backend = GpuBackend()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await backend.start()
    with pytest.raises(BackendUnavailable, match="it was not started to the end"):
        await backend.run_call(Call(shaders.along, (floats(10), 2.0)))
    await backend.start()
    found = await backend.run_call(Call(shaders.along, (floats(10), 2.0)))
    np.testing.assert_allclose(found, 2 * floats(10) + 1, rtol=1e-6)
    await backend.aclose()


async def test_one_that_was_not_started_says_so() -> None:
    backend = GpuBackend()
    with pytest.raises(BackendUnavailable, match="it was not started"):
        await backend.run_batch(Call(shaders.along), [(floats(3), 2.0)], None)


# Event loops.


def test_an_event_loop_that_was_stopped_holds_up_no_other(ready: GpuBackend) -> None:
    """Calls that it never sent go with it."""

    async def stopped() -> None:
        asyncio.get_running_loop().stop()
        await ready.run_call(Call(shaders.along, (floats(10), 2.0)))

    loop = asyncio.new_event_loop()
    calling = loop.create_task(stopped())
    loop.run_forever()
    calling.cancel()
    loop.run_until_complete(asyncio.gather(calling, return_exceptions=True))
    loop.close()
    found = asyncio.run(asyncio.wait_for(ready.run_call(Call(shaders.along, (floats(10), 2.0))), 20))
    np.testing.assert_allclose(found, 2 * floats(10) + 1, rtol=1e-6)


def test_two_event_loops_at_once(ready: GpuBackend) -> None:
    """Each gets its own answers, in its own thread."""

    async def many(size: int) -> None:
        x = floats(size)
        for _ in range(30):
            calls = (ready.run_call(Call(shaders.along_many, (x, float(slope)))) for slope in (size, size, 1))
            for slope, found in zip((size, size, 1), await asyncio.gather(*calls), strict=True):
                np.testing.assert_allclose(found, slope * x + 1, rtol=1e-6)

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(asyncio.run, many(size), debug=True) for size in (10, 20)]:
            each.result(60)


@pytest.fixture
def ready() -> Iterator[GpuBackend]:
    """The gpu, open, and for any event loop."""
    backend = GpuBackend()
    asyncio.run(backend.start())
    try:
        backend.device  # noqa: B018  # to hear why not
    except BackendUnavailable as error:
        pytest.skip(str(error))
    yield backend
    asyncio.run(backend.aclose())
