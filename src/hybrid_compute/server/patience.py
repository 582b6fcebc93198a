"""Giving up what takes too long, all with one timer: one for each request would cost a tenth of a small call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class Patience:
    """Waits `seconds` for each thing, or up to a quarter longer: it looks at all of them four times in that time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[asyncio.Task[Any], float] = {}
        self._given_up: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def wait_for(self, thing: Awaitable[T]) -> T:
        """What it gives. Raises `TimeoutError` if that takes too long."""
        here = asyncio.current_task()
        assert here is not None
        loop = asyncio.get_running_loop()
        self._since[here] = loop.time()
        if self._timer is None:
            self._look_later(loop)
        try:
            return await thing
        except asyncio.CancelledError:
            if here not in self._given_up:
                raise
            here.uncancel()
            raise TimeoutError from None
        finally:
            del self._since[here]
            self._given_up.discard(here)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self.seconds / 4, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        late = loop.time() - self.seconds
        for task, since in self._since.items():
            if since <= late and task not in self._given_up:
                self._given_up.add(task)
                task.cancel()
        if self._since:
            self._look_later(loop)
