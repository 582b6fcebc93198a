"""Memory that no arena has made, and that any arena of this process may lend: that of sandboxes.

An arena that comes upon an array in such memory joins it, as it would a segment of a peer. It differs in one thing:
both sides may write to it. Its maker says when there is no more use for it; the arenas let go of it then, and once
nobody holds it any more it is the maker's again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

OPEN = 1 << 31
"""In the key of a segment: those who see it may write to it. An arena's own segments never come to such numbers."""


class Common:
    """One block. `hold` gives a buffer over all of it; the memory stays as it is while any such buffer is alive.

    It begins four gigabytes from the next one, at least.
    """

    __slots__ = ("base", "fd", "hold", "number", "size", "told")

    def __init__(self, base: int, size: int, fd: int, hold: Callable[[], Any]) -> None:
        self.number = next(_numbers)
        self.base, self.size, self.fd, self.hold = base, size, fd, hold
        self.told: list[Callable[[], None]] = []
        commons[base >> 32] = self

    def leave(self) -> None:
        """No array of its maker lies in it any more, so that nobody will find it here. May be said twice."""
        if commons.get(self.base >> 32) is self:
            del commons[self.base >> 32]
        told, self.told = self.told, []
        for tell in told:
            tell()


commons: dict[int, Common] = {}
"""Those of this process, by the upper half of the address where they begin."""
_numbers = itertools.count(1)


def common_at(address: int, size: int) -> Common | None:
    """The block that these bytes lie in."""
    for upper in (address >> 32, (address >> 32) - 1):
        common = commons.get(upper)
        if common is not None and common.base <= address and address + size <= common.base + common.size:
            return common
    return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=commons.clear)
