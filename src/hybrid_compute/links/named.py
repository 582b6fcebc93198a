"""Shared memory by name, for systems where processes cannot hand each other descriptors.

A block's name follows from its key, so no peer has to be told it. Windows forgets a block with its last user.
Elsewhere the name stays until it is unlinked, and that is the parent's business alone: a worker may be killed at any
moment. A worker counts the blocks it makes in the ledger, so that its parent can unlink them all; should the parent
itself be killed, the resource tracker of `multiprocessing` does it.

`multiprocessing.shared_memory` would have the tracker follow those who only attach, too (up to Python 3.12), and
cannot be let go of while a view lives. Hence this goes one step deeper on macOS and Linux.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
import weakref
from typing import Any

from hybrid_compute.links.arena import Arena, NoMemory, Segment
from hybrid_compute.links.commons import Common

if sys.platform == "win32":
    _map: Any = mmap.mmap  # its signature is another on each system

    def create(name: str, size: int) -> mmap.mmap:
        """A new block. Raises `OSError`."""
        memory: mmap.mmap = _map(-1, size, tagname=name)
        return memory

    def attach(name: str) -> mmap.mmap:
        """A block that somebody made. Raises `OSError`."""
        from multiprocessing.shared_memory import SharedMemory

        known = SharedMemory(name)  # a mapping by tag alone would make a new block where there is none
        try:
            memory: mmap.mmap = _map(-1, known.size, tagname=name)
            return memory
        finally:
            known.close()

    def unlink(name: str) -> None:
        """Forget the name, which may have been forgotten already; the memory goes with its last user."""

else:
    import _posixshmem  # type: ignore[import-not-found]
    from multiprocessing import resource_tracker

    def create(name: str, size: int) -> mmap.mmap:
        """A new block. Raises `OSError`."""
        resource_tracker.register(f"/{name}", "shared_memory")
        fd = -1
        try:
            fd = _posixshmem.shm_open(f"/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
            os.ftruncate(fd, size)
            if hasattr(os, "posix_fallocate"):  # what is too much must fail here, not kill whoever writes to it
                os.posix_fallocate(fd, 0, size)
            return mmap.mmap(fd, size)
        except BaseException:
            unlink(name)
            raise
        finally:
            if fd >= 0:
                os.close(fd)

    def attach(name: str) -> mmap.mmap:
        """A block that somebody made. Raises `OSError`."""
        fd = _posixshmem.shm_open(f"/{name}", os.O_RDWR)
        try:
            return mmap.mmap(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)

    def unlink(name: str) -> None:
        """Forget the name, which may have been forgotten already; the memory goes with its last user."""
        try:
            _posixshmem.shm_unlink(f"/{name}")
        except FileNotFoundError:
            pass
        # The tracker complains about what it does not know, and the maker may have died before it said a word.
        resource_tracker.register(f"/{name}", "shared_memory")
        resource_tracker.unregister(f"/{name}", "shared_memory")


class NamedArena(Arena):
    """An arena whose segments its peers open by name.

    `family` is what the names of a pool's blocks begin with, the same for parent and workers. `made` is a word that
    counts the segments; a worker's lies in the ledger.
    """

    def __init__(
        self,
        owner: int = 0,
        *,
        limit: int | None = None,
        most: int | None = None,
        family: str = "",
        made: memoryview | None = None,
    ) -> None:
        super().__init__(owner, limit=limit, most=most)
        self.family = family or f"hc-{secrets.token_hex(5)}"  # a whole name has at most 30 characters on macOS
        self._made = memoryview(bytearray(8)).cast("Q") if made is None else made
        self._closed = False
        if made is None:
            self._unlink = weakref.finalize(self, unlink_segments, self.family, owner, self._made, os.getpid())

    def fetch(self, key: int) -> Segment:
        """A segment that a peer has made."""
        memory = attach(segment_name(self.family, key))
        return Segment(key, len(memory), memory)

    def close(self) -> None:
        super().close()
        self._closed = True
        self._unlink()

    def _segment_of(self, common: Common) -> Segment | None:
        return None  # it has no name

    def _create(self, key: int, size: int) -> Segment:
        if self._closed:
            raise NoMemory("the arena is closed")
        self._made[0] = (key & 0xFFFFFFFF) + 1  # first: what is counted for nothing does no harm
        try:
            return Segment(key, size, create(segment_name(self.family, key), size))
        except (OSError, ValueError) as error:
            raise NoMemory(str(error)) from error

    def _destroy(self, segment: Segment) -> None:
        unlink(segment_name(self.family, segment.key))


def segment_name(family: str, key: int) -> str:
    return f"{family}-{key:x}"


def unlink_segments(family: str, owner: int, made: memoryview, process: int) -> None:
    """Unlink all segments of one owner; in a forked copy of `process`, to which they do not belong, leave them."""
    if os.getpid() == process:
        for serial in range(made[0]):
            unlink(segment_name(family, owner << 32 | serial))
