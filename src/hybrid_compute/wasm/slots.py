"""Linear memories: blocks of address space in which guests live one after the other.

Each is four gigabytes of addresses, so that no index of a guest can leave it and no check is needed, of which only the
pages that the guest has asked for can be touched. They are ours, not wasmtime's, for three reasons: a block that is
used again costs a few microseconds; we see who asked for more than he may have; and what lies in one can be shared.

    0 ......... size ............... 4 GiB ... + guard
    read, write | nothing, a trap  |          a trap
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import sys
import threading
from collections.abc import Callable
from ctypes import c_int, c_long, c_size_t, c_void_p
from typing import Any

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.wasm import capi

SIZE = 1 << 32
GUARD = 32 << 20
KEPT = 64
"""So many empty blocks are kept for the next guests."""
PATIENCE = 1000
"""So often a guest may ask for more memory than it may have."""
_NOTHING, _READ_WRITE, _FIXED, _FAILED = 0, 3, 0x10, c_void_p(-1).value
_SMALL = 1 << 18
"""Bytes that are cleared by hand: giving so few pages back to the system would take longer."""

own = sys.platform != "win32"
"""Whether memories are made here. Elsewhere wasmtime makes them, and only their size is limited."""


class Room:
    """The memory of one guest: what it has, what it may have, and what it was denied last.

    Each denial takes the interpreter lock for a moment, so who is denied too often is told to `stop`.
    """

    __slots__ = ("_denials", "_stop", "denied", "limit", "slots", "used")

    def __init__(self, limit: int, stop: Callable[[], object]) -> None:
        self.limit = limit
        self._stop = stop
        self._denials = 0
        self.used = 0
        self.denied: int | None = None
        self.slots: list[Slot] = []

    def take(self, size: int) -> bool:
        """Whether so many bytes more are within the limit, and its own from now on."""
        if self.used + size > self.limit:
            self.denied = self.used + size
            self._denials += 1
            if self._denials > PATIENCE:
                self._stop()
            return False
        self.used += size
        return True


class Slot:
    """One block."""

    __slots__ = ("base", "number", "open", "room", "size")

    def __init__(self, number: int) -> None:
        self.number = number
        self.size = self.open = 0
        self.room: Room | None = None
        self.base = _libc.mmap(None, SIZE + GUARD, _NOTHING, _PRIVATE, -1, 0)
        if self.base == _FAILED:
            raise BackendUnavailable(
                f"no {SIZE >> 30} GiB of addresses (not of memory) for a sandbox: {_reason()}; see `ulimit -v`"
            )

    def resize(self, size: int) -> bool:
        """Make the first `size` bytes usable, and no others."""
        if size != self.open:
            first, last = sorted((size, self.open))
            if _libc.mprotect(self.base + first, last - first, _READ_WRITE if size > self.open else _NOTHING):
                return False
            self.open = size
        self.size = size
        return True

    def clear(self) -> None:
        """Nothing of what the guest has left is there for the next one."""
        if self.size <= _SMALL:
            ctypes.memset(self.base, 0, self.size)
        elif sys.platform == "linux":
            _libc.madvise(self.base, self.size, mmap.MADV_DONTNEED)
        else:  # elsewhere that is advice indeed, and a new mapping is the only thing sure to be empty
            _libc.mmap(self.base, SIZE, _NOTHING, _PRIVATE | _FIXED, -1, 0)
            self.open = 0


_numbers = itertools.count(1)
_free: list[Slot] = []
_used: dict[int, Slot] = {}
_making = threading.local()
if own:
    _PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (0x4000 if sys.platform == "linux" else 0)  # MAP_NORESERVE
    _libc: Any = ctypes.PyDLL(None, use_errno=True)
    _libc.mmap.restype = c_void_p
    _libc.mmap.argtypes = [c_void_p, c_size_t, c_int, c_int, c_int, c_long]
    _libc.mprotect.argtypes = [c_void_p, c_size_t, c_int]
    _libc.madvise.argtypes = [c_void_p, c_size_t, c_int]


def making(room: Room) -> None:
    """The memories that wasmtime makes in this thread from now on are for this guest."""
    _making.room = room


def _empty() -> Slot:
    try:
        return _free.pop()
    except IndexError:
        return Slot(next(_numbers))


def _reason() -> str:
    return os.strerror(ctypes.get_errno())


def _denied(text: bytes) -> int:
    return capi.error_new(text) or 0


@capi.NewMemory  # type: ignore[untyped-decorator]
def _new(_env: Any, _type: Any, least: int, most: int, _reserved: int, _guard: int, result: Any) -> int:
    try:
        room: Room = _making.room
        if not room.take(least):
            return _denied(b"memory")
        slot = _empty()
        if not slot.resize(least):
            return _denied(b"the system gives no more memory")
    except BaseException as error:  # what is raised in a callback would be printed, and forgotten
        return _denied(str(error).encode())
    slot.room = room
    room.slots.append(slot)
    _used[slot.number] = slot
    made = result[0]
    made.env, made.get_memory, made.grow_memory, made.finalizer = slot.number, _get, _grow, _leave
    return 0


@capi.GetMemory  # type: ignore[untyped-decorator]
def _get(number: int, size: Any, most: Any) -> int:
    slot = _used[number]
    size[0], most[0] = slot.size, SIZE
    return int(slot.base)


@capi.GrowMemory  # type: ignore[untyped-decorator]
def _grow(number: int, size: int) -> int:
    slot = _used[number]
    room = slot.room
    if room is None or size > SIZE or not room.take(size - slot.size):
        return _denied(b"memory")
    return 0 if slot.resize(size) else _denied(b"the system gives no more memory")


@capi.Finalizer  # type: ignore[untyped-decorator]
def _leave(number: int) -> None:
    slot = _used.pop(number)
    slot.clear()
    slot.room = None
    if len(_free) < KEPT:
        _free.append(slot)
    else:
        _libc.munmap(c_void_p(slot.base), c_size_t(SIZE + GUARD))


@capi.Finalizer  # type: ignore[untyped-decorator]
def _never(_env: Any) -> None:
    """The creator stays as long as the process."""


creator: Any = capi.MemoryCreator()
creator.env, creator.new_memory, creator.finalizer = None, _new, _never
