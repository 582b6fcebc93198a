"""Who is blamed for a device that does not come to an end, and who goes on."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hybrid_compute import GpuBackend, Runtime
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendUnavailable, LimitExceeded, NoBackendAvailable
from hybrid_compute.gpu.blame import acquitted, blame
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.frame import Frame
from hybrid_compute.gpu.opening import open_device
from hybrid_compute.gpu.pipelines import Pipelines
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.gpu.work import GUILTY, Kernel, Work
from tests.faults.watching import until
from tests.gpu import shaders

LATE = LimitExceeded("it took too long", backend="gpu")


def floats(count: int) -> Any:
    return np.random.default_rng(count).random(count, dtype=np.float32)


def nothing(count: int) -> list[Work]:
    return [Work((), (), (), Waiting()) for _ in range(count)]


def outcome(work: Work) -> BaseException | None:
    """What who waits was told; None if nothing yet."""
    assert isinstance(work.reply, Waiting)
    return work.reply.future.exception() if work.reply.future.done() else None


def test_one_that_was_alone_is_guilty() -> None:
    (alone,) = nothing(1)
    assert list(blame([alone], LATE)) == []
    assert outcome(alone) is LATE
    assert LATE.started


def test_of_several_nobody_is_told_before_it_was_alone() -> None:
    works = nothing(3)
    assert acquitted(blame(works, LATE), LATE) == works
    assert [outcome(work) for work in works] == [None] * 3


def test_so_many_guilty_speak_for_all_that_were_with_them() -> None:
    """Or the last of a thousand would be told after a thousand times the limit. Others are not touched."""
    works, (other,) = nothing(GUILTY + 2), nothing(1)
    blame(works, LATE)
    for number in range(GUILTY - 1):
        blame([works[number]], LATE)
    rest = [other, *works[GUILTY:]]
    assert acquitted(rest, LATE) == rest
    blame([works[GUILTY - 1]], LATE)
    assert acquitted(rest, LATE) == [other]
    assert [outcome(work) for work in works] == [LATE] * len(works)


class Driver:
    """Is stuck with every frame in which a task has `evil` for a slope, until all is over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.released = threading.Event()
        self.devices: list[Device] = []
        self._stuck: set[Frame] = set()
        finish, opened = Frame.finish, Device.open

        def finishing(frame: Frame) -> Any:
            if any(EVIL in getattr(place, "data", b"") for work in frame.works for place in work.places):
                self._stuck.add(frame)
                self.released.wait(60)
            return finish(frame)

        def opening(device: Device) -> Any:
            self.devices.append(device)
            return opened(device)

        monkeypatch.setattr(Frame, "finish", finishing)
        monkeypatch.setattr(Device, "open", opening)

    def is_stuck(self, device: Device) -> bool:
        return any(frame in self._stuck for frame in device._frames)


EVIL = np.float32(666).tobytes()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made = Driver(monkeypatch)
    yield made
    made.released.set()
    for device in made.devices:
        assert device.join(30 if device.lost else 0) or not device.lost


async def watched(place: GpuBackend, driver: Driver, calls: list[asyncio.Future[Any]]) -> list[Any]:
    """What became of these, while somebody looks whether the device gets on."""
    while not all(each.done() for each in calls):
        device = place._device
        assert device is not None
        await until(lambda: all(each.done() for each in calls) or driver.is_stuck(device))  # noqa: B023
        if driver.is_stuck(device):
            place._give_up(device)
            await asyncio.sleep(0)  # for the replies
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("guilty", [{1}, {0, 3}])
async def test_only_the_guilty_fails_of_calls_that_went_together(
    guilty: set[int], place: GpuBackend, driver: Driver
) -> None:
    """Whatever came after them goes on as well."""
    sizes = [10, 20, 30, 40]  # of different shapes, so that each is a work of its own
    calls = [
        asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(size), 666.0 if number in guilty else 2.0))))
        for number, size in enumerate(sizes)
    ]
    await until(lambda: driver.is_stuck(place.device))
    later = asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(50), 3.0))))
    found = await watched(place, driver, [*calls, later])
    for number, size in enumerate(sizes):
        if number in guilty:
            assert isinstance(found[number], LimitExceeded)
        else:
            np.testing.assert_allclose(found[number], 2 * floats(size) + 1, rtol=1e-6)
    np.testing.assert_allclose(found[-1], 3 * floats(50) + 1, rtol=1e-6)
    assert len(driver.devices) == 1 + len(guilty)  # that all were given to again, and one after each of the guilty


