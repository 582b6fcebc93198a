"""Pooled shared memory: segments, and arrays that live in them.

An `Arena` belongs to one process. It owns the segments it made and knows the segments it was shown by its peers.
Memory is handed out as views. A segment is free again when the last view of it has gone, wherever it went: slices,
arrays and pickled copies all keep the view's anchor alive, and the anchor's finaliser is the only bookkeeper.

    lend      a buffer -> a descriptor; no copy when it already lies in a segment, one copy otherwise
    borrow    a descriptor -> a view of the same memory in the other process
    give back the borrower's view has gone: the lender may forget the loan

Segments are kept warm: copying into pages that are already mapped is ten times faster than into fresh ones.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import mmap
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

LARGE = 64 * 1024
"""Buffers from this size on travel in shared memory; below it a copy through the pipe is cheaper."""

_SMALLEST = 1 << 16

Descriptor: TypeAlias = tuple[int, int, int, int, bool]
"""(loan, segment key, offset, length, exclusive): exclusive when nobody else can see that memory."""


_arenas: list[weakref.ref[Arena]] = []
"""All of this process."""


def arenas() -> list[Arena]:
    """The arenas of this process, so that memory can be recognised as shared wherever it turns up."""
    return [arena for known in tuple(_arenas) if (arena := known()) is not None]


if hasattr(os, "register_at_fork"):
    # In a child some other thread may have held their locks.
    os.register_at_fork(after_in_child=_arenas.clear)


class NoMemory(Exception):
    """Shared memory is short; the caller sends the value in the frame itself."""


class Segment:
    """One block of shared memory, mapped in this process."""

    __slots__ = ("anchor_type", "base", "fd", "key", "map", "size", "views")

    def __init__(self, key: int, size: int, memory: mmap.mmap, *, fd: int = -1) -> None:
        self.fd = -1
        self.key = key
        self.size = size
        self.map = memory
        self.views = 0
        self.anchor_type = ctypes.c_char * size
        self.base = ctypes.addressof(self.anchor_type.from_buffer(memory))
        self.fd = fd  # last: it is closed by whoever opened it, if anything fails before

    def __del__(self) -> None:
        close_fd(self)


class Arena:
    """The shared memory of one process: `limit` bytes of its own at most, `keep` of them warm while unused.

    It has `most` segments at most, because each takes two descriptors in every process that sees it.

    `owner` numbers the process among its peers; a segment's key is unique among all of them. Safe to use from many
    threads: finalisers only append to a deque, which the next caller empties under the lock.
    """

    def __init__(
        self, owner: int = 0, *, limit: int | None = None, keep: int = 256 << 20, most: int | None = None
    ) -> None:
        self._serial = itertools.count(owner << 32)
        self._loan = itertools.count(1)
        self._limit = half_of_memory() if limit is None else limit
        self._keep = keep
        self._most = share_of_descriptors() if most is None else most
        self._lock = threading.Lock()
        self._segments: dict[int, Segment] = {}
        self._by_base: list[Segment] = []
        self._bases: list[int] = []  # of those segments, ascending: bisected at the speed of C
        self._free: dict[int, list[Segment]] = {}
        self._anchors: dict[int, tuple[weakref.ref[Any], Segment, Callable[[], None] | None]] = {}
        self.gone: deque[weakref.ref[Any]] = deque()
        self._owned: set[int] = set()
        self.watchers: list[Callable[[int], None]] = []  # told the key of each segment that is forgotten
        self.allocated = 0
        self.unused = 0
        _arenas.append(weakref.ref(self, _arenas.remove))

    def __repr__(self) -> str:
        return f"<Arena {len(self._segments)} segments, {self.allocated >> 10} KiB own, {self.unused >> 10} KiB unused>"

    def allocate(self, size: int) -> tuple[memoryview, Segment]:
        """A writable view of `size` fresh bytes (not zeroed). Raises `NoMemory` beyond the limit."""
        with self._lock:
            self._settle()
            segment = self._take(max(_SMALLEST, 1 << (size - 1).bit_length()) if size > 1 else _SMALLEST)
            return self._view(segment, 0, size, None), segment

    def locate(self, address: int, size: int) -> tuple[Segment, int] | None:
        """The segment that holds these bytes, and where in it; None if they are private memory."""
        with self._lock:
            at = bisect.bisect_right(self._bases, address) - 1
            if at < 0:
                return None
            segment = self._by_base[at]
            offset = address - segment.base
            return (segment, offset) if offset + size <= segment.size else None

    def lend(self, buffer: Any) -> tuple[Descriptor, Segment, Any]:
        """Describe `buffer`, a contiguous memoryview or array, to a peer.

        Keep the third value, the anchor, until the peer gives the loan back.
        """
        size = buffer.nbytes
        address = address_of(buffer)
        found = self.locate(address, size) if address is not None else None
        if found is not None:
            segment, offset = found
            return (next(self._loan), segment.key, offset, size, False), segment, buffer
        view, segment = self.allocate(size)
        copy(buffer, view)
        return (next(self._loan), segment.key, 0, size, True), segment, view

    def borrow(self, segment: Segment, offset: int, size: int, gone: Callable[[], None] | None) -> memoryview:
        """A view of a peer's memory (or of our own, come back). `gone` is called once the last use of it ends."""
        with self._lock:
            self._settle()
            return self._view(segment, offset, size, gone)

    def admit(self, segment: Segment) -> None:
        """Make a peer's segment known here, so that its memory is recognised when it is lent on."""
        with self._lock:
            self._know(segment)

    def duplicate(self, segment: Segment) -> int:
        """Another descriptor of this segment, for who maps it once more; -1 where it has none, or is forgotten."""
        with self._lock:
            return os.dup(segment.fd) if segment.fd >= 0 else -1

    def known(self, key: int) -> Segment | None:
        return self._segments.get(key)

    def dismiss(self, owner: int) -> None:
        """A peer is gone: forget its segments. Views that are still in use keep their memory."""
        with self._lock:
            for segment in [each for key, each in self._segments.items() if key >> 32 == owner]:
                self._forget(segment)

    def drop(self, key: int) -> None:
        """A peer has given up one of its segments."""
        with self._lock:
            if key in self._segments and key not in self._owned:
                self._forget(self._segments[key])

    def settle(self) -> None:
        """Take back what finalisers have reported since the last use."""
        with self._lock:
            self._settle()

    def close(self) -> None:
        """Close what only this process knows of. Memory in use stays valid until its last view has gone."""
        with self._lock:
            self._settle()
            for segment in self._segments.values():
                close_fd(segment)
            self._segments.clear()
            self._by_base.clear()
            self._bases.clear()
            self._free.clear()
            self._owned.clear()

    # Under the lock.

    def _take(self, size: int) -> Segment:
        if size in self._free:
            return self._take_free(size)
        if len(self._owned) >= self._most and (larger := self._take_larger(size)) is not None:
            return larger
        while self._free and (len(self._owned) >= self._most or self.allocated + size > self._limit):
            self._give_up(min(self._free))
        if len(self._owned) >= self._most:
            raise NoMemory(f"{self._most} blocks of shared memory are in use, and each takes open files: `ulimit -n`")
        if self.allocated + size > self._limit:
            raise NoMemory(f"{self.allocated + size} bytes of shared memory asked for, {self._limit} allowed")
        segment = self._create(next(self._serial), size)
        self.allocated += size
        self._owned.add(segment.key)
        self._know(segment)
        return segment

    def _take_larger(self, size: int) -> Segment | None:
        fitting = [each for each in self._free if each > size]
        return self._take_free(min(fitting)) if fitting else None

    def _take_free(self, size: int) -> Segment:
        free = self._free[size]
        segment = free.pop()
        if not free:
            del self._free[size]
        self.unused -= size
        return segment

    def _give_up(self, size: int) -> None:
        """Give a free segment of this size back to the system, here and wherever it is known."""
        segment = self._take_free(size)
        self._owned.discard(segment.key)
        self.allocated -= size
        self._forget(segment)
        self._destroy(segment)

    def _forget(self, segment: Segment) -> None:
        del self._segments[segment.key]
        at = self._by_base.index(segment)
        del self._by_base[at], self._bases[at]
        close_fd(segment)
        for tell in tuple(self.watchers):
            tell(segment.key)

    def _know(self, segment: Segment) -> None:
        self._segments[segment.key] = segment
        at = bisect.bisect_right(self._bases, segment.base)
        self._bases.insert(at, segment.base)
        self._by_base.insert(at, segment)

    def _view(self, segment: Segment, offset: int, size: int, gone: Callable[[], None] | None) -> memoryview:
        anchor = segment.anchor_type.from_buffer(segment.map)
        segment.views += 1
        reference = weakref.ref(anchor, self.gone.append)
        self._anchors[id(reference)] = reference, segment, gone
        return memoryview(anchor).cast("B")[offset : offset + size]

    def _settle(self) -> None:
        while self.gone:
            _, segment, gone = self._anchors.pop(id(self.gone.popleft()))
            segment.views -= 1
            if gone is not None:
                gone()
            if segment.views == 0 and segment.key in self._owned:
                self._release(segment)

    def _create(self, key: int, size: int) -> Segment:
        return create_segment(key, size)

    def _destroy(self, segment: Segment) -> None:
        """An anonymous segment goes with its last mapping."""

    def _release(self, segment: Segment) -> None:
        if self.unused + segment.size > self._keep and hasattr(mmap, "MADV_REMOVE"):
            # The pages go back to the system; the address space stays, on both sides, and fills again on use.
            segment.map.madvise(mmap.MADV_REMOVE)
        self.unused += segment.size
        self._free.setdefault(segment.size, []).append(segment)


