"""Somebody tries to break a device, and the place that has it: everybody is answered, and nothing is used up."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_compute import BlockingRuntime, GpuBackend, WorkerBackend, empty
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendClosed, BackendUnavailable, LimitExceeded
from hybrid_compute.gpu import ops
from hybrid_compute.gpu.calls import upload
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.frame import Frame
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.gpu.work import Work
from hybrid_compute.wasm import WasmModule
from tests.faults.watching import until, wait_until
from tests.gpu import shaders
from tests.gpu.test_device import close, floats, on, opened, result, run, told, work

ROOT = Path(__file__).parents[2]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """What devices begin with."""
    found: list[Work] = []
    launch = Frame.launch

    def listening(self: Frame, works: Any) -> None:
        found.extend(works)
        launch(self, works)

    monkeypatch.setattr(Frame, "launch", listening)
    return found


# Room.


def test_works_that_find_no_room_leave_none_taken() -> None:
    """Neither what they had got already, nor what they share a frame with."""
    device = opened(memory=1 << 20)
    memory = device.memory
    assert memory is not None
    for _ in range(20):
        asked = [upload(floats(60_000), Waiting()) for _ in range(8)]
        device.submit(asked)
        assert any(isinstance(each, LimitExceeded) for each in told(asked))
        del asked
    gc.collect()
    device.rest()
    wait_until(lambda: not memory.used)
    np.testing.assert_array_equal(np.asarray(on(device, floats(60_000))), floats(60_000))
    close(device)


@pytest.mark.parametrize(("direct", "windows"), [(True, 2), (False, 4)])
def test_what_is_kept_only_to_be_quick_makes_room(direct: bool, windows: int) -> None:
    """One call after the other finds the room that the one before it has found."""
    x = floats(1 << 18)
    device = opened(direct=direct, memory=windows * x.nbytes * 5 // 4 + x.nbytes)
    for _ in range(6):
        np.testing.assert_allclose(run(device, shaders.along, x, 2.0, 1.0), 2 * x + 1, rtol=1e-6)
        kept = run(device, ops.scale, on(device, x[: 1 << 16]), np.array(2, "float32"))
        np.testing.assert_array_equal(np.asarray(kept), 2 * x[: 1 << 16])
    close(device)


def test_an_error_does_not_keep_what_it_is_about() -> None:
    """Whoever catches it can release an array, and try again right there."""
    device = opened(memory=1 << 20)
    memory = device.memory
    assert memory is not None
    array = on(device, floats(60_000))
    failing = work(device, shaders.added, np.zeros(60_000, np.uint32), on(device, np.zeros(60_000, np.uint32)))
    device.submit([failing])
    (error,) = told([failing])
    assert isinstance(error, LimitExceeded)
    del failing
    array.release()
    device.rest()
    wait_until(lambda: not memory.used)
    close(device)


# Calls that nobody waits for.


async def test_a_call_that_is_cancelled_before_it_is_sent_is_not_computed(
    place: GpuBackend, launched: list[Work]
) -> None:
    """One that is joined with others is only left out."""
    for task in (shaders.along, shaders.along_many):
        launched.clear()
        calls = [asyncio.ensure_future(place.run_call(Call(task, (floats(9), 2.0)))) for _ in range(4)]
        await asyncio.sleep(0)
        for each in calls[1:]:
            each.cancel()
        found = await asyncio.gather(*calls, return_exceptions=True)
        np.testing.assert_allclose(found[0], 2 * floats(9) + 1, rtol=1e-6)
        assert [type(each) for each in found[1:]] == [asyncio.CancelledError] * 3
        assert len(launched) == 1


async def test_a_call_that_is_cancelled_while_it_waits_is_not_computed(
    place: GpuBackend, launched: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the line before the device: what was under way is finished, and then comes whoever still waits."""
    go, finish = threading.Event(), Frame.finish
    monkeypatch.setattr(Frame, "finish", lambda self: (go.wait(20), finish(self))[1])
    first = asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(9), 2.0))))
    await until(lambda: place.device.is_busy)
    calls = [asyncio.ensure_future(place.run_call(Call(shaders.along, (floats(9), 2.0)))) for _ in range(4)]
    batch = asyncio.ensure_future(place.run_batch(Call(shaders.along), [(floats(9), 2.0)] * 4, None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for each in (*calls[1:], batch):
        each.cancel()
    await asyncio.wait([*calls[1:], batch])
    go.set()
    for each in (first, calls[0]):
        np.testing.assert_allclose(await each, 2 * floats(9) + 1, rtol=1e-6)
    assert len(launched) == 2


# The end.


async def test_a_place_that_was_not_started_says_so() -> None:
    with pytest.raises(BackendUnavailable, match="it was not started"):
        await GpuBackend().run_task(shaders.along, floats(3), 2.0)


async def test_everything_says_that_the_place_was_closed(place: GpuBackend) -> None:
    """Whatever was got from it before."""
    array = await place.to_device(floats(9))
    with place.record() as g:
        g.returns(shaders.along(g.input("x", 9), 2.0))
    pending = [asyncio.ensure_future(each) for each in (place.to_device(floats(9)), g(x=floats(9)), array.to_host())]
    await asyncio.sleep(0)
    await place.aclose()
    for found in await asyncio.gather(*pending, return_exceptions=True):
        assert not isinstance(found, Exception) or isinstance(found, BackendClosed)
    for asks in (lambda: place.to_device(floats(9)), lambda: g(x=floats(9)), array.to_host):
        with pytest.raises(BackendClosed):
            await asks()
    with pytest.raises(BackendClosed):
        place.record()
    with pytest.raises(BackendClosed):
        np.asarray(array)
    assert "GpuArray" in repr(array)
    array.release()


def test_nobody_comes_between_a_device_and_its_successor() -> None:
    """What is asked of one that is already known to be lost goes on where the rest goes on."""
    left: list[Work] = []

    def gone(device: Device) -> Any:
        device.submit([late])
        return left.extend

    device = opened(gone=gone)
    run(device, shaders.along, floats(9), 2.0, 1.0)
    early, late = (work(device, shaders.along, floats(9), 2.0, 1.0) for _ in range(2))
    device._wgpu.destroy()
    device.submit([early])
    assert device.join(30)
    assert left == [early, late]


LOST = """
import numpy as np
from hybrid_compute.gpu.frame import Frame
from tests.gpu import shaders
from tests.gpu.test_device import opened, told, work

def losing(self):
    self._wait = lambda *asked: (Frame._wait(self, *asked), device._wgpu.destroy())
    return finish(self)

finish, Frame.finish = Frame.finish, losing
device = opened(gone=lambda _: [].extend, direct={direct})
asked = work(device, shaders.along, np.ones(9, np.float32), 2.0, 1.0)
device.submit([asked])
(error,) = told([asked])
assert device.join(30)
print(type(error).__name__, error.started)
"""


@pytest.mark.parametrize("direct", [True, False])
def test_a_device_that_is_lost_when_its_results_are_there(direct: bool) -> None:
    """They are mapped, and must not be touched any more: wgpu-native would end the program."""
    opened().close()  # skips where there is none
    said = program(LOST.format(direct=direct))
    assert (said.returncode, said.stdout) == (0, "DeviceLost True\n"), said.stderr


FORK = """
import gc, os, signal
import numpy as np
from hybrid_compute.gpu.device import Device
from tests.gpu import shaders
from tests.gpu.test_device import on, opened, told, work

device = opened()
array = on(device, np.ones(9, np.float32))
for _ in range(20):  # garbage for the collector, of the child as well
    made = [device._wgpu.create_buffer(size=64, usage=128)]
    made.append(made)
del made
if not os.fork():
    signal.alarm(20)
    gc.collect()
    try:
        array.__array__()
    except Exception as error:
        print(type(error).__name__, error)
    asked = work(device, shaders.along, np.ones(9, np.float32), 2.0, 1.0)
    device.submit([asked])
    print(told([asked])[0], flush=True)
    try:
        Device().open().result(15)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]), array.__array__().sum(), flush=True)
device.close()
print(device.join(30))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_lets_go_of_a_gpu() -> None:
    """Nothing in it waits for threads that it does not have, and the parent goes on."""
    opened().close()  # skips where there is none
    said = program(FORK)
    assert (said.returncode, said.stdout.splitlines()[-2:]) == (0, ["0 9.0", "True"]), said.stderr
    assert said.stdout.count("forked copy") == 2
    assert said.stdout.count("BackendUnavailable no gpu adapter: this process was forked from one that has used") == 1


MANY = """
import asyncio
from hybrid_compute import GpuBackend
from hybrid_compute.gpu.adapters import look_again

async def main():
    for _ in range(6):
        places = [GpuBackend() for _ in range(4)]
        starting = [asyncio.ensure_future(place.start()) for place in places]
        look_again()
        await asyncio.gather(*starting)
        print(sum(place.device.is_open for place in places), flush=True)
        await asyncio.gather(*(place.aclose() for place in places))

asyncio.run(main())
"""


def test_many_may_be_opened_at_the_same_time() -> None:
    """Drivers for OpenGL end the process where two threads ask them for what there is."""
    opened().close()  # skips where there is none
    said = program(MANY)
    assert (said.returncode, said.stdout.split()) == (0, ["4"] * 6), said.stderr


LEAVE = """
import asyncio, sys
import numpy as np
from hybrid_compute import GpuBackend
from tests.faults.watching import until
from tests.gpu import shaders

async def main():
    global kept
    place = GpuBackend()
    await place.start()
    kept = await place.to_device(np.ones(9, np.float32))
    calls = [asyncio.ensure_future(place.run_task(shaders.busy, np.ones(1, np.float32))) for _ in range(3)]
    await until(lambda: place.device.is_busy)
    {how}

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["pass", "sys.exit(0)", "raise SystemExit"])
def test_a_program_may_leave_with_calls_under_way(how: str) -> None:
    opened().close()  # skips where there is none
    said = program(LEAVE.format(how=how))
    assert (said.returncode, said.stderr) == (0, "")


def program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False)


