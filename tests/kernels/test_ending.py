"""Kernels end when they should: in time, by Ctrl-C, or because nobody waits for them any more."""

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, WorkerBackend
from hybrid_compute.calls import abandoned
from hybrid_compute.errors import TaskTimeout
from hybrid_compute.kernels import Array, f64, kernel, limits, parallel, time_limit
from hybrid_compute.kernels.limits import Abandoned
from hybrid_compute.wasm.shield import POSSIBLE, extended, shielded
from tests.kernels.oracle import compiled

pytest.importorskip("wasmtime")
in_the_main_thread = pytest.mark.skipif(not POSSIBLE, reason="signals are lost in callbacks of this Python")


@kernel
def spin(n: int) -> int:
    total = 0
    for i in range(n):
        total ^= i * 3
        if total == -1:
            break
    return total


@kernel
def spin_parts(start: int, stop: int, out: Array[f64]) -> None:
    out[start] = 1.0
    while out[start] > 0.0:
        out[start] += 1.0


FOREVER = 10**15


@contextmanager
def interrupted(when: Callable[[], bool] = lambda: True, number: int = signal.SIGINT) -> Iterator[None]:
    """Within the block, this process gets a signal, as by Ctrl-C, once `when` is true and the main thread is in C."""
    main = threading.main_thread().ident
    over = threading.Event()

    def send() -> None:
        while not (when() and _in_a_call(main)):
            if over.wait(0.001):
                return
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _in_a_call(thread: int | None) -> bool:
    """Whether the innermost frame of Python's there is the one that calls kernels."""
    frame: FrameType | None = sys._current_frames().get(thread or 0)
    return frame is not None and frame.f_code.co_name == "run" and frame.f_globals["__name__"].endswith(".program")


# In time.


def test_a_kernel_is_stopped_when_its_time_is_up() -> None:
    """And is as good as new afterwards."""
    spin(1)  # to compile it takes time, too
    began = time.monotonic()
    with time_limit(0.05), pytest.raises(TaskTimeout, match="spin: the kernel was not done when its time was up"):
        spin(FOREVER)
    assert time.monotonic() - began < 5
    with time_limit(0.0), pytest.raises(TaskTimeout, match="its time was up before it began"):
        spin(1)
    with time_limit(None), time_limit(60):
        assert spin(4) == spin.__wrapped__(4)
    assert spin(3) == spin.__wrapped__(3)


def test_a_limit_holds_in_other_threads_too() -> None:
    """In those of `parallel`, and in those that got the context."""
    slow = compiled(
        "def f(start: int, stop: int) -> int:\n    n = 0\n    while n >= 0:\n        n ^= start\n    return n\n"
    )
    assert slow.compiled
    assert spin.compiled
    with time_limit(0.05), pytest.raises(TaskTimeout, match="was not done when its time was up"):
        slow.parallel(64, threads=2)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            spin(FOREVER)
        except BaseException as error:
            caught.append(error)

    with time_limit(0.05):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
    thread.start()
    thread.join()
    assert isinstance(caught[0], TaskTimeout)


def test_a_kernel_that_is_not_interruptible_is_asked_before_it_begins() -> None:
    quick = compiled("def f(n: int) -> int:\n    return n\n", interruptible=False)
    with time_limit(0.0), pytest.raises(TaskTimeout, match="its time was up before it began"):
        quick(1)


def test_the_ticks_end_when_nobody_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that raises the epoch goes soon after the last kernel, and comes back with the next."""
    monkeypatch.setattr(limits, "_KEPT", 4)
    spin(1)

    def ticking() -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "hybrid-compute-kernel-epochs"]

    for thread in ticking():
        limits._left = min(limits._left, 4)
        thread.join()
    assert not ticking()
    with time_limit(0.05), pytest.raises(TaskTimeout):
        spin(FOREVER)


def test_a_kernel_ends_though_the_thread_that_ticks_was_not_run_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on where it was, for longer than it would have been kept: who waits for a tick gets it."""
    caught: list[BaseException] = []
    stalled = threading.Event()
    monkeypatch.setattr(limits, "_KEPT", 40)
    monkeypatch.setattr(limits, "_left", 0)
    before = list(limits._tickers)

    def stall() -> None:
        if not stalled.is_set():
            time.sleep(50 * limits.TICK)
            stalled.set()

    def work() -> None:
        try:
            with time_limit(0.05):
                spin(FOREVER)
        except BaseException as error:
            caught.append(error)

    spin(1)
    limits.on_tick(stall)
    try:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(20)
    finally:
        limits._tickers[:] = before
    assert [type(each) for each in caught] == [TaskTimeout]


