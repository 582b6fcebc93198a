"""What is kept to be quick is given back when it is not needed: after some calls that need less, or after a while."""

import gc
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute import GpuBackend, Runtime
from hybrid_compute.backends.gpu import IDLE
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.opening import DEPTH
from hybrid_compute.gpu.window import LEAST, TURNS, Need
from hybrid_compute.testing import ManualClock
from tests.faults.watching import until, wait_until
from tests.gpu import shaders
from tests.gpu.test_device import close, floats, on, opened, run

BIG = 4 << 20


@given(st.lists(st.integers(0, 1 << 24), min_size=1, max_size=400))
def test_it_is_never_too_small_and_not_far_too_large_for_long(asked: Sequence[int]) -> None:
    need, present = Need(), 0
    for turn, each in enumerate(asked, 1):
        before, present = present, need.size(each, present)
        assert present >= max(each, LEAST)
        assert present >= before or present >= max(asked[max(0, turn - TURNS) : turn])
        if turn >= 2 * TURNS:
            assert present <= max(4 * LEAST, 5 * max(asked[turn - 2 * TURNS : turn]))


def test_it_stays_as_it_is_while_that_will_do() -> None:
    """A large call every now and then is no reason to begin anew each time."""
    need = Need()
    present = need.size(BIG, 0)
    for turn in range(10 * TURNS):
        assert need.size(BIG if turn % (TURNS // 2) == 0 else 100, present) == present


@pytest.mark.parametrize("direct", [True, False])
def test_after_a_burst_of_large_calls_small_ones_take_little(direct: bool) -> None:
    """While they go on, without a pause."""
    device = opened(direct=direct)
    assert device.memory is not None
    run(device, shaders.along, floats(BIG // 4), 2.0, 1.0)
    assert device.memory.used >= 2 * BIG
    for _ in range(DEPTH * 2 * TURNS):
        np.testing.assert_allclose(run(device, shaders.along, floats(10), 2.0, 1.0), 2 * floats(10) + 1, rtol=1e-6)
    assert device.memory.used <= 4 * DEPTH * LEAST
    close(device)


def test_a_device_at_rest_has_only_what_was_put_there() -> None:
    """And goes on as before when it is woken."""
    device = opened()
    memory = device.memory
    assert memory is not None
    kept = on(device, floats(1000))
    for count in (BIG, 10):
        run(device, shaders.along, on(device, floats(count // 4)), 2.0, 1.0)
    gc.collect()
    assert memory.used > BIG
    device.rest()
    wait_until(lambda: memory.used == 4096, "only the kept array is left")
    np.testing.assert_array_equal(np.asarray(kept), floats(1000))
    np.testing.assert_allclose(run(device, shaders.along, kept, 2.0, 1.0), 2 * floats(1000) + 1, rtol=1e-6)
    close(device)


def test_what_was_sent_is_not_kept(device: Device) -> None:
    """Nor what came of it: a device that waits holds nobody's arrays."""
    x = floats(1000)
    y = run(device, shaders.along, x, 2.0, 1.0)
    gone = [weakref.ref(x), weakref.ref(y.base if y.base is not None else y)]
    del x, y
    wait_until(lambda: all(each() is None for each in gone))


async def test_a_place_that_nobody_calls_comes_to_rest() -> None:
    """By its clock, after the last call; a call in between puts it off."""
    backend, clock = GpuBackend(), ManualClock()
    backend.clock = clock
    async with Runtime([backend], clock=clock):
        try:
            memory = backend.device.memory
        except BackendUnavailable as error:
            pytest.skip(str(error))
        assert memory is not None
        call = Call(shaders.along, (floats(BIG // 4), 2.0))
        for _ in range(2):
            await backend.run_call(call)
            await until(lambda: backend.device.time_left(1.0) is None)
            clock.advance(IDLE - 1)
            assert backend._look() == 1
        np.testing.assert_allclose(await backend.run_call(call), 2 * floats(BIG // 4) + 1, rtol=1e-6)
        assert memory.used >= BIG
        for _ in range(2):
            await until(lambda: backend.device.time_left(1.0) is None)
            clock.advance(IDLE)
            assert backend._look() is None
            await until(lambda: not memory.used)
            await backend.run_call(call)
            assert memory.used >= BIG
