"""Progress on its way to a client: the latest, where a task says more than can be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hybrid_compute.links.wire import Encoding, Pieces


class Telling:
    """Takes what a task says of its progress, in the event loop, and sends it as quickly as its client reads.

    `hear` never waits. What comes while something is being sent replaces what has not been sent yet.
    """

    def __init__(self, encoding: Encoding, send: Callable[[Pieces], Awaitable[None]]) -> None:
        self._encoding = encoding
        self._send = send
        self._latest: Pieces | None = None
        self._sending: asyncio.Task[None] | None = None

    def hear(self, done: float, total: float | None, note: str) -> None:
        self._latest = self._encoding.write_value({"done": done, "total": total, "note": note})
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all())

    async def finish(self) -> None:
        """Wait until all of it is sent: what comes after it shall arrive after it."""
        if self._sending is not None:
            await self._sending

    async def aclose(self) -> None:
        """Send no more."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])

    async def _send_all(self) -> None:
        while (latest := self._latest) is not None:
            self._latest = None
            await self._send(latest)
