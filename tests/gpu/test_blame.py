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
            if any(getattr(place, "data", b"")[:4] == EVIL for work in frame.works for place in work.places):
                self._stuck.add(frame)
                self.released.wait(60)
            return finish(frame)

        def opening(device: Device) -> Any:
            self.devices.append(device)
            return opened(device)

        monkeypatch.setattr(Frame, "finish", finishing)
        monkeypatch.setattr(Device, "open", opening)
        monkeypatch.setattr(Device, "time_left", lambda device, limit: 0.0 if self.is_stuck(device) else limit)

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
    for each in calls:
        while not each.done():
            await until(lambda: each.done() or driver.is_stuck(place.device))  # noqa: B023
            place._look()
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
