"""The memory that kernels work on: four gigabytes of addresses, the same for all kernels and threads of a process.

Arrays from outside are copied into it for the time of a call. Those that lie in it already are not: `empty` makes such,
and what workers and their parent share is mapped into it (see `sharing`). Whoever keeps arrays elsewhere can give the
kernels a `Memory` that finds them there.

    0        64 KiB, never handed out
    ...      regions, allocated first fit
    4 GiB    a guard, on which any access is a trap
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from hybrid_compute.errors import BackendUnavailable, LimitExceeded
from hybrid_compute.kernels.regions import Regions
from hybrid_compute.kernels.sharing import Sharing
from hybrid_compute.wasm import mappings
from hybrid_compute.wasm.shield import shielded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SIZE = 1 << 32
GUARD = 1 << 20
_LOWEST = 1 << 16
_KEPT = 64 << 20
"""What is larger goes back to the system as soon as it is free."""


class Memory(Protocol):
    """Addresses that kernels may work on: `SIZE` of them from `base` on, and a guard of `GUARD` behind."""

    @property
    def base(self) -> int: ...

    def find(self, address: int, size: int) -> int | None:
        """Where in it these bytes of the process are to be found; None if nowhere.

        They are there as long as whoever owns them at `address` keeps them.
        """
        ...

    def allocate(self, size: int) -> int:
        """An offset from which so many bytes are the caller's, until released."""
        ...

    def release(self, offset: int) -> None: ...


class LinearMemory:
    """Memory of this process, into which shared memory can be mapped.

    Safe to use from many threads, and in finalisers, which may come at any moment: a release is put down and done by
    who next holds the lock. Handlers of signals may raise at any moment, too: what was put down is done again then.
    """

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise BackendUnavailable("kernels have no memory of their own on Windows yet")
        self.base = mappings.reserve(SIZE + GUARD, "kernels")
        weakref.finalize(self, mappings.release, self.base, SIZE + GUARD).atexit = False
        if not mappings.protect(self.base, SIZE, usable=True):
            raise BackendUnavailable("kernels get no memory: mprotect refuses")
        mappings.prefer_large_pages(self.base, SIZE)
        self._lock = threading.Lock()
        self._released: dict[int, None] = {}
        self._regions = Regions(_LOWEST, SIZE)
        self.sharing = Sharing(self.base, self.allocate, self.release)

    def find(self, address: int, size: int) -> int | None:
        offset = address - self.base
        return offset if 0 <= offset <= SIZE - size else self.sharing.find(address, size)

    def allocate(self, size: int) -> int:
        offset: int | None = None
        try:
            with self._lock:
                self._settle()
                offset = self._regions.take(size)
        except BaseException:  # of a signal, say: nobody else knows of it
            if offset is not None:
                self.release(offset)
            raise
        if offset is None:
            raise LimitExceeded(f"the {SIZE >> 30} GiB that kernels work on have no room for {size} bytes more")
        return offset

    @shielded
    def release(self, offset: int) -> None:
        try:
            self._released[offset] = None
        except BaseException:  # of a signal that was handled before that
            self._released[offset] = None
            raise
        # Not `acquire`, which a signal may follow at once. Whose lock it is now, another thread's, gives it back soon.
        if not self._lock.locked():
            with self._lock:
                self._settle()

    def after_fork(self) -> None:
        """In a child the memory is a copy, and nobody holds the lock."""
        self._lock = threading.Lock()
        self.sharing.after_fork()

    @property
    def used(self) -> int:
        """How many bytes are allocated."""
        with self._lock:
            self._settle()
            return self._regions.used

    def _settle(self) -> None:
        for offset in list(self._released):
            self.sharing.end(offset)
            size = self._regions.give_back(offset)
            del self._released[offset]
            if size > _KEPT:
                start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
                mappings.empty(self.base + start, (offset + size) // mmap.PAGESIZE * mmap.PAGESIZE - start)


def array_in(memory: Memory, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray[Any, np.dtype[Any]]:
    """An array that lies in this memory until the last view of it has gone."""
    import numpy as np

    wanted = np.dtype(dtype)
    size = math.prod(shape) * wanted.itemsize if isinstance(shape, tuple) else shape * wanted.itemsize
    offset = memory.allocate(max(1, size))
    anchor = (ctypes.c_char * max(1, size)).from_address(memory.base + offset)
    weakref.finalize(anchor, memory.release, offset).atexit = False
    return np.frombuffer(memoryview(anchor), np.uint8)[:size].view(wanted).reshape(shape)