@pytest.mark.parametrize("task", [shaders.along, shaders.along_many])
async def test_only_the_guilty_fails_of_calls_of_one_kind(task: Any, place: GpuBackend, driver: Driver) -> None:
    """Though they went in one row, or as one."""
    slopes = [2.0, 666.0, 2.0, 2.0]
    if task is shaders.along_many:
        slopes = [666.0] * 4  # what is joined has one slope, so that all of them are guilty
    calls = [asyncio.ensure_future(place.run_call(Call(task, (floats(10), slope)))) for slope in slopes]
    found = await watched(place, driver, calls)
    for slope, each in zip(slopes, found, strict=True):
        if slope == 2.0:
            np.testing.assert_allclose(each, 2 * floats(10) + 1, rtol=1e-6)
        else:
            assert isinstance(each, LimitExceeded)
    assert len(driver.devices) <= 1 + GUILTY


async def test_the_one_before_it_is_known_to_a_successor(place: GpuBackend, driver: Driver) -> None:
    """So that calls have their time when the gpu is free."""
    device = place.device
    call = asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(9), 666.0))))
    await watched(place, driver, [call])
    assert place.device._before is device


async def test_so_many_devices_that_are_stuck_are_enough(
    place: GpuBackend, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a thread, and a part of the gpu."""
    monkeypatch.setattr("hybrid_compute.backends.gpu.STUCK", 2)
    for _ in range(3):
        call = asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(9), 666.0))))
        (found,) = await watched(place, driver, [call])
        assert isinstance(found, LimitExceeded)
    with pytest.raises(BackendUnavailable, match="3 devices were given up, and have not come to an end since"):
        await place.run_call(Call(shaders.along, (floats(9), 2.0)))


async def test_a_frame_that_cannot_be_launched_is_noticed(place: GpuBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver may be stuck there as well; what is laid out by two devices is laid out twice."""
    held, released, launch = threading.Event(), threading.Event(), Frame._fill
    device = place.device

    def filling(frame: Frame, works: Any) -> None:
        if frame in device._frames:
            held.set()
            released.wait(60)
        launch(frame, works)

    monkeypatch.setattr(Frame, "_fill", filling)
    monkeypatch.setattr("hybrid_compute.gpu.progress.PATIENCE", 0.0)
    sizes = [10, 2000, 300]
    calls = [asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(size), 2.0)))) for size in sizes]
    try:
        await until(held.is_set)
        place._look()
        for size, found in zip(sizes, await asyncio.wait_for(asyncio.gather(*calls), 30), strict=True):
            np.testing.assert_allclose(found, 2 * floats(size) + 1, rtol=1e-6)
        assert place.device is not device
    finally:
        released.set()
        assert device.join(30)


async def test_who_is_under_way_is_not_blamed_for_who_cannot_begin(
    place: GpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are suspected, and only one of them takes a device with it when it is alone."""
    held, released, fill, stuck = threading.Event(), threading.Event(), Frame._fill, list[Device]()

    def filling(frame: Frame, works: Any) -> None:
        if any(EVIL in getattr(each, "data", b"") for work in works for each in work.places):
            stuck.append(place.device)
            held.set()
            released.wait(60)
        fill(frame, works)

    finish = Frame.finish
    monkeypatch.setattr(Frame, "_fill", filling)
    monkeypatch.setattr(Frame, "finish", lambda frame: (place.device in stuck and released.wait(60), finish(frame))[1])
    monkeypatch.setattr(Device, "_frame", 1)  # each call has a frame of its own
    good, evil = (
        asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(size), slope))))
        for size, slope in ((10, 2.0), (20, 666.0))
    )
    devices = list[Device]()
    try:
        while not evil.done():
            await until(lambda: evil.done() or place.device in stuck)
            if place.device in stuck:
                devices.append(place.device)
                place._give_up(place.device)
                await asyncio.sleep(0)
        with pytest.raises(LimitExceeded):
            await evil
        np.testing.assert_allclose(await good, 2 * floats(10) + 1, rtol=1e-6)
        assert len(devices) == 2
    finally:
        released.set()
        for device in devices:
            assert device.join(30)


async def test_two_devices_lay_out_the_same_calls(place: GpuBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was given up goes on with it while the other computes, and each has places of its own."""
    held, computes, laid_out = threading.Event(), threading.Event(), threading.Event()
    lay_out, finish, device = Frame._lay_out, Frame.finish, place.device

    def laying_out(frame: Frame, works: Any) -> None:
        if frame not in device._frames:
            lay_out(frame, works)
            return
        held.set()
        computes.wait(60)
        try:
            lay_out(frame, [*reversed(works)])  # so that all of it lies elsewhere
        finally:
            laid_out.set()

    def finishing(frame: Frame) -> Any:
        computes.set()
        laid_out.wait(60)
        return finish(frame)

    for _ in device._frames:  # which have room now for what comes
        await place.run_call(Call(shaders.along, (floats(5000), 2.0)))
    monkeypatch.setattr(Frame, "_lay_out", laying_out)
    monkeypatch.setattr(Frame, "finish", finishing)
    sizes = [10, 2000, 300]
    calls = [asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(size), 2.0)))) for size in sizes]
    await until(held.is_set)
    place._give_up(device)
    for size, found in zip(sizes, await asyncio.wait_for(asyncio.gather(*calls), 30), strict=True):
        np.testing.assert_allclose(found, 2 * floats(size) + 1, rtol=1e-6)
    assert device.join(30)


