"""The memory of one device: buffers that are used again, and a ledger that says no before the driver has to.

Drivers do not: a software one promises any amount and dies when it is touched. So what may be taken is counted here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from hybrid_compute.errors import LimitExceeded

_LEAST = 256
MAP_READ, MAP_WRITE, COPY_SRC, COPY_DST, UNIFORM, STORAGE = 0x1, 0x2, 0x4, 0x8, 0x40, 0x80
"""How a buffer is used: https://www.w3.org/TR/webgpu/#buffer-usage."""


class Copied(NamedTuple):
    """Bytes that were copied on the way to a device and back: by the processor, and by the device itself.

    Where the processor writes and reads what shaders use, the device copies nothing.
    """

    by_host: int
    by_device: int


class Buffer:
    """A buffer of the device. `number` is never used twice."""

    __slots__ = ("number", "raw", "size", "wgpu")

    def __init__(self, wgpu: Any, number: int, size: int) -> None:
        self.wgpu = wgpu
        self.raw = wgpu._internal
        self.number = number
        self.size = size


class Memory:
    """Buffers of a device, within a budget. `take` and `make` are for the thread that owns the device.

    In a `direct` one the host can map what the shaders use.
    """

    def __init__(self, device: Any, budget: int, largest: int, *, direct: bool) -> None:
        self.budget = budget
        self.largest = largest
        self.used = 0
        """Bytes of all buffers that there are, those that wait to be used again among them."""
        self.direct = direct
        self.by_host = self.by_device = 0
        """Bytes that were copied on the way here and back, by whom."""
        self._usage = STORAGE | COPY_DST | COPY_SRC | (MAP_READ | MAP_WRITE if direct else 0)
        self._device = device
        self.raw = device._internal
        self._made = 0
        self.sparing: list[Callable[[], None]] = []
        """Called when room is needed: to give back what only saves the way to the device."""
        self._free: dict[int, list[Buffer]] = {}
        self._returned: deque[Buffer] = deque()  # by any thread, also in the middle of anything, by the collector
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Bytes of the buffers that wait to be used again."""
        self._sort_in()
        return sum(size * len(buffers) for size, buffers in self._free.items())

    def take(self, nbytes: int) -> Buffer:
        """A buffer of at least so many bytes, with anything in it. Raises `LimitExceeded`."""
        size = min(rounded(nbytes), self.largest)
        self._sort_in()
        waiting = self._free.get(size)
        return waiting.pop() if waiting else self.make(size, self._usage)

    def give_back(self, buffer: Buffer) -> None:
        """Let the buffer be used for something else. Any thread may say so."""
        self._returned.append(buffer)

    def make(self, size: int, usage: int) -> Buffer:
        """A new buffer. Raises `LimitExceeded` if it is larger than the device allows, or there is no room for it."""
        if size > self.largest:
            raise LimitExceeded(
                f"{size:,} bytes in one piece are more than the device allows, {self.largest:,} (max-buffer-size): "
                f"all that a call sends, or gets back, is one piece; put arrays on the device before it, or split them",
                backend="gpu",
            )
        if self.used + size > self.budget:
            self.trim()
        if self.used + size > self.budget:
            raise LimitExceeded(
                f"{size:,} bytes are asked for, and {self.used:,} of {self.budget:,} are in use: release arrays, "
                f"or give the device more with GpuBackend(memory=...)",
                backend="gpu",
            )
        made = self._device.create_buffer(size=size, usage=usage)
        self.used += size
        self._made += 1
        return Buffer(made, self._made, size)

    def destroy(self, buffer: Buffer) -> None:
        """Give it back to the driver."""
        buffer.wgpu.destroy()
        self.used -= buffer.size

    def _sort_in(self) -> None:
        while self._returned:
            buffer = self._returned.popleft()
            self._free.setdefault(buffer.size, []).append(buffer)

    def trim(self) -> None:
        """Give back to the driver what waits to be used again, and what only saves the way to the device."""
        for spare in self.sparing:
            spare()
        self._sort_in()
        for buffers in self._free.values():
            for buffer in buffers:
                self.destroy(buffer)
        self._free.clear()


def rounded(nbytes: int) -> int:
    """The size of the buffers that so many bytes are put into: four sizes for each power of two."""
    if nbytes <= _LEAST:
        return _LEAST
    step = 1 << max((nbytes - 1).bit_length() - 3, 2)
    return -(-nbytes // step) * step
