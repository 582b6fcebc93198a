"""Words of shared memory that all who see them agree on: in which order they change, and with them all other memory.

Each word has one writer, and nothing is locked. A word is 64 bits, aligned, on a cache line of its own: it is read and
written in one piece, and writing one does not slow down who uses another.
"""

from __future__ import annotations

from _thread import allocate_lock

LINE = 64
"""Bytes of a cache line."""


class Words:
    """Numbers of 64 bits, by their number: sequentially consistent, as those who know C would say."""

    def __init__(self, memory: memoryview) -> None:
        self._words = memory.cast("Q")

    def __getitem__(self, number: int) -> int:
        value = self._words[number * LINE // 8]
        fence()
        return value

    def __setitem__(self, number: int, value: int) -> None:
        fence()
        self._words[number * LINE // 8] = value
        fence()


def fence() -> None:
    """What this thread has read and written before it comes before what it reads and writes after it, for all others.

    Python has no such instruction, but a lock has. To let go of one is a store before which all that came earlier is
    done, to take one a load after which all that comes later begins, and those two stay in their order: on x86, where
    each is a locked instruction, and on arm64, where a load-acquire waits for every store-release before it. The other
    way round (take, then let go) would not do: both sides may move into the middle, and pass each other there.
    """
    lock = allocate_lock()
    lock.acquire()
    lock.release()
    lock.acquire()
    lock.release()
