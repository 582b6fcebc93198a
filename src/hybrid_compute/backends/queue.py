"""The line of calls that wait for a worker: higher priority first, first come first served within one priority."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal

from hybrid_compute.links.ticket import Ticket


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait, and what a caller gets when the line is full.

    `calls` and `bytes` bound what waits; with `when_full="wait"` the caller waits for room, with `"raise"` it gets
    `LimitExceeded` at once.
    """

    calls: int = 1_000_000
    bytes: int = 2 << 30
    when_full: Literal["wait", "raise"] = "wait"

    def __post_init__(self) -> None:
        if self.calls < 1 or self.bytes < 1:
            raise ValueError(f"a queue must have room for something: {self}")


class Queue:
    """Waiting tickets. `bytes` counts their bodies."""

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        self.bytes = 0
        self.length = 0
        self._lines: dict[int, deque[Ticket]] = {0: deque()}
        self._first = self._lines[0]
        self._waiting_for_room: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return self.length

    @property
    def full(self) -> bool:
        return self.length >= self.limits.calls or self.bytes >= self.limits.bytes

    def push(self, ticket: Ticket, *, front: bool = False) -> None:
        priority = ticket.call.priority
        line = self._lines.get(priority)
        if line is None:
            line = self._lines[priority] = deque()
            self._lines = dict(sorted(self._lines.items(), reverse=True))
        line.appendleft(ticket) if front else line.append(ticket)
        self.length += 1
        self.bytes += len(ticket.body)

    def head(self) -> Ticket | None:
        """The next ticket that somebody still waits for; those given up meanwhile are dropped."""
        for line in self._lines.values():
            while line:
                if not line[0].future.done():
                    self._first = line
                    return line[0]
                self._drop(line.popleft())
        self._make_room()
        return None

    def pop(self) -> Ticket:
        """Take the ticket that `head` has just shown."""
        ticket = self._first.popleft()
        self._drop(ticket)
        if self._waiting_for_room:
            self._make_room()
        return ticket

    def take_all(self) -> list[Ticket]:
        """Empty the line."""
        taken = [ticket for line in self._lines.values() for ticket in line]
        for line in self._lines.values():
            line.clear()
        self.length = self.bytes = 0
        self._make_room()
        return taken

    async def room(self) -> None:
        """Wait until the line is no longer full. Those who wait are let in in order."""
        while self.full:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting_for_room.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._make_room()  # this turn was given and is not used: pass it on
                raise

    def _drop(self, ticket: Ticket) -> None:
        self.length -= 1
        self.bytes -= len(ticket.body)

    def _make_room(self) -> None:
        free = self.limits.calls - self.length
        while free > 0 and self._waiting_for_room and self.bytes < self.limits.bytes:
            turn = self._waiting_for_room.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1
