"""What an engine's messages go through, whatever its worker is: a process, a thread, or what a browser has."""

from __future__ import annotations

import asyncio
from typing import Protocol

from hybrid_compute.backends.pool import PoolStats
from hybrid_compute.clock import Clock
from hybrid_compute.links.ticket import Answer, Ticket


class Line(Protocol):
    """Where messages wait for their worker."""

    def wait_here(self, ticket: Ticket) -> None:
        """Wait a moment for a quick reply, if the event loop would only wait as well; or do nothing."""
        ...

    def hold(self, ticket: Ticket, seconds: float) -> None:
        """Wait for the reply in the thread of the event loop, and hold that up.

        Returns without a reply when the time is up, and where there is none before the loop turns again.
        """
        ...

    def step(self, ticket: Ticket) -> int:
        """Which part of its work the call has begun, as it has told `stepper`; 0 if it has not begun."""
        ...

    def expire(self, ticket: Ticket, seconds: float) -> None:
        """Do as if its deadline had come: it has had so many seconds."""
        ...


class Carrier(Protocol):
    """One worker, and those that follow it when it dies or is stopped. A `WorkerBackend` of size 1 is one.

    Messages are calls of the functions in `host.py`. They are done one after another, in the order in which they were
    given in, and what they carry is copied on the way. A call that does not end before its deadline is `TaskTimeout`:
    another worker takes the place of its own, and the engines that lived there are gone, as far as they cannot stay.
    """

    @property
    def size(self) -> int:
        """1: an engine lives in one worker."""
        ...

    @property
    def clock(self) -> Clock: ...

    def begin(self, ticket: Ticket, answer: Answer, loop: asyncio.AbstractEventLoop) -> Line | None:
        """Take in a message, whose outcome goes to `answer`; None if there is no room in the line."""
        ...

    @property
    def can_hold(self) -> bool:
        """Whether `Line.hold` may be called here: not by those who are being given other replies."""
        ...

    def stats(self) -> PoolStats:
        """`lost` counts the workers that died by themselves."""
        ...

    async def aclose(self) -> None:
        """Answer all, and stop the worker."""
        ...
