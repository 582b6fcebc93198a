"""Calls in several threads that store into one ordinary array: none undoes what another one has stored."""

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute import kernels
from hybrid_compute.errors import TaskTimeout
from hybrid_compute.kernels import Array, KernelError, f64, i64, kernel, time_limit
from hybrid_compute.kernels.copies import Copies
from hybrid_compute.kernels.process import machine
from tests.kernels.oracle import compiled

pytest.importorskip("wasmtime")


@kernel
def store(x: Array[f64], at: int, value: float) -> float:
    """What the first element is then."""
    x[at] += value
    return x[0]


@kernel
def store_and_stay(x: Array[f64], at: int, value: float, flags: Array[i64]) -> float:
    """The same, but it stays until the second flag is set."""
    x[at] += value
    flags[0] = 1
    while flags[1] == 0:
        pass
    return x[0]


@kernel
def total(x: Array[f64]) -> float:
    s = 0.0
    for i in range(len(x)):
        s += x[i]
    return s


def copies() -> Copies:
    there = machine()
    assert there is not None
    return there.copies


def wait_until(holds: Callable[[], object]) -> None:
    """Until it does: it has a minute, before which the test would be stopped anyway."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0)


@contextmanager
def one_that_stays(x: Any, at: int = 0, value: float = 1.0) -> Iterator[tuple[Any, Future[float]]]:
    """A call in another thread that has stored, and ends when the second flag is set; here at the latest."""
    flags = kernels.empty(2, np.int64)
    flags[:] = 0
    with ThreadPoolExecutor(1) as other:
        call = other.submit(store_and_stay, x, at, value, flags)
        try:
            wait_until(lambda: flags[0])
            yield flags, call
        finally:
            flags[1] = 1
        call.result()


def test_two_calls_share_one_copy() -> None:
    """Each sees what the other stores, and what it stored itself is there when it ends."""
    x = np.zeros(4)
    with one_that_stays(x):
        assert store(x, 1, 2.0) == 1.0
        assert x.tolist() == [1.0, 2.0, 0.0, 0.0]
        assert store(x[1:3], -1, 3.0) == 2.0
        assert x[2] == 3.0
    assert x.tolist() == [1.0, 2.0, 3.0, 0.0]


def test_a_copy_stays_as_long_as_anybody_uses_it() -> None:
    """Also when the call that made it ends first."""
    x = np.zeros(4)
    with one_that_stays(x) as (flags, call), one_that_stays(x[1:], 0, 5.0):
        flags[1] = 1
        call.result()
        assert store(x[1:3], 1, 7.0) == 5.0
        assert x.tolist() == [1.0, 5.0, 7.0, 0.0]
    assert x.tolist() == [1.0, 5.0, 7.0, 0.0]


def test_who_only_reads_has_the_array_as_it_is() -> None:
    x = np.ones(4)
    with one_that_stays(x):
        x[3] = 5.0
        assert total(x) == 8.0
    assert x.tolist() == [2.0, 1.0, 1.0, 1.0]  # what Python stores while a kernel stores is undone


def test_arrays_that_overlap_in_part_take_turns() -> None:
    x = np.zeros(10)
    with ThreadPoolExecutor(1) as third, one_that_stays(x[:6], 5) as (flags, _):
        other = third.submit(store, x[4:], 1, 2.0)
        wait_until(lambda: copies().waiting)
        with pytest.raises(TaskTimeout, match="store: its time was up before it began"), time_limit(0):
            store(x, 0, 1.0)
        with pytest.raises(TaskTimeout, match="store: its time was up before it began"), time_limit(0.05):
            store(x, 0, 1.0)
        assert not other.done()
        flags[1] = 1
        assert other.result() == 0.0
    assert x.tolist() == [0.0] * 5 + [3.0] + [0.0] * 4


def test_a_call_does_not_wait_for_its_own_thread() -> None:
    """A signal is handled in the middle of a kernel, by a function that calls one on more of the array."""
    x, flags = np.zeros(6), kernels.empty(2, np.int64)
    flags[:] = 0
    caught: list[str] = []

    def handler(*_: object) -> None:
        assert store(x[:2], 1, 4.0) == 1.0
        with pytest.raises(KernelError) as error:
            store(x, 5, 1.0)
        caught.append(str(error.value))
        flags[1] = 1

    def send() -> None:
        wait_until(lambda: flags[0])
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=send)
    try:
        thread.start()
        store_and_stay(x[:4], 0, 1.0, flags)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert caught[0].startswith("store: it was called while this thread is in a kernel that stores into a part of its")
    assert x.tolist() == [1.0, 4.0, 0.0, 0.0, 0.0, 0.0]


def test_nothing_is_lost_in_many_threads() -> None:
    """Each adds to an element of its own, in slices that overlap those of others in all ways."""
    x = np.zeros(64)

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(60):
            low, high = rng.integers(0, number + 1), rng.integers(number + 1, 65)
            store(x[low:high], number - low, 1.0)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(0, 64, 8)))
    assert x.tolist() == [60.0 if n % 8 == 0 else 0.0 for n in range(64)]


SLICES = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted)


@settings(deadline=None)
@given(slices=st.tuples(SLICES, SLICES, SLICES))
def test_arrays_of_one_call_may_overlap(slices: Any) -> None:
    """In all ways, empty ones too: the same as on the memory itself."""
    text = "def f(x: Array[f64], y: Array[f64], z: Array[f64]) -> None:\n    for i in range(len(x)):\n"
    text += "        if i < len(y):\n            y[i] = y[i] * 3.0 + x[i]\n"
    text += "        if i < len(z):\n            z[-1 - i] += y[-1] if len(y) > 0 else x[-1]\n"
    function = compiled(text)
    ended = []
    for call in (function, lambda *given: function._plain().call(given)):
        pool = np.arange(9.0)
        call(*(pool[low:high] for low, high in slices))
        ended.append(pool.tolist())
    assert ended[0] == ended[1]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every call gives back the memory that it used, and stores no more."""
    there = machine()
    assert there is not None
    before = there.memory.used  # type: ignore[attr-defined]
    yield
    gc.collect()
    assert there.memory.used == before  # type: ignore[attr-defined]
    assert not there.copies.active
