"""The memory that kernels work on: four gigabytes of addresses, the same for all kernels and threads of a process.

Arrays from outside are copied into it for the time of a call. Those that lie in it already are not: `empty` makes such,
and whoever keeps arrays in shared memory of his own can give the kernels a `Memory` that finds them there.

    0        64 KiB, never handed out
    ...      regions, allocated first fit
    4 GiB    a guard, on which any access is a trap
"""

from __future__ import annotations

import bisect
import ctypes
import math
import mmap
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from hybrid_compute.errors import BackendUnavailable, LimitExceeded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SIZE = 1 << 32
GUARD = 1 << 20
_LOWEST = 1 << 16
_ALIGNED = 64
_KEPT = 64 << 20
"""What is larger goes back to the system as soon as it is free."""


class Memory(Protocol):
    """Addresses that kernels may work on: `SIZE` of them from `base` on, and a guard of `GUARD` behind."""

    @property
    def base(self) -> int: ...

    def find(self, address: int, size: int) -> int | None:
        """Where in it these bytes of the process lie; None if they lie elsewhere."""
        ...

    def allocate(self, size: int) -> int:
        """An offset from which so many bytes are the caller's, until released."""
        ...

    def release(self, offset: int) -> None: ...


class LinearMemory:
    """Memory of this process alone."""

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise BackendUnavailable("kernels have no memory of their own on Windows yet")
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (0x4000 if sys.platform == "linux" else 0)  # MAP_NORESERVE
        try:
            self._map = mmap.mmap(-1, SIZE + GUARD, flags=flags)
        except OSError as error:
            raise BackendUnavailable(
                f"kernels need {SIZE >> 30} GiB of address space, not of memory: {error}"
            ) from error
        self._pin = ctypes.c_char.from_buffer(self._map)  # as long as it is there, the map cannot be closed
        self.base = ctypes.addressof(self._pin)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if libc.mprotect(self.base + SIZE, GUARD, 0):
            raise BackendUnavailable("kernels cannot guard their memory: mprotect refuses")
        self._lock = threading.Lock()
        self._free: list[tuple[int, int]] = [(_LOWEST, SIZE - _LOWEST)]
        """(offset, size), in order, with a gap between any two."""
        self._used: dict[int, int] = {}

    def find(self, address: int, size: int) -> int | None:
        offset = address - self.base
        return offset if 0 <= offset <= SIZE - size else None

    def allocate(self, size: int) -> int:
        size = max(_ALIGNED, -(-size // _ALIGNED) * _ALIGNED)
        with self._lock:
            for index, (offset, room) in enumerate(self._free):
                if room >= size:
                    self._free[index : index + 1] = [(offset + size, room - size)] if room > size else []
                    self._used[offset] = size
                    return offset
        raise LimitExceeded(f"the {SIZE >> 30} GiB that kernels work on have no room for {size} bytes more")

    def release(self, offset: int) -> None:
        with self._lock:
            size = self._used.pop(offset)
            if size > _KEPT:
                start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
                self._map.madvise(mmap.MADV_DONTNEED, start, (offset + size) // mmap.PAGESIZE * mmap.PAGESIZE - start)
            index = bisect.bisect(self._free, (offset, size))
            first, end, after = offset, offset + size, index
            if index and sum(self._free[index - 1]) == offset:
                index -= 1
                first = self._free[index][0]
            if after < len(self._free) and self._free[after][0] == end:
                end += self._free[after][1]
                after += 1
            self._free[index:after] = [(first, end - first)]

    def after_fork(self) -> None:
        """In a child the memory is a copy, and nobody holds the lock."""
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """How many bytes are allocated."""
        with self._lock:
            return sum(self._used.values())


def array_in(memory: Memory, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray[Any, np.dtype[Any]]:
    """An array that lies in this memory until the last view of it has gone."""
    import numpy as np

    wanted = np.dtype(dtype)
    size = math.prod(shape) * wanted.itemsize if isinstance(shape, tuple) else shape * wanted.itemsize
    offset = memory.allocate(max(1, size))
    anchor = (ctypes.c_char * max(1, size)).from_address(memory.base + offset)
    weakref.finalize(anchor, memory.release, offset).atexit = False
    return np.frombuffer(memoryview(anchor), np.uint8)[:size].view(wanted).reshape(shape)
