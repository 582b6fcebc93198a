"""How many requests are being answered: a call is over before its answer is sent, and a server ends after both."""

from __future__ import annotations

import asyncio


class Answering:
    """Counts those who are within a block of it, so that others can wait until there are none."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def drain(self) -> None:
        """Wait until all are answered."""
        while self._count:
            self._none.clear()
            await self._none.wait()
