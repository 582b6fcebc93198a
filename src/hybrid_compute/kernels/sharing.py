"""Shared memory where kernels work: the segments of an arena, mapped a second time among their addresses.

    arena     an array in a segment of memory that several processes see
                  │ the same pages
    kernels   0 ... region ... region ... 4 GiB

So a kernel uses an array that a worker was lent, or that `empty` made there, without a copy. The second mapping is made
when an array of the segment is first met, and ends with the first one, whose last user may be any view of the memory.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Callable

from hybrid_compute.errors import BackendUnavailable, LimitExceeded
from hybrid_compute.links.arena import Arena, Segment, arenas
from hybrid_compute.wasm import mappings

MOST = 1 << 31
"""So many bytes of the four gigabytes: the rest is for copies, which always do instead."""


class Sharing:
    """The segments that are mapped at `base`. `allocate` and `release` are those of the memory there."""

    def __init__(self, base: int, allocate: Callable[[int], int], release: Callable[[int], None]) -> None:
        self._base = base
        self._allocate = allocate
        self._release = release
        self._lock = threading.Lock()
        self._places: dict[int, int] = {}
        """Where the segment begins, by the identity of its first mapping."""
        self._regions: dict[int, tuple[int, int]] = {}
        """For each region that has one: where in it the mapping begins, and its size."""

    @property
    def mapped(self) -> int:
        """How many bytes of segments are mapped."""
        return sum(size for _, size in list(self._regions.values()))

    def find(self, address: int, size: int) -> int | None:
        """Where these bytes are, if they lie in a segment that is, or can be, mapped here; None if not."""
        for arena in arenas():
            located = arena.locate(address, size)
            if located is not None:
                segment, offset = located
                place = self._places.get(id(segment.map)) or self._map(arena, segment)
                return None if place is None else place + offset
        return None

    def end(self, region: int) -> None:
        """This region is given up: if there is a mapping in it, that is private memory again."""
        if region in self._regions:
            place, size = self._regions[region]
            _place(self._base + place, size)
            del self._regions[region]

    def after_fork(self) -> None:
        """In a child nobody holds the lock."""
        self._lock = threading.Lock()

    def _map(self, arena: Arena, segment: Segment) -> int | None:
        with self._lock:
            if id(segment.map) in self._places:
                return self._places[id(segment.map)]
            descriptor = arena.duplicate(segment) if self.mapped + segment.size <= MOST else -1
            if descriptor < 0:
                return None
            try:
                return self._map_descriptor(segment, descriptor)
            except (BackendUnavailable, LimitExceeded):
                return None
            finally:
                os.close(descriptor)

    def _map_descriptor(self, segment: Segment, descriptor: int) -> int:
        region = self._allocate(segment.size + mmap.PAGESIZE)
        place = -(-region // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            _place(self._base + place, segment.size, descriptor)
        except BackendUnavailable:
            self._release(region)
            raise
        self._regions[region] = place, segment.size
        self._places[id(segment.map)] = place
        weakref.finalize(segment.map, self._forget, id(segment.map), region).atexit = False
        return place

    def _forget(self, key: int, region: int) -> None:
        """The first mapping has gone. This may be called anywhere, also while the locks are held."""
        self._places.pop(key, None)
        self._release(region)


def _place(address: int, size: int, descriptor: int = -1) -> None:
    """Have the memory of a file exactly there, or else private memory. Raises `BackendUnavailable`."""
    mappings.place(address, size, descriptor)
    if not mappings.protect(address, size, usable=True):
        raise BackendUnavailable(f"{size} bytes of shared memory cannot be mapped for kernels: mprotect refuses")
