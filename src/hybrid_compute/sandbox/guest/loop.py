"""`asyncio.run` without I/O: what is there to wait for is time."""

from __future__ import annotations

import asyncio
import time
from typing import Any


class Loop(asyncio.BaseEventLoop):
    """An event loop whose only events are its own."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Clock()

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody else could wake it up."""


class _Clock:
    """What `BaseEventLoop` asks for events."""

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            raise RuntimeError("every coroutine waits for something that cannot happen in a sandbox")
        if timeout > 0:
            time.sleep(timeout)
        return ()

    def close(self) -> None:
        """Nothing is open."""


class Policy:
    """What `asyncio` asks for a loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return Loop()

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("There is no current event loop")
        return self._loop

    def set_event_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop


def install() -> None:
    """Make `asyncio.run` use it."""
    events: Any = asyncio.events
    events._event_loop_policy = Policy()
