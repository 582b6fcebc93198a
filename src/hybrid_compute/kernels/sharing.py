"""Shared memory where kernels work: segments of arenas and blocks of shared arrays, mapped a second time.

    elsewhere   an array in memory that several processes see
                    │ the same pages
    kernels     0 ... region ... region ... 4 GiB

So a kernel uses an array that a worker was lent, that `empty` made there, or that is shared, without a copy. The second
mapping is made when an array in that memory is first met, and ends with the first one, whose last user may be any view.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Callable
from functools import partial

from hybrid_compute.errors import BackendUnavailable, LimitExceeded
from hybrid_compute.links.arena import arenas
from hybrid_compute.shared.block import block_at
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
                place = self._place_of(segment.map, segment.size, partial(arena.duplicate, segment))
                return None if place is None else place + offset
        block = block_at(address, size)
        if block is None:
            return None
        place = self._place_of(block.map, len(block.map), block.duplicate)
        return None if place is None else place + address - block.base

    def end(self, region: int) -> None:
        """This region is given up: if there is a mapping in it, that is private memory again."""
        if region in self._regions:
            place, size = self._regions[region]
            mappings.place(self._base + place, size, usable=True)
            del self._regions[region]

    def after_fork(self) -> None:
        """In a child nobody holds the lock."""
        self._lock = threading.Lock()

    def _place_of(self, memory: mmap.mmap, size: int, duplicate: Callable[[], int]) -> int | None:
        """Where this memory is. `duplicate` gives a descriptor of it, or -1."""
        return self._places.get(id(memory)) or self._map(memory, size, duplicate)

    def _map(self, memory: mmap.mmap, size: int, duplicate: Callable[[], int]) -> int | None:
        with self._lock:
            if id(memory) in self._places:
                return self._places[id(memory)]
            descriptor = duplicate() if self.mapped + size <= MOST else -1
            if descriptor < 0:
                return None
            try:
                return self._map_descriptor(memory, size, descriptor)
            except (BackendUnavailable, LimitExceeded):
                return None
            finally:
                os.close(descriptor)

    def _map_descriptor(self, memory: mmap.mmap, size: int, descriptor: int) -> int:
        region = self._allocate(size + mmap.PAGESIZE)
        place = -(-region // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            mappings.place(self._base + place, size, descriptor, usable=True)
        except BackendUnavailable:
            self._release(region)
            raise
        self._regions[region] = place, size
        self._places[id(memory)] = place
        weakref.finalize(memory, self._forget, id(memory), region).atexit = False
        return place

    def _forget(self, key: int, region: int) -> None:
        """The first mapping has gone. This may be called anywhere, also while the locks are held."""
        self._places.pop(key, None)
        self._release(region)