async def test_what_is_made_while_a_device_is_replaced_goes_to_the_next(
    place: GpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the one before it was still there when somebody looked."""
    device = place.device
    place._give_up(device)
    successor, place._device = place._device, device
    offer = device.offer
    monkeypatch.setattr(device, "offer", lambda works: (setattr(place, "_device", successor), offer(works))[1])
    works = shaders.along.fn.works([(floats(9), 2.0, 1.0)], place._facts, lambda *_: Waiting())  # type: ignore[attr-defined]
    place._submit(works)
    found = await asyncio.to_thread(works[0].reply.future.result, 30)
    np.testing.assert_allclose(found, 2 * floats(9) + 1, rtol=1e-6)
    assert device.join(30)


async def test_a_successor_that_cannot_be_opened_is_not_the_last(
    place: GpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drivers need a moment after a crash."""
    opened: list[object] = []

    def opening(*args: Any, **kwargs: Any) -> Any:
        opened.append(args)
        if len(opened) == 1:
            raise BackendUnavailable("not ready yet", backend="gpu")
        return open_device(*args, **kwargs)

    monkeypatch.setattr("hybrid_compute.gpu.opening.open_device", opening)
    await place.run_call(Call(shaders.along, (floats(9), 2.0)))
    place.device._wgpu.destroy()
    found = await place.run_call(Call(shaders.along, (floats(9), 2.0)))
    np.testing.assert_allclose(found, 2 * floats(9) + 1, rtol=1e-6)
    assert len(opened) == 2


async def test_who_has_just_begun_is_not_blamed(place: GpuBackend, driver: Driver) -> None:
    """What was late has come to its end in the meantime."""
    device = place.device
    call = asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(9), 666.0))))
    await until(lambda: driver.is_stuck(device))
    place._give_up(device, 30.0)
    assert place.device is device
    driver.released.set()
    np.testing.assert_allclose(await call, 666 * floats(9) + 1, rtol=1e-6)


async def test_a_shader_that_is_not_compiled_for_ever(place: GpuBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who needs it is told what the driver was at; others, earlier and later, go on with another device."""
    monkeypatch.setattr("hybrid_compute.gpu.progress.PATIENCE", 0.0)
    released, stuck, compiled = threading.Event(), threading.Event(), Pipelines._compiled

    def compiling(pipelines: Pipelines, kernel: Kernel) -> Any:
        if kernel.name == "split_up":
            stuck.set()
            released.wait(60)
        return compiled(pipelines, kernel)

    monkeypatch.setattr(Pipelines, "_compiled", compiling)
    device = place.device
    x = floats(30).reshape(10, 3)
    calls = [(shaders.along, (floats(9), 2.0)), (shaders.split_up, (x,)), (shaders.along, (floats(8), 2.0))]
    asked = [asyncio.ensure_future(place.run_call(Call(*each))) for each in calls]
    try:
        await until(stuck.is_set)
        place._look()
        first, second, third = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)
        np.testing.assert_allclose(first, 2 * floats(9) + 1, rtol=1e-6)
        assert isinstance(second, LimitExceeded)
        assert "the gpu did not compile split_up within 0 s" in str(second)
        np.testing.assert_allclose(third, 2 * floats(8) + 1, rtol=1e-6)
        assert place.device is not device
        later = place.device
        with pytest.raises(LimitExceeded, match="the driver was given up over the shader of split_up before"):
            await place.run_call(Call(shaders.split_up, (x,)))
        assert place.device is later
    finally:
        released.set()
        assert device.join(30)


async def test_a_gpu_that_is_not_opened_for_ever(place: GpuBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as if there were none, and nobody tries again."""
    monkeypatch.setattr("hybrid_compute.gpu.progress.PATIENCE", 0.0)
    released = threading.Event()

    def opening(*args: Any, **kwargs: Any) -> Any:
        released.wait(60)
        return open_device(*args, **kwargs)

    monkeypatch.setattr("hybrid_compute.gpu.opening.open_device", opening)
    backend = GpuBackend(time_limit=0.01)
    try:
        async with Runtime([backend]) as rt:
            with pytest.raises(NoBackendAvailable, match="the gpu did not open within 0 s"):
                await rt.run(shaders.along, floats(3), 2.0)
            with pytest.raises(BackendUnavailable):
                backend.device  # noqa: B018
            device = backend._device
    finally:
        released.set()
    assert device is not None
    assert device.join(30)