# Many, and from anywhere.


async def test_a_thousand_calls_of_all_kinds_at_once(place: GpuBackend) -> None:
    """Each has its own answer, whatever it goes together with."""
    kept = await place.to_device(floats(64))
    calls: list[Any] = []
    for number in range(250):
        calls += [
            place.run_task(shaders.along, floats(number), 2.0, float(number)),
            place.run_task(shaders.along_many, floats(64), 2.0, float(number % 3)),
            place.run_task(shaders.along, kept, 2.0, float(number)),
            place.run_task(ops.add, floats(number % 7), np.float32(number)),
        ]
    found = await asyncio.gather(*calls)
    for number in range(250):
        one, joined, stayed, added = found[4 * number : 4 * number + 4]
        np.testing.assert_allclose(one, 2 * floats(number) + number, rtol=1e-6)
        np.testing.assert_allclose(joined, 2 * floats(64) + number % 3, rtol=1e-6)
        np.testing.assert_allclose(await stayed.to_host(), 2 * floats(64) + number, rtol=1e-6)
        np.testing.assert_allclose(added, floats(number % 7) + number, rtol=1e-6)


def test_arrays_may_go_in_any_thread(device: Device) -> None:
    """While others are computed from the memory that they give back."""
    assert device.memory is not None
    wrong: list[int] = []

    def use(seed: int) -> None:
        x = floats(2000) + seed
        for _ in range(20):
            array = run(device, shaders.along, on(device, x), 2.0, 1.0)
            if not np.allclose(np.asarray(array), 2 * x + 1):
                wrong.append(seed)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


# Arrays that lie somewhere else, and are not as others.

MEMORY = """(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32) (i32.const 1024)))"""


def test_an_array_in_the_memory_of_a_module_outlives_it(device: Device) -> None:
    with WasmModule.from_wat(MEMORY).open() as instance:
        x = instance.view(1024, 500, "float32")
        x[:] = floats(500)
        waiting = work(device, shaders.along, x, 2.0, 1.0)
    del x, instance
    gc.collect()
    device.submit([waiting])
    np.testing.assert_allclose(result(waiting), 2 * floats(500) + 1, rtol=1e-6)


def test_an_array_in_shared_memory_is_one_like_others(device: Device) -> None:
    with BlockingRuntime([WorkerBackend(1)]):
        x = empty(50_000, "float32")
        x[:] = floats(50_000)
        x.flags.writeable = False
        np.testing.assert_allclose(run(device, shaders.along, x, 2.0, 1.0), 2 * x + 1, rtol=1e-6)
