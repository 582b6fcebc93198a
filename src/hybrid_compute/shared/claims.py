"""Claims: who has his turn with a file that several processes have open.

A claim is an open file of its own with a lock of one byte on it (`F_OFD_SETLK`). So it keeps threads apart as well as
processes, and needs nobody to clean up: when its holder dies, however, the system closes the file, and with it goes the
lock.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import struct
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any

from hybrid_compute.errors import LimitExceeded

fcntl: Any = importlib.import_module("fcntl") if sys.platform == "linux" else None  # elsewhere nothing gets this far
_FLOCK = struct.Struct("hhqqi4x")
_FIRST, _LAST = 0.0001, 0.01
"""Seconds between the looks of who waits and must not be held up, growing."""

_held: weakref.WeakSet[Claim] = weakref.WeakSet()


class Claim:
    """A claim on one byte of the file that `fd` is. It is not taken yet. Raises `LimitExceeded` without open files."""

    def __init__(self, fd: int, byte: int, *, exclusive: bool) -> None:
        self.exclusive = exclusive
        kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
        self._lock = _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)
        self._fd = -1
        try:
            self._fd = os.open(
                f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC
            )  # what is duplicated would share the lock
        except OSError as error:
            raise LimitExceeded(
                f"a turn with shared memory takes an open file: {error.strerror}; see `ulimit -n`"
            ) from error
        _held.add(self)

    def take(self) -> bool:
        """Take it, if nobody is in the way."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._lock)
        except BlockingIOError:
            return False
        return True

    def wait(self, timeout: float | None) -> bool:
        """Take it as soon as nobody is in the way any more. False when the time is up."""
        if timeout is None:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLKW, self._lock)
            return True
        for pause in _pauses(timeout):
            if self.take():
                return True
            time.sleep(pause)
        return self.take()

    async def wait_async(self, timeout: float | None) -> bool:
        """The same, while the event loop goes on."""
        for pause in _pauses(timeout):
            if self.take():
                return True
            await asyncio.sleep(pause)
        return self.take()

    @property
    def held(self) -> bool:
        """Whether it was not given up yet, here and in no process that this one is a fork of."""
        return self._fd >= 0

    def give_up(self) -> None:
        """Let others have it. Harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.give_up()


def is_claimed(fd: int, byte: int) -> bool:
    """Whether somebody has an exclusive claim on this byte."""
    asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
    kind, *_ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)


def _pauses(timeout: float | None) -> Iterator[float]:
    """How long to wait before each next look."""
    end = None if timeout is None else time.monotonic() + timeout
    pause = _FIRST
    while end is None or time.monotonic() < end:
        yield pause if end is None else max(0.0, min(pause, end - time.monotonic()))
        pause = min(2 * pause, _LAST)


def _keep_apart() -> None:
    """In a forked child: what its parent has claimed is the parent's, and is free when that dies."""
    for claim in tuple(_held):
        claim.give_up()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_apart)
