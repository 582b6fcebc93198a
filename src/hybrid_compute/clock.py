"""Time as a parameter: the system's, or one that a test turns by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that was arranged for later and can be called off."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """What a clock can do. Times are seconds on a monotonic scale of its own."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The time of the running event loop."""

    def time(self) -> float:
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(when - time.monotonic(), callback)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until `advance` is called; then everything due happens, in order.

    >>> clock, seen = ManualClock(), []
    >>> timer = clock.call_at(5.0, lambda: seen.append("ring"))
    >>> clock.advance(4.9)
    ... seen
    []
    >>> clock.advance(0.1)
    ... seen
    ['ring']
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._due: list[tuple[float, int, _ManualTimer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        timer = _ManualTimer(callback)
        heapq.heappush(self._due, (when, next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        timer = self.call_at(self._now + seconds, wake)
        try:
            await woken
        finally:
            timer.cancel()

    def advance(self, seconds: float) -> None:
        """Turn the clock forward, and run what falls due on the way, each at its own time."""
        if seconds < 0:
            raise ValueError(f"a clock cannot be turned back: {seconds} seconds")
        end = self._now + seconds
        while self._due and self._due[0][0] <= end + 1e-9:
            when, _, timer = heapq.heappop(self._due)
            self._now = max(self._now, when)
            timer.ring()
        self._now = end

    @property
    def waiting(self) -> int:
        """How many timers are set: a test waits for this before it turns the clock."""
        return sum(not timer.cancelled for _, _, timer in self._due)


class _ManualTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def ring(self) -> None:
        if not self.cancelled:
            self._callback()
