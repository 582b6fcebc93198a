"""Linear memories: blocks of address space in which guests live one after the other.

Each is four gigabytes of addresses, so that no index of a guest can leave it and no check is needed, of which only the
pages that the guest has asked for can be touched. They are ours, not wasmtime's, for three reasons: a block that is
used again costs a few microseconds; we see who asked for more than he may have; and what lies in one can be shared.

A block is its guest's for as long as anybody can see it: arrays over it keep it, when the guest is long gone.

    0 ......... size ............... 4 GiB ... + guard
    read, write | nothing, a trap  |          a trap
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.links.commons import Common
from hybrid_compute.wasm import mappings
from hybrid_compute.wasm.limits import PAGE, in_units
from hybrid_compute.wasm.traps import Denied

SIZE = 1 << 32
GUARD = 32 << 20
KEPT = 64
"""So many empty blocks are kept for the next guests."""
PATIENCE = 1000
"""So often a guest may ask for more memory than it may have."""
_SMALL = 1 << 18
"""Bytes that are cleared by hand: giving so few pages back to the system would take longer."""

own = sys.platform != "win32"
"""Whether memories are made here. Elsewhere wasmtime makes them, and only their size is limited."""


class Room:
    """The memory of one guest: what it has, what it may have, and what it was denied last.

    Each denial takes the interpreter lock for a moment, so who is denied too often is told to `stop`.
    """

    __slots__ = ("_denials", "_stop", "denied", "limit", "shared", "slots", "used")

    def __init__(self, limit: int, stop: Callable[[], object], *, shared: bool = False) -> None:
        self.limit = limit
        self.shared = shared
        self._stop = weakref.WeakMethod(stop)  # of the guest, which is not to live as long as its memory is seen
        self._denials = 0
        self.used = 0
        self.denied: int | BackendUnavailable | None = None
        """So many bytes, which are more than it may have; or why the system has not what it may have."""
        self.slots: list[Slot] = []

    def take(self, size: int) -> bool:
        """Whether so many bytes more are within the limit, and its own from now on."""
        if self.used + size > self.limit:
            self._deny(self.used + size)
            return False
        self.used += size
        return True

    def give_back(self, size: int, why: BackendUnavailable) -> None:
        """It has not got what it took, because the system has no more."""
        self.used -= size
        self._deny(why)

    def _deny(self, what: int | BackendUnavailable) -> None:
        self.denied = what
        self._denials += 1
        if self._denials > PATIENCE:
            stop = self._stop()
            if stop is not None:
                stop()

    @property
    def denial(self) -> Denied | BackendUnavailable | None:
        """What it was denied last, for the error of a guest that could not do without."""
        if isinstance(self.denied, int):
            return Denied("memory", in_units(self.limit), in_units(self.denied))
        return self.denied


class Slot:
    """One block."""

    __slots__ = ("_holders", "_visited", "base", "common", "number", "open", "room", "size")

    def __init__(self, number: int) -> None:
        self.number = number
        self.size = self.open = 0
        self.room: Room | None = None
        self.common: Common | None = None
        self._visited = False  # by memory of others, that is not to be cleared
        self._holders: set[object] = set()
        self.base = mappings.reserve(SIZE + GUARD)

    def enter(self, room: Room) -> None:
        """A guest begins to live here."""
        self.room = room
        self._holders = {_GUEST}
        room.slots.append(self)
        used[self.number] = self

    def share(self, size: int) -> None:
        """Have the first `size` bytes, none of which is usable yet, be memory that other processes can be shown."""
        fd = mappings.new_file(size)
        try:
            mappings.place(self.base, size, fd)
        except BaseException:
            os.close(fd)
            raise
        self.open = 0
        self.common = Common(self.base, size, fd, self.hold)

    def abandon(self) -> None:
        """It could not be made ready: its addresses go back to the system, which is short of something."""
        if self.common is not None:
            self.common.leave()
            os.close(self.common.fd)
            self.common = None
        mappings.release(self.base, SIZE + GUARD)

    def keep_apart(self) -> None:
        """In a forked child: what was shared with others is a copy of our own."""
        if self.common is not None:
            content, size = ctypes.string_at(self.base, self.size), self.size
            self.forget()
            self.resize(size)
            ctypes.memmove(self.base, content, size)

    # Who holds it.

    def hold(self, holder: object = None) -> Any:
        """A buffer over all that the guest may ever have here, of which its first `size` bytes can be touched.

        The block is not given to another guest as long as the buffer is alive. `holder` is `ARRAYS` for the one that
        all arrays of Python lie in: when it has gone, no array comes to anybody who would find it shared.
        """
        holder = holder or object()
        assert self.room is not None
        limit = self.common.size if self.common is not None else min(whole_pages(self.room.limit), SIZE)
        buffer = (ctypes.c_char * limit).from_address(self.base)
        self._holders.add(holder)
        weakref.finalize(buffer, self._let_go, holder).atexit = False
        return buffer

    def leave(self) -> None:
        """The guest lives no more."""
        self._let_go(_GUEST)

    def _let_go(self, holder: object) -> None:
        # Called by finalisers, in any thread, and two may be the last at once: `pop` decides.
        self._holders.discard(holder)
        if self.common is not None and self._holders.isdisjoint((_GUEST, ARRAYS)):
            self.common.leave()
        if not self._holders and used.pop(self.number, None) is not None:
            self._be_free()

    def _be_free(self) -> None:
        self.clear()
        self.room = None
        if len(_free) < KEPT:
            _free.append(self)
        else:
            mappings.release(self.base, SIZE + GUARD)

    # What is in it.

    def resize(self, size: int) -> bool:
        """Make the first `size` bytes usable, and no others."""
        if size != self.open:
            first, last = sorted((size, self.open))
            if not mappings.protect(self.base + first, last - first, usable=size > self.open):
                return False
            self.open = size
        self.size = size
        return True

    def show(self, at: int, size: int, fd: int, start: int) -> None:
        """Have the guest see memory of others, in place of whole pages of its own."""
        self._visited = True
        mappings.place(self.base + at, size, fd, start, usable=True)

    def hide(self, at: int, size: int) -> None:
        """Have it see memory of its own there again, empty."""
        mappings.place(self.base + at, size, usable=True)

    def clear(self) -> None:
        """Nothing of what the guest has left is there for the next one."""
        if self.common is not None or self._visited:
            self.forget()
        elif self.size <= _SMALL:
            ctypes.memset(self.base, 0, self.size)
        elif sys.platform == "linux":
            mappings.empty(self.base, self.size)
        else:  # elsewhere that is advice indeed, and a new mapping is the only thing sure to be empty
            self.forget()

    def forget(self) -> None:
        """Be addresses only again. What others see of it stays as it is."""
        if self.common is not None:
            os.close(self.common.fd)
            self.common = None
        self._visited = False
        mappings.place(self.base, SIZE)
        self.open = 0


_GUEST, ARRAYS = object(), object()
_numbers = itertools.count(1)
_free: list[Slot] = []
used: dict[int, Slot] = {}
"""Those that somebody can see, by their number."""


def empty() -> Slot:
    """One that nobody lives in."""
    try:
        return _free.pop()
    except IndexError:
        return Slot(next(_numbers))


def prepared(room: Room, size: int, most: int) -> Slot:
    """One of which `size` bytes can be used, and others be shown `most`. Raises `BackendUnavailable`."""
    slot = empty()
    try:
        if room.shared:
            slot.share(whole_pages(min(room.limit, most)))
        if not slot.resize(size):
            raise BackendUnavailable(f"the system gives a sandbox no {in_units(size)}: {mappings.reason()}")
    except BaseException:
        slot.abandon()
        raise
    return slot


def whole_pages(size: int) -> int:
    """So many bytes, and what is missing to whole pages of WASM."""
    return -(-size // PAGE) * PAGE


def _keep_apart() -> None:
    for slot in used.values():
        slot.keep_apart()


if own and hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_apart)
