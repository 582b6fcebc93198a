"""What time it is for a guest, and where its chance comes from. Times are in nanoseconds."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random

_LOOK = 1_000
"""By so much a clock of ours moves when it is looked at, so that who waits for a time does not wait for ever."""
_SECOND = 1_000_000_000
_SLICE = 0.005


class Clock(ABC):
    @abstractmethod
    def wall(self) -> int:
        """Since 1970."""

    @abstractmethod
    def monotonic(self) -> int:
        """Since some time."""

    @abstractmethod
    def sleep(self, duration: int, may_go_on: Callable[[], bool]) -> None:
        """Let so much time pass, or until the guest may not go on."""


class Fixed(Clock):
    """The same each time: it moves when it is looked at, and when somebody sleeps."""

    def __init__(self, start: float) -> None:
        self._start = round(start * _SECOND)
        self._passed = 0

    def wall(self) -> int:
        return self._start + self.monotonic()

    def monotonic(self) -> int:
        self._passed += _LOOK
        return self._passed

    def sleep(self, duration: int, may_go_on: Callable[[], bool]) -> None:
        self._passed += duration


class Real(Clock):
    """That of this machine."""

    def wall(self) -> int:
        return time.time_ns()

    def monotonic(self) -> int:
        return time.monotonic_ns()

    def sleep(self, duration: int, may_go_on: Callable[[], bool]) -> None:
        until = time.monotonic() + duration / _SECOND
        while may_go_on() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))  # in slices: it may be told to stop meanwhile


def chance(seed: int | None) -> Callable[[int], bytes]:
    """A function that gives so many random bytes: the same ones for the same seed, real ones for None."""
    return os.urandom if seed is None else Random(seed).randbytes