def test_nobody_is_told_of_ticks_after_the_end_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anybody being told just then: engines go at that moment."""
    told, leave, happened = threading.Event(), threading.Event(), list[str]()

    def ticker() -> None:
        told.set()
        leave.wait(20)
        happened.append("ticked")

    def end() -> None:
        limits.tick_no_more()
        happened.append("ended")

    monkeypatch.setattr(limits, "_tickers", [ticker])
    monkeypatch.setattr(limits, "_left", 0)
    limits.keep_ticking()
    assert told.wait(20)
    ending = threading.Thread(target=end)
    ending.start()
    ending.join(0.05)
    assert ending.is_alive()
    leave.set()
    ending.join(20)
    assert happened == ["ticked", "ended"]


# By a signal.


@in_the_main_thread
def test_ctrl_c_ends_a_kernel() -> None:
    """Every time, and the kernel is as good as new afterwards."""
    for _ in range(20):
        with pytest.raises(KeyboardInterrupt) as caught, interrupted():
            spin(FOREVER)
        assert caught.value.__notes__ == ["in the kernel spin"]
        assert spin(4) == spin.__wrapped__(4)


@in_the_main_thread
def test_ctrl_c_ends_a_kernel_that_asks_python() -> None:
    """Also when it comes while a function of Python's begins."""
    asks = compiled(
        "def f(n: int) -> float:\n    x = 1.0\n    for i in range(n):\n        x = math.sin(x) + 1.0\n    return x\n"
    )
    for _ in range(20):
        with pytest.raises(KeyboardInterrupt), interrupted():
            asks(FOREVER)


@in_the_main_thread
def test_a_signal_may_be_handled_and_the_kernel_goes_on() -> None:
    """What its handler does not raise ends nothing."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        with interrupted(number=signal.SIGTERM):
            assert spin(50_000_000) == spin(50_000_000)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]


@in_the_main_thread
def test_ctrl_c_ends_all_threads_of_a_parallel_call() -> None:
    """Nobody goes on writing into the arrays of a call that has ended."""
    import numpy as np

    out = np.zeros(64)
    assert spin.compiled
    with pytest.raises(KeyboardInterrupt), interrupted():
        spin_parts.parallel(64, out, threads=2)
    assert (out > 0.0).sum() >= 1
    after = out.copy()
    with time_limit(0.05), pytest.raises(TaskTimeout):
        spin(FOREVER)
    assert (out == after).all()


class _Interrupting(deque[Any]):
    """Stands for a signal that is handled in the main thread when it goes for its second part."""

    def popleft(self) -> Any:
        if threading.current_thread() is threading.main_thread() and len(self) < 3:
            raise KeyboardInterrupt
        return super().popleft()


def test_ctrl_c_between_two_parts_ends_the_other_threads_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have ended when the call has: it gives back the memory that they work on."""
    began, ended = threading.Event(), list[int]()

    def work(part: range) -> None:
        if threading.current_thread() is threading.main_thread():
            assert began.wait(20)
            return
        began.set()
        gone = abandoned.get()
        assert gone is not None
        while not gone():
            time.sleep(0)
        ended.append(part.start)

    monkeypatch.setattr(parallel, "deque", _Interrupting)
    with pytest.raises(KeyboardInterrupt):
        parallel.side_by_side(work, list(parallel.parts(range(4))), 2)
    assert len(ended) == 1


def test_whoever_has_not_begun_to_help_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads may be busy with the call that this one has interrupted."""
    jobs: list[Callable[[], None]] = []
    seen: list[int] = []
    monkeypatch.setattr(parallel, "_put", jobs.append)
    parallel.side_by_side(lambda part: seen.append(part.start), [range(1), range(1, 2)], 3)
    for job in jobs:
        job()
    assert (len(jobs), seen) == (2, [0, 1])


PARALLEL = """
import array, os, random, signal, threading, time
from hybrid_compute.kernels import Array, f64, kernel
from hybrid_compute.kernels.process import machine

@kernel
def fill(start: int, stop: int, out: Array[f64]) -> None:
    for i in range(start, stop):
        out[i] = 1.0

out = array.array("d", [0.0]) * 4000
fill(0, 1, out)
armed, raised, over = False, 0, False

def handler(*_):
    global raised
    if armed:
        raised += 1
        raise KeyboardInterrupt

