"""The line of calls that wait for a worker: higher priority first, first come first served within one priority.

When the line is full, whoever comes next waits at the door for a turn, and enters as soon as there is room. Who gives
up in line makes room at once, but is carried out only when the line has moved that far.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

from hybrid_compute.links.codec import NOTHING
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
        self.bytes = 0
        self.length = 0
        self.full = False
        self._most_calls, self._most_bytes = limits.calls, limits.bytes
        self._lines: dict[int, deque[Ticket]] = {0: deque()}
        self._first = self._lines[0]
        self._door: deque[asyncio.Future[None]] = deque()
        self._let_in = 0  # turns given to some who have not entered yet

    def __len__(self) -> int:
        return self.length

    def push(self, ticket: Ticket, *, front: bool = False) -> None:
        line = self._lines.get(ticket.priority)
        if line is None:
            line = self._open_line(ticket.priority)
        line.appendleft(ticket) if front else line.append(ticket)
        ticket.in_line = True
        self.length += 1
        self.bytes += len(ticket.body)
        if self.length + self._let_in >= self._most_calls or self.bytes >= self._most_bytes:
            self.full = True

    def head(self) -> Ticket | None:
        """The next ticket that somebody still waits for; those given up meanwhile are dropped."""
        for line in self._lines.values():
            while line:
                if not line[0].future.done():
                    self._first = line
                    return line[0]
                self.give_up(line.popleft())
        return None

    def advance(self) -> Ticket | None:
        """Let the ticket go that `head` has just shown; the one that follows it."""
        line = self._first
        ticket = line.popleft()
        ticket.in_line = False
        self.length -= 1
        self.bytes -= len(ticket.body)
        if self.full:
            self._give_turns()
        return line[0] if line and not line[0].future.done() else self.head()

    def give_up(self, ticket: Ticket) -> None:
        """The ticket counts no more; `head` will drop it."""
        if ticket.in_line:
            ticket.in_line = False
            self.length -= 1
            self.bytes -= len(ticket.body)
            ticket.body, ticket.loans = b"", NOTHING  # it may be a while until its turn
            if self.full:
                self._give_turns()

    def take_all(self) -> list[Ticket]:
        """Empty the line."""
        taken = [ticket for line in self._lines.values() for ticket in line]
        for line in self._lines.values():
            line.clear()
        for ticket in taken:
            ticket.in_line = False
        self.length = self.bytes = 0
        self._give_turns()
        return taken

    @asynccontextmanager
    async def room(self, unless: asyncio.Future[Any]) -> AsyncGenerator[None]:
        """Wait at the door until it is this caller's turn, or `unless` is done; enter inside the block."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._door.append(turn)
        self.full = True
        self._give_turns()
        try:
            await asyncio.wait([turn, unless], return_when=asyncio.FIRST_COMPLETED)
            yield
        finally:
            self._let_in -= turn.done()
            turn.cancel()
            self._give_turns()

    def _give_turns(self) -> None:
        while self._door and (self._door[0].done() or self._has_room):
            turn = self._door.popleft()
            if not turn.done():
                turn.set_result(None)
                self._let_in += 1
        self.full = bool(self._door) or not self._has_room

    @property
    def _has_room(self) -> bool:
        return self.length + self._let_in < self._most_calls and self.bytes < self._most_bytes

    def _open_line(self, priority: int) -> deque[Ticket]:
        line: deque[Ticket] = deque()
        used = [(each, tickets) for each, tickets in self._lines.items() if tickets or each == 0]
        self._lines = dict(sorted([(priority, line), *used], reverse=True, key=itemgetter(0)))
        return line
