"""Copies of arrays that kernels store into, while they are in use: whoever comes for the same memory uses the same one.

Two copies of one array would undo each other: what is copied back last has none of what the other call has stored.

    thread 1    |--- f(x) ------------------|            both work on one copy, each copies back
    thread 2          |--- f(x[10:20]) --|               what it may have stored into when it ends
    thread 3          |.............................|--- f(y), of which x is a part ---|
                                                         it waits: a copy cannot grow
"""

from __future__ import annotations

import threading
from typing import Protocol, TypeAlias

from hybrid_compute.kernels import limits
from hybrid_compute.kernels.source import KernelError

_LOOK = 0.02
"""Seconds after which one who waits asks whether its time is up."""


Piece: TypeAlias = tuple[int, int, bool]
"""Memory of the process that is copied together: its address and size, and whether a call stores into it.

It is no class, and a copy neither, because small arrays are copied in a few microseconds."""


class Region:
    """Where memory of kernels begins, in which the copies of one call are; None before and after they have any."""

    __slots__ = ("start",)

    def __init__(self) -> None:
        self.start: int | None = None


Copy: TypeAlias = tuple[Piece, int, Region]
"""Of what it is a copy, where it begins, and the region that it is in."""


class Storing(Protocol):
    """A call that stores into copies."""

    @property
    def thread(self) -> int: ...
    @property
    def copies(self) -> list[Copy]: ...


class Copies:
    """The calls that are storing into copies. Hold the `lock` to use them."""

    def __init__(self) -> None:
        # A signal may be handled by a function that calls kernels while it is held: hence an RLock.
        self.lock = threading.RLock()
        self.active: list[Storing] = []
        self.waiting = 0
        self._changed = threading.Condition(self.lock)

    def find(self, pieces: list[Piece], what: str) -> list[Copy]:
        """The copies of these that are in use. Waits until each is in one as a whole, or not at all.

        Raises what `time_limit` does if the time is up before that, and `KernelError` if it would wait for itself.
        """
        wanted = [piece for piece in pieces if piece[2]]
        while True:
            standing = [copy for each in self.active for copy in each.copies if copy[0][2]]
            found = [copy for piece in wanted if (copy := _within(piece, standing)) is not None]
            others = set(wanted) - {piece for piece, _, _ in found}
            if not any(_overlap(used, piece) for used, _, _ in standing for piece in others):
                return found
            self._wait(what)

    def _wait(self, what: str) -> None:
        if any(each.thread == threading.get_ident() for each in self.active):
            raise KernelError(
                f"{what}: it was called while this thread is in a kernel that stores into a part of its array, and "
                f"cannot wait for that: give both the whole array, or make it with kernels.empty"
            )
        limits.ticks(what)
        self.waiting += 1
        try:
            self._changed.wait(_LOOK)
        finally:
            self.waiting -= 1

    def leave(self, call: Storing) -> None:
        """This call stores no more. It may be said twice."""
        if call in self.active:
            self.active.remove(call)
        if self.waiting:
            self._changed.notify_all()

    def use(self, region: Region) -> bool:
        """Whether some call has a copy in there."""
        return any(copy[2] is region for each in self.active for copy in each.copies)

    def after_fork(self) -> None:
        """In a child nobody stores anything."""
        self.__init__()  # type: ignore[misc]


def _within(piece: Piece, standing: list[Copy]) -> Copy | None:
    """The copy of this piece that is part of one of these."""
    address, size, _ = piece
    for (first, all, _), start, region in standing:
        if first <= address and address + size <= first + all:
            return piece, start + address - first, region
    return None


def _overlap(one: Piece, other: Piece) -> bool:
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]
