"""Arrays that are the same in every call, such as tables of plans: they stay on the device as long as there is room."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid_compute.gpu.memory import Buffer, Memory
    from hybrid_compute.gpu.work import Array

MOST = 16 << 20
"""Bytes that they may take; beyond them the one that was not used for the longest time goes."""


class Constants:
    """The constants that are on a device, by the arrays that they are copies of. These must not change.

    What the frame that is being made uses is not let go before that is settled.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._known: OrderedDict[int, tuple[Array, Buffer]] = OrderedDict()
        self._used: set[int] = set()
        self._new: set[int] = set()
        memory.sparing.append(self.spare)

    @property
    def nbytes(self) -> int:
        return sum(buffer.size for _, buffer in self._known.values())

    def find(self, array: Array, nbytes: int) -> tuple[Buffer, bool]:
        """Where it lies, and whether it must first be written there. Raises `LimitExceeded` if there is no room."""
        key = id(array)
        new = key not in self._known
        if new:
            self._known[key] = array, self._memory.take(nbytes)
            self._new.add(key)
        self._used.add(key)
        self._known.move_to_end(key)
        return self._known[key][1], new

    def settle(self, *, written: bool) -> None:
        """The frame is on its way, and what was new is written; or it is not, and nobody knows what is there."""
        for key in () if written else self._new:
            self._let_go(key)
        self._new.clear()
        self._used.clear()
        while self.nbytes > MOST:
            self._let_go(next(iter(self._known)))

    def spare(self) -> None:
        """Let all go that the frame which is being made does not use."""
        for key in self._known.keys() - self._used:
            self._let_go(key)

    def _let_go(self, key: int) -> None:
        _, buffer = self._known.pop(key)
        self._memory.give_back(buffer)