def create_segment(key: int, size: int) -> Segment:
    """New shared memory: a memfd, which has no name and goes with its last holder. Raises `NoMemory`."""
    try:
        fd = os.memfd_create("hybrid-compute", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            return Segment(key, size, mmap.mmap(fd, size), fd=fd)
        except BaseException:
            os.close(fd)
            raise
    except (OSError, ValueError) as error:
        raise NoMemory(str(error)) from error


def open_segment(key: int, size: int, fds: list[int]) -> Segment:
    """A peer's segment, from the descriptor it sent. Raises `NoMemory` where there was no room for that."""
    if not fds:
        raise NoMemory("this process has no room for one more open file: see `ulimit -n`")
    (fd,) = fds
    try:
        return Segment(key, size, mmap.mmap(fd, size), fd=fd)
    except (OSError, ValueError) as error:
        os.close(fd)
        raise NoMemory(str(error)) from error


def close_fd(segment: Segment) -> None:
    """Close the descriptor; the mapping lives on."""
    if segment.fd >= 0:
        os.close(segment.fd)
        segment.fd = -1


def address_of(buffer: Any) -> int | None:
    """Where the bytes lie, or None when nobody here can tell."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        array = buffer if type(buffer) is numpy.ndarray else numpy.frombuffer(buffer, "B")
        address: int = array.ctypes.data
        return address
    return None if buffer.readonly else ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def copy(source: memoryview, target: memoryview) -> None:
    """Copy bytes, without the GIL when numpy is loaded, so that other threads go on meanwhile."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.copyto(numpy.frombuffer(target, numpy.uint8), numpy.frombuffer(source, numpy.uint8))
    else:
        target[:] = source


def share_of_descriptors(workers: int = 1) -> int:
    """How many segments each of so many workers may have, so that all of them leave most descriptors to the user."""
    try:
        import resource
    except ImportError:  # Windows, where shared memory takes none
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(8, soft // (8 * workers))


def half_of_memory() -> int:
    """Half of the machine's memory: beyond it, arrays travel in the frames."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return 4 << 30
