"""The line between two stages of a pipeline: what one has made and the next has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

END: Final = object()


@dataclass(slots=True, eq=False)
class Turn:
    """A place in line for all that comes of one call."""

    items: list[Any] = field(default_factory=list[Any])
    ended: bool = False


class Line:
    """What one stage has made and the next has not taken, turn by turn.

    In order, a turn is in line before its call begins; as completed, each item gets in line when it is there. At most
    `ahead` items wait, and one more if it is the one that everybody waits for.
    """

    def __init__(self, ahead: int, *, ordered: bool) -> None:
        self.is_cut = False
        self._ahead = ahead
        self._ordered = ordered
        self._turns: deque[Turn] = deque()
        self._waiting = 0
        self._closed = False
        self._readers: deque[asyncio.Future[None]] = deque()
        self._writers: dict[Turn, asyncio.Future[None]] = {}

    def turn(self) -> Turn:
        turn = Turn()
        if self._ordered:
            self._turns.append(turn)
        return turn

    async def put(self, turn: Turn, item: Any, *, last: bool = False) -> None:
        """Add an item to a turn, as soon as there is room; `last` ends the turn."""
        while not self._has_room(turn):
            room = self._writers[turn] = asyncio.get_running_loop().create_future()
            try:
                await room
            finally:
                self._writers.pop(turn, None)
        if self.is_cut:
            raise asyncio.CancelledError
        self._waiting += 1
        turn.ended = last
        if self._ordered:
            turn.items.append(item)
        else:
            self._turns.append(Turn([item], ended=True))
        self._stir()

    def end(self, turn: Turn) -> None:
        """Nothing more comes in this turn."""
        if not turn.ended:
            turn.ended = True
            self._stir()

    def close(self) -> None:
        """There will be no more turns."""
        self._closed = True
        self._stir()

    def cut(self) -> None:
        """Nobody will read any further: drop what waits, and let go who waits."""
        self.is_cut = True
        self._turns.clear()
        for each in (*self._readers, *self._writers.values()):
            if not each.done():
                each.set_result(None)

    async def take(self) -> Any:
        """The next item, or `END` when there will be none."""
        while not (self.is_cut or (self._closed and not self._turns)):
            if self._turns and self._turns[0].items:
                item = self._turns[0].items.pop(0)
                self._waiting -= 1
                self._stir()
                return item
            arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._readers.append(arrival)
            await arrival
        return END

    def _has_room(self, turn: Turn) -> bool:
        if self.is_cut or self._waiting < self._ahead:
            return True
        return bool(self._turns) and self._turns[0] is turn and not turn.items

    def _stir(self) -> None:
        """Something has changed: wake one of those who can go on. What it does wakes the next."""
        turns = self._turns
        while turns and turns[0].ended and not turns[0].items:
            turns.popleft()
        if turns and turns[0].items:
            self._wake_reader()
        elif self._closed and not turns:
            while self._readers:
                self._wake_reader()
        if self._writers:
            self._wake_writer()

    def _wake_reader(self) -> None:
        while self._readers:
            arrival = self._readers.popleft()
            if not arrival.done():
                arrival.set_result(None)
                return

    def _wake_writer(self) -> None:
        turn = next(iter(self._writers))
        if self._turns and self._turns[0] in self._writers:
            turn = self._turns[0]
        if self._has_room(turn):
            room = self._writers.pop(turn)
            if not room.done():
                room.set_result(None)
