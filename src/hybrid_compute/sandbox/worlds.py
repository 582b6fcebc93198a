"""What time it is in a sandbox, and where its chance comes from."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random

START = 946_684_800
"""When a deterministic clock begins: 1 January 2000, in seconds since 1970."""
_LOOK = 1000
_SECOND = 1_000_000_000


class World(ABC):
    """Clock and chance, as one program finds them."""

    seed: int

    @abstractmethod
    def wall(self) -> int:
        """Nanoseconds since 1970."""

    @abstractmethod
    def monotonic(self) -> int:
        """Nanoseconds since some time."""

    @abstractmethod
    def sleep(self, seconds: float, may_go_on: Callable[[], bool]) -> None:
        """Let so much time pass, or until the program may not go on."""

    @abstractmethod
    def random(self, size: int) -> bytes:
        """So many random bytes."""


class Fixed(World):
    """The same for every program with the same seed. Time passes when it is looked at, and when somebody sleeps."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._passed = 0
        self._random = Random(seed)

    def wall(self) -> int:
        return START * _SECOND + self.monotonic()

    def monotonic(self) -> int:
        self._passed += _LOOK
        return self._passed

    def sleep(self, seconds: float, may_go_on: Callable[[], bool]) -> None:
        self._passed += int(min(seconds, 1e9) * _SECOND)

    def random(self, size: int) -> bytes:
        return self._random.randbytes(size)


class Real(World):
    """Those of this machine."""

    def __init__(self) -> None:
        self.seed = int.from_bytes(os.urandom(8))

    def wall(self) -> int:
        return time.time_ns()

    def monotonic(self) -> int:
        return time.monotonic_ns()

    def sleep(self, seconds: float, may_go_on: Callable[[], bool]) -> None:
        until = time.monotonic() + seconds
        while may_go_on() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.005))

    def random(self, size: int) -> bytes:
        return os.urandom(size)
