"""Keeps a line to a server: opens it, learns of its loss, and opens it again, after pauses that grow.

    not yet ── opened ──> line ── lost ──> away ── a pause, then opened ──> line
       └─── it failed ──> away                └── it failed: a longer pause ──> away

Calls do not wait while the server is away: they are told so at once, and may go elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hybrid_compute.backends.remote.health import pause
from hybrid_compute.backends.remote.line import Line
from hybrid_compute.backends.remote.upkeep import Upkeep
from hybrid_compute.clock import Clock
from hybrid_compute.errors import BackendClosed, BackendUnavailable

_log = logging.getLogger("hybrid_compute")


class Keeper:
    """One server's line, as it is now: `line`, or the reason why there is none in `away`, or neither yet."""

    def __init__(self, open: Callable[[], Awaitable[Line]], upkeep: Upkeep, clock: Clock, name: str) -> None:
        self.line: Line | None = None
        self.away: str | None = None
        self._again_at = 0.0
        self._open = open
        self._upkeep = upkeep
        self._clock = clock
        self._name = name
        self._closed = False
        self._opened: Line | None = None  # the last; one that is lost is closed, too
        self._changed = asyncio.Event()
        self._keeping = asyncio.create_task(self._keep())

    @property
    def why(self) -> str:
        """Why there is no line, and when it is tried again."""
        wait = max(0.0, self._again_at - self._clock.time())
        return f"{self.away or 'it was not reached yet'}; it is tried again in {wait:.1f} s"

    async def settled(self) -> None:
        """Wait until the server was reached, or not."""
        while self.line is None and self.away is None:
            await self._changed.wait()

    async def now(self) -> Line:
        """The line. Raises `BackendUnavailable` if the server is away."""
        await self.settled()
        if self.line is None:
            raise BackendUnavailable(self.why, backend=self._name)
        return self.line

    async def again(self) -> Line:
        """The line, as soon as there is one. Raises `BackendClosed` if there will be none."""
        while self.line is None:
            if self._closed:
                raise BackendClosed(f"the {self._name} backend is closed", backend=self._name)
            await self._changed.wait()
        return self.line

    async def aclose(self) -> None:
        """Close the line, and tell all who wait for one."""
        self._closed = True
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        self._change(None, "it was closed")
        if self._opened is not None:
            await self._opened.aclose()

    async def _keep(self) -> None:
        tried = 0
        while True:
            rest = pause(tried, self._upkeep.first_pause, self._upkeep.longest_pause)
            began = self._clock.time()
            reason = await self._use()
            tried = 0 if self._clock.time() - began > self._upkeep.longest_pause else tried + 1
            self._again_at = self._clock.time() + rest
            self._change(None, reason)
            await self._clock.sleep(rest)

    async def _use(self) -> str:
        """Open the line and keep it until it is lost; the reason."""
        try:
            line = self._opened = await self._open()
            self._change(line, None)
            await asyncio.wait([line.lost])  # which is the line's: to be cancelled here must not cancel it
            reason = line.lost.result()
            self._change(None, reason)
            await line.aclose()
            return reason
        except BackendUnavailable as error:
            return str(error)
        except Exception as error:
            _log.exception("keeping a line to backend %r failed in a way that nobody expects", self._name)
            return f"keeping a line failed: {type(error).__name__}: {error}"

    def _change(self, line: Line | None, away: str | None) -> None:
        self.line, self.away = line, away
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
