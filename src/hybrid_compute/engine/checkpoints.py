"""Places in the history to go back to, and copies of the state as it was there.

    entries      0 ......... 50 ........ 100 ....... 150 ....... 200 ...
    checkpoints              |            |           |           |        every 50 entries: `undo` goes back to them
    copies       |           |                                    |        as many as take a tenth of the time

Where there is no copy, an older one does, with the entries since done again. So what a copy costs is no part of what an
action costs, however large the state is, and going back takes ten times as long as a copy at most, or fifty entries.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from time import perf_counter
from typing import Any, Final, NamedTuple

from hybrid_compute.engine.copying import copy_of

EVERY: Final = 50
"""Entries between two checkpoints."""

PAUSE: Final = 9
"""No copy is taken for so many times the time that the last one took."""


class Copy(NamedTuple):
    """The state as it was after so many entries."""

    length: int
    state: Any


class Kept(NamedTuple):
    """What has to be known for going back as far as before, if not as quickly."""

    lengths: list[int]
    base: Copy


class Checkpoints:
    """The last `most` checkpoints, and copies for them."""

    def __init__(self, state: Any, *, most: int) -> None:
        self._lengths: deque[int] = deque(maxlen=most)
        self._copies: deque[Copy] = deque(maxlen=most)
        self.start_over(0, state)

    def start_over(self, length: int, state: Any) -> None:
        """There is no way back beyond this state."""
        self._lengths.clear()
        self._copies.clear()
        self._base = self._taken(length, state)

    def kept(self) -> Kept:
        return Kept([*self._lengths], self._base)

    def go_on(self, kept: Kept, length: int, state: Any) -> None:
        """From where others were, whose history was so long, and whose state is this one."""
        self._lengths.clear()
        self._lengths.extend(kept.lengths)
        self._copies.clear()
        self._copies.append(self._taken(length, state))
        self._base = kept.base

    @property
    def first(self) -> int:
        """The length of the history that one can go back to."""
        return self._base.length

    def reach(self, length: int, state: Any) -> None:
        """The history is so long now."""
        if length % EVERY or not length or length in self._lengths:
            return
        self._lengths.append(length)
        if perf_counter() >= self._next_copy:
            with suppress(Exception):  # a state that cannot be copied: an older copy does, and who asks for one is told
                self._copies.append(self._taken(length, state))

    def pop(self) -> int | None:
        """The last checkpoint, which is one no more; None if there is none."""
        return self._lengths.pop() if self._lengths else None

    def forget_after(self, length: int) -> None:
        while self._lengths and self._lengths[-1] > length:
            self._lengths.pop()
        while self._copies and self._copies[-1].length > length:
            self._copies.pop()

    @property
    def last_copy(self) -> Copy:
        """The newest copy. Its state is never changed: take another copy of that."""
        return self._copies[-1] if self._copies else self._base

    def _taken(self, length: int, state: Any) -> Copy:
        began = perf_counter()
        taken = Copy(length, copy_of(state))
        ended = perf_counter()
        self._next_copy = ended + PAUSE * (ended - began)
        return taken
