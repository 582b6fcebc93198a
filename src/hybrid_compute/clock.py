"""Time as a parameter: the system's, or one that a test turns by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable
from typing import Any, Protocol


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


class Alarms:
    """Timers at a tenth of the cost, for those that are nearly all called off: one timer of the clock serves them all.

    It is left as it is when the alarm that it was set for is called off, and then rings for nobody.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[_Alarm] = []
        self._order = itertools.count()
        self._called_off = 0
        self._set_for = math.inf
        self._timer: Timer | None = None

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        alarm = _Alarm((when, next(self._order), callback, self))
        heapq.heappush(self._due, alarm)
        if when < self._set_for:
            self._set(when)
        return alarm

    def count_off(self) -> None:
        """One more was called off. They are thrown out when they are more than half of all."""
        self._called_off += 1
        if self._called_off > 100 and self._called_off > len(self._due) // 2:
            self._due = [alarm for alarm in self._due if alarm.callback is not None]
            heapq.heapify(self._due)
            self._called_off = 0

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._set_for = when
        self._timer = self._clock.call_at(when, self._ring)

    def _ring(self) -> None:
        self._set_for, self._timer = math.inf, None
        try:
            while self._due and self._due[0].when <= self._clock.time():
                alarm = heapq.heappop(self._due)
                callback, alarm.callback = alarm.callback, None
                if callback is not None:
                    callback()
                else:
                    self._called_off -= 1
        finally:  # one that raises is no reason for others not to ring
            if self._due and self._due[0].when < self._set_for:
                self._set(self._due[0].when)


class _Alarm(list[Any]):
    """`when`, its order among equals, `callback` and the alarms that it is one of: a heap compares lists by itself."""

    __slots__ = ()

    @property
    def when(self) -> float:
        return self[0]  # type: ignore[no-any-return]

    @property
    def callback(self) -> Callable[[], object] | None:
        return self[2]  # type: ignore[no-any-return]

    @callback.setter
    def callback(self, callback: None) -> None:
        self[2] = callback

    def cancel(self) -> None:
        if self[2] is not None:
            self[2] = None
            self[3].count_off()
