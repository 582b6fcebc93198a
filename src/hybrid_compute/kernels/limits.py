"""How long a kernel may run: `time_limit`, by the epochs of wasmtime.

Code that can be interrupted compares a counter at each turn of a loop. A thread raises that counter, as long as
anybody waits for it; who sets no limit pays only for the comparison.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from hybrid_compute.errors import TaskTimeout

TICK = 0.005
FOREVER = 1 << 62
"""In ticks: some billion years."""


class _Limit(threading.local):
    until: float | None = None


_limit = _Limit()
_changed = threading.Condition()
_tickers: list[Callable[[], object]] = []
_waiting = 0
_running = False


@contextmanager
def time_limit(seconds: float | None) -> Generator[None, None, None]:
    """Within this block, kernels called by this thread raise `TaskTimeout` after so many seconds.

    A kernel made with `interruptible=False` is asked only before it begins.
    """
    before = _limit.until
    until = math.inf if seconds is None else time.monotonic() + seconds
    with _until(min(until, math.inf if before is None else before)):
        yield


@contextmanager
def _until(until: float) -> Generator[None, None, None]:
    """A limit that is a point in time."""
    global _waiting, _running  # noqa: PLW0603  # one process has one thread for it
    before = _limit.until
    _limit.until = until
    with _changed:
        _waiting += 1
        if not _running:
            _running = True
            threading.Thread(target=_tick, name="hybrid-compute-kernel-epochs", daemon=True).start()
    try:
        yield
    finally:
        _limit.until = before
        with _changed:
            _waiting -= 1


def current() -> float | None:
    """The time at which this thread's kernels have to be done, if there is one."""
    return _limit.until


def under(until: float | None) -> AbstractContextManager[None]:
    """The limit of another thread."""
    return nullcontext() if until is None else _until(until)


def ticks(until: float, what: str) -> int:
    """How many ticks are left until then. Raises `TaskTimeout` if none are."""
    if until == math.inf:
        return FOREVER
    left = until - time.monotonic()
    if left <= 0:
        raise TaskTimeout(f"{what}: its time was up before it began")
    return math.ceil(left / TICK) + 1


def on_tick(ticker: Callable[[], object]) -> None:
    """Call this at each tick."""
    _tickers.append(ticker)


def _tick() -> None:
    global _running  # noqa: PLW0603
    while True:
        with _changed:
            if not _waiting:
                _running = False
                return
        for ticker in _tickers:
            ticker()
        time.sleep(TICK)


def forget() -> None:
    """In a child process there is no thread that ticks."""
    global _running, _waiting, _changed
    _running, _waiting, _changed = False, 0, threading.Condition()
