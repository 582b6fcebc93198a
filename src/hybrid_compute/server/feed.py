"""The calls of a server, as they end, for whoever looks on. Nothing is made while nobody does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

_MOST = 1_000
"""Calls that one onlooker may be behind; after that it misses some, and is told how many."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that ended: whose, of what, after how many seconds, and the code of its error if it has one."""

    tenant: str
    task: str
    seconds: float
    code: str | None


class Feed:
    """Tells every onlooker of every call."""

    def __init__(self) -> None:
        self._onlookers: set[Onlooker] = set()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._onlookers)

    def tell(self, ended: Ended) -> None:
        for onlooker in self._onlookers:
            onlooker.hear(ended)

    async def calls(self, wanted: Callable[[Ended], bool], silence: float) -> AsyncGenerator[tuple[list[Ended], int]]:
        """The calls that end from now on, as many at a time as there are, and how many were missed before them.

        After `silence` seconds without any, no calls. Ends when the feed is closed.
        """
        onlooker = Onlooker(wanted)
        self._onlookers.add(onlooker)
        try:
            while not self._closed:
                yield await onlooker.heard(silence)
        finally:
            self._onlookers.discard(onlooker)

    def close(self) -> None:
        """Let all onlookers go."""
        self._closed = True
        for onlooker in self._onlookers:
            onlooker.something.set()


class Onlooker:
    """One who looks on, at its own pace."""

    def __init__(self, wanted: Callable[[Ended], bool]) -> None:
        self.something = asyncio.Event()
        self._wanted = wanted
        self._heard: deque[Ended] = deque(maxlen=_MOST)
        self._missed = 0

    def hear(self, ended: Ended) -> None:
        if not self._wanted(ended):
            return
        self._missed += len(self._heard) == _MOST
        self._heard.append(ended)
        self.something.set()

    async def heard(self, silence: float) -> tuple[list[Ended], int]:
        """What was heard since the last time; nothing after so many seconds of silence."""
        try:
            async with asyncio.timeout(silence):
                await self.something.wait()
        except TimeoutError:
            return [], 0
        self.something.clear()
        heard, missed = list(self._heard), self._missed
        self._heard.clear()
        self._missed = 0
        return heard, missed
