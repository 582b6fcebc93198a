"""Which parts of a stretch of addresses are in use: first fit, and what is given back is joined with its neighbours."""

from __future__ import annotations

import bisect

ALIGNED = 64


class Regions:
    """Offsets from `low` to `high`. Not for several threads at once.

    A signal may leave any step undone. So what is used is true at any time, and changes last, in one operation; what is
    free follows from it.
    """

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high
        self._free: list[tuple[int, int]] | None = [(low, high - low)]
        """(offset, size), in order, with a gap between any two; None while it changes."""
        self._used: dict[int, int] = {}

    def take(self, size: int) -> int | None:
        """An offset from which so many bytes are the caller's, until given back; None if there is no room."""
        size = padded(max(1, size))
        free, self._free = self._gaps(), None
        for index, (offset, room) in enumerate(free):
            if room >= size:
                free[index : index + 1] = [(offset + size, room - size)] if room > size else []
                self._used[offset] = size
                self._free = free
                return offset
        self._free = free
        return None

    def give_back(self, offset: int) -> int:
        """The size of the region that is free now; 0 if it was before."""
        size = self._used.get(offset, 0)
        if not size:
            return 0
        free, self._free = self._gaps(), None
        index = bisect.bisect(free, (offset, size))
        first, end, after = offset, offset + size, index
        if index and sum(free[index - 1]) == offset:
            index -= 1
            first = free[index][0]
        if after < len(free) and free[after][0] == end:
            end += free[after][1]
            after += 1
        free[index:after] = [(first, end - first)]
        del self._used[offset]
        self._free = free
        return size

    def _gaps(self) -> list[tuple[int, int]]:
        """What is free. If a change of it was left undone, it is found out from what is used."""
        if self._free is not None:
            return self._free
        used = sorted(self._used.items())
        starts = [self._low, *(offset + size for offset, size in used)]
        ends = [*(offset for offset, _ in used), self._high]
        return [(start, end - start) for start, end in zip(starts, ends, strict=True) if end > start]

    @property
    def used(self) -> int:
        """How many bytes are taken."""
        return sum(self._used.values())


def padded(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
