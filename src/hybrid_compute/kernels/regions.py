"""Which parts of a stretch of addresses are in use: first fit, and what is given back is joined with its neighbours."""

from __future__ import annotations

import bisect

ALIGNED = 64


class Regions:
    """Offsets from `low` to `high`. Not for several threads at once."""

    def __init__(self, low: int, high: int) -> None:
        self._free: list[tuple[int, int]] = [(low, high - low)]
        """(offset, size), in order, with a gap between any two."""
        self._used: dict[int, int] = {}

    def take(self, size: int) -> int | None:
        """An offset from which so many bytes are the caller's, until given back; None if there is no room."""
        size = padded(max(1, size))
        for index, (offset, room) in enumerate(self._free):
            if room >= size:
                self._free[index : index + 1] = [(offset + size, room - size)] if room > size else []
                self._used[offset] = size
                return offset
        return None

    def give_back(self, offset: int) -> int:
        """The size of the region that is free now."""
        size = self._used.pop(offset)
        index = bisect.bisect(self._free, (offset, size))
        first, end, after = offset, offset + size, index
        if index and sum(self._free[index - 1]) == offset:
            index -= 1
            first = self._free[index][0]
        if after < len(self._free) and self._free[after][0] == end:
            end += self._free[after][1]
            after += 1
        self._free[index:after] = [(first, end - first)]
        return size

    @property
    def used(self) -> int:
        """How many bytes are taken."""
        return sum(self._used.values())


def padded(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