def pester():
    while not over:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(random.random() * 0.0003)

signal.signal(signal.SIGINT, handler)
thread = threading.Thread(target=pester)
thread.start()
while raised < 3000:
    out[:] = array.array("d", [0.0]) * 4000
    try:
        armed = True
        fill.parallel(4000, out, threads=2)
        armed = False
        assert sum(out) == 4000
    except KeyboardInterrupt:
        armed = False
over = True
thread.join()
print(machine().memory.used, machine().copies.active)
"""


@in_the_main_thread
def test_parallel_calls_end_however_often_they_are_interrupted(tmp_path: Path) -> None:
    """And leave nothing in the memory of kernels."""
    file = tmp_path / "parallel.py"
    file.write_text(PARALLEL)
    ran = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stdout) == (0, "0 []\n"), ran.stderr


PESTERED = """
import array, os, random, signal, sys, threading, time
from hybrid_compute.kernels import Array, f64, kernel
from hybrid_compute.kernels.process import machine

@kernel
def fill(out: Array[f64]) -> None:
    for i in range(len(out)):
        out[i] = 1.0

out = array.array("d", [0.0] * 10)
fill(out)
armed, raised, lost, over = False, 0, [], False

def handler(*_):
    global armed, raised
    if armed:
        armed, raised = False, raised + 1
        raise KeyboardInterrupt

def pester():
    while not over:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(random.random() * 0.0003)

sys.unraisablehook = lost.append
signal.signal(signal.SIGUSR1, handler)
thread = threading.Thread(target=pester)
thread.start()
for _ in range(1000):
    out[9] = 0.0
    try:
        armed = True
        fill._way.program._idle.clear()  # so that each call makes an instance
        fill(out)
        armed = False
        assert out[9] == 1.0
    except KeyboardInterrupt:
        pass
over = True
thread.join()
print(raised > 100, machine().copies.active, [each for each in lost if "callback" in str(each.err_msg)])
"""


@in_the_main_thread
def test_a_signal_while_an_instance_is_made_is_not_lost(tmp_path: Path) -> None:
    """Nor does it leave an instance without its memory: those functions do their work all the same.

    Nor a copy of an array that the next call would take for the array.
    """
    file = tmp_path / "pestered.py"
    file.write_text(PESTERED)
    ran = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stdout) == (0, "True [] []\n"), ran.stderr


def test_a_table_of_exceptions_gets_an_entry_in_front() -> None:
    """The first handler covers the beginning of the function, too; all else is as it was."""

    def function(a: int) -> int:
        try:
            return 1 // a
        except ArithmeticError:
            return -1

    table = function.__code__.co_exceptiontable
    assert extended(table).endswith(table)
    before = function(3), function(0)
    shielded(function)
    assert (function(3), function(0)) == before
    assert function.__code__.co_exceptiontable != table
    with pytest.raises(TypeError):
        function("")  # type: ignore[arg-type]


# Because nobody waits.


def test_a_kernel_stops_when_nobody_waits_for_it() -> None:
    gone = threading.Event()
    caught: list[BaseException] = []

    def work() -> None:
        abandoned.set(gone.is_set)
        try:
            spin(FOREVER)
        except BaseException as error:
            caught.append(error)

    assert spin.compiled
    thread = threading.Thread(target=work)
    thread.start()
    _until_one_runs()
    gone.set()
    thread.join()
    assert isinstance(caught[0], Abandoned)


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
async def test_the_thread_of_a_local_call_is_free_again(how: str) -> None:
    """A kernel in the only thread ends with its call: the next one has its turn."""
    assert spin.compiled
    async with Runtime([LocalBackend(threads=1)]) as rt:
        if how == "timeout":
            with pytest.raises(TaskTimeout):
                await rt.options(timeout=0.05).run(spin, FOREVER)
        else:
            running = asyncio.ensure_future(rt.run(spin, FOREVER))
            await asyncio.to_thread(_until_one_runs)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert await rt.run(spin, 4) == spin.__wrapped__(4)


def _until_one_runs() -> None:
    while not any(map(_in_a_call, sys._current_frames())):
        time.sleep(0)


def test_a_worker_stops_a_kernel_in_time() -> None:
    with BlockingRuntime([WorkerBackend(size=1)]) as rt:
        rt.run(spin, 1)  # the worker has to start, and to compile it
        with pytest.raises(TaskTimeout):
            rt.options(timeout=0.2).run(spin, FOREVER)
        assert rt.run(spin, 4) == spin.__wrapped__(4)
