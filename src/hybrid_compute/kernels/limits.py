"""What ends a kernel before its time: `time_limit`, signals such as that of Ctrl-C, and a caller who has gone.

Code that can be interrupted compares a counter, the epoch of wasmtime, at each turn of a loop. While there may be a
reason to stop, a thread raises that counter at every tick; the kernel that reaches the epoch set for it looks up, and
goes on or not:

    in the main thread        every few ticks, because Python handles signals only there, and only while it runs
    for a caller who may go   every few ticks
    within a time limit       when the time is up
    in any other thread       never: looking up takes the interpreter lock, which another thread may hold for long
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from hybrid_compute.calls import abandoned
from hybrid_compute.errors import TaskTimeout
from hybrid_compute.wasm.shield import POSSIBLE

TICK = 0.005
FOREVER = 1 << 62
"""In ticks: some billion years."""
OFTEN = 2
SELDOM = 200
"""Even who only waits for his time to be up says once a second that the ticks are still needed."""
_KEPT = SELDOM * 2
"""So many ticks more there are, after somebody has said that they are needed. They are counted, and not timed: a thread
that was not run for a while has not ticked, and kernels wait for it all the same."""

_until: ContextVar[float] = ContextVar("until", default=math.inf)
_lock = threading.RLock()  # a signal may be handled by a function that calls kernels, while it is held
_tickers: list[Callable[[], object]] = []
_ticking = False
_left = 0


class Abandoned(Exception):  # it says what happened
    """A kernel was stopped because nobody waits for what it gives."""


@contextmanager
def time_limit(seconds: float | None) -> Generator[None]:
    """Within this block, and in what it starts, kernels raise `TaskTimeout` after so many seconds.

    A kernel made with `interruptible=False` is asked only before it begins.

        >>> with time_limit(0.5):
        ...     search(numbers)
    """
    until = math.inf if seconds is None else time.monotonic() + seconds
    token = _until.set(min(until, _until.get()))
    try:
        yield
    finally:
        _until.reset(token)


def ticks(what: str, *, begun: bool = False) -> int:
    """After how many ticks a kernel that runs here has to look up. Raises if there is a reason to stop."""
    until, gone = _until.get(), abandoned.get()
    if gone is not None and gone():
        raise Abandoned(f"{what}: nobody waits for it any more")
    left = math.inf if until == math.inf else until - time.monotonic()
    if left <= 0 and begun:
        raise TaskTimeout(f"{what}: the kernel was not done when its time was up, and was stopped")
    if left <= 0:
        raise TaskTimeout(f"{what}: its time was up before it began")
    if gone is not None or (POSSIBLE and threading.get_ident() == _main):
        return OFTEN
    return FOREVER if left == math.inf else min(math.ceil(left / TICK) + 1, SELDOM)


def on_tick(ticker: Callable[[], object]) -> None:
    """Call this at each tick."""
    _tickers.append(ticker)


def tick_no_more() -> None:
    """At the end of the program: what is called at ticks is about to go, and nobody is calling it any more."""
    with _lock:
        _tickers.clear()


def keep_ticking() -> None:
    """See to it that there are ticks for the next seconds."""
    global _left  # noqa: PLW0603  # one process has one thread for it
    if _left > _KEPT / 2:
        return
    with _lock:
        if not _ticking:
            threading.Thread(target=_tick, name="hybrid-compute-kernel-epochs", daemon=True).start()
        _left = _KEPT  # last: whoever is interrupted before has not said that there is a thread


def _tick() -> None:
    """The thread that ticks. Only one does, and says so itself: who started it may have been interrupted."""
    global _ticking, _left  # noqa: PLW0603
    with _lock:
        if _ticking:
            return
        _ticking = True
    while True:
        with _lock:
            if _left <= 0:
                _ticking = False
                return
            _left -= 1
            for ticker in _tickers:
                ticker()
        time.sleep(TICK)


def after_fork() -> None:
    """In a child there is no thread that ticks, and the one that forked is its main thread."""
    global _ticking, _left, _lock, _main
    _ticking, _left, _lock, _main = False, 0, threading.RLock(), threading.get_ident()


_main: int | None = threading.main_thread().ident
