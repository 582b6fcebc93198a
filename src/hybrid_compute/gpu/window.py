"""A window between the host and the device: what goes there, or comes back, in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid_compute.gpu import native
from hybrid_compute.gpu.memory import COPY_DST, COPY_SRC, MAP_READ, MAP_WRITE, STORAGE, UNIFORM, rounded

if TYPE_CHECKING:
    from hybrid_compute.gpu.memory import Buffer, Memory

LEAST = 1 << 16
"""Bytes of the smallest."""
TURNS = 64
"""So often a window may be far too large before it shrinks."""


class Need:
    """How large a window should be, after what went through it lately."""

    def __init__(self) -> None:
        self._most = 0
        self._turns = 0

    def size(self, asked: int, present: int) -> int:
        """`present` as long as it will do: not when more is asked for, or a quarter was enough for so many turns."""
        self._most, self._turns = max(self._most, asked), self._turns + 1
        if present and asked <= present and self._turns < TURNS:
            return present
        most, self._most, self._turns = self._most, 0, 0
        wanted = max(LEAST, rounded(most))
        return wanted if asked > present or not present or 4 * wanted <= present else present


class Window:
    """A buffer that the host writes, or reads, and the buffer that shaders see: mostly its copy, perhaps the same."""

    def __init__(self, memory: Memory, mode: int) -> None:
        self._memory = memory
        self._mode = mode
        self._need = Need()
        self.host: Buffer | None = None
        self.device: Buffer | None = None
        self.view: memoryview | None = None
        self.seen = 0
        """Bytes that shaders see; what lies behind them is only on its way through."""
        self.size = 0

    def reserve(self, alignment: int, nbytes: int) -> int:
        """Room for so many bytes; where it begins."""
        offset = -(-self.size // alignment) * alignment
        self.size = offset + nbytes
        return offset

    def ensure(self) -> bool:
        """Have buffers that are large enough, and not much larger for long. Whether they are new."""
        present = self.host.size if self.host is not None else 0
        size = self._need.size(self.size, present)
        if size == present:
            return False
        self.drop()
        size = max(self.size, min(size, self._memory.largest))
        writes = self._mode == native.WRITE
        host_usage = (MAP_WRITE | COPY_SRC) if writes else (MAP_READ | COPY_DST)
        device_usage = STORAGE | COPY_SRC | COPY_DST | (UNIFORM if writes else 0)
        if self._memory.direct:
            self.host = self.device = self._memory.make(size, host_usage | device_usage)
        else:
            # One after the other: where the second finds no room, the first is known and can be dropped.
            self.host = self._memory.make(size, host_usage)
            self.device = self._memory.make(size, device_usage)
        return True

    def drop(self) -> None:
        """Give the buffers up."""
        for buffer in {self.host, self.device} - {None}:
            assert buffer is not None
            self._memory.destroy(buffer)
        self.host = self.device = self.view = None

    def open(self, size: int) -> memoryview:
        """The bytes of the host's side, which is mapped."""
        assert self.host is not None
        self.view = native.mapped(self._memory.raw, self.host.raw, size)
        return self.view

    def close(self) -> None:
        """From here on the device has it."""
        assert self.host is not None
        self.view = None
        native.unmap(self.host.raw)
