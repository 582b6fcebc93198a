"""Events of an engine, and who listens to them.

engine.on("draw", show)           a function, for each event of a type; "*" hears all, after the others

with engine.events("draw") as events:
    async for event in events: ...
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from hybrid_compute.engine.turn import Told

_log = logging.getLogger("hybrid_compute.engine")

DEEPEST: Final = 1000
"""How long a chain of events may be in which each one is caused by a listener to the one before."""


class Event(NamedTuple):
    """Something that an engine tells; `number` counts them."""

    type: str
    payload: Any
    source: str
    number: int


Listener: TypeAlias = Callable[[Event], object]


class Listeners:
    """Who listens. `changed` is called when types come or go."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._by_type: dict[str, dict[Listener, bool]] = {}
        self._numbers = itertools.count(1)
        self._told: deque[tuple[int, Told]] = deque()  # and how deep it is
        self._depth = 0

    @property
    def wanted(self) -> frozenset[str]:
        """The types of event that somebody listens to."""
        return frozenset(self._by_type)

    def add(self, type: str, listener: Listener, *, once: bool = False) -> None:
        """The same function counts once for a type."""
        is_new = type not in self._by_type
        self._by_type.setdefault(type, {})[listener] = once
        if is_new:
            self._changed()

    def remove(self, type: str, listener: Listener) -> None:
        listening = self._by_type.get(type, {})
        listening.pop(listener, None)
        if type in self._by_type and not listening:
            del self._by_type[type]
            self._changed()

    def tell(self, told: Iterable[Told]) -> None:
        """Tell all who listen, in order. One who raises harms nobody: it is told as an event `error`.

        What a listener causes to be told is told after that which it was told. What follows from that, and so on, is
        told no more once it is `DEEPEST`.
        """
        if self._depth == DEEPEST:
            return _log.error("listeners answer one another without end: what follows is not told")
        self._told.extend((self._depth + 1, each) for each in told)
        if self._depth:
            return
        try:
            while self._told:
                self._depth, each = self._told.popleft()
                self._tell_one(each)
        finally:
            self._depth = 0

    def _tell_one(self, told: Told) -> None:
        event = Event(told.type, told.payload, told.source, next(self._numbers))
        for error in list(self._errors(event)):  # all have heard it by then
            self._tell_of(error, event)

    def _errors(self, event: Event) -> Iterator[Exception]:
        """Call who listens to this event; what they raise."""
        for type in (event.type, "*"):
            for listener, once in list(self._by_type.get(type, {}).items()):
                if once:
                    self.remove(type, listener)
                try:
                    listener(event)
                except Exception as error:
                    yield error

    def _tell_of(self, error: Exception, event: Event) -> None:
        if event.type == "error":  # or this would go on for ever
            _log.exception("a listener to errors raised", exc_info=error)
        elif "error" in self._by_type or "*" in self._by_type:
            self._tell_one(Told("error", {"error": error, "source": event.type}, event.source))
        else:
            _log.exception("a listener to %r raised", event.type, exc_info=error)


class Events:
    """An iterator of events. What is not taken yet waits; leaving the block ends it."""

    def __init__(self, listeners: Listeners, types: Iterable[str]) -> None:
        self._listeners = listeners
        self._types = tuple(types) or ("*",)
        self._waiting: deque[Event] = deque()
        self._something = asyncio.Event()
        self._ended = False

    def _hear(self, event: Event) -> None:
        self._waiting.append(event)
        self._something.set()

    def end(self) -> None:
        """Nothing more will come, after what waits."""
        self._ended = True
        self._something.set()

    def __enter__(self) -> Events:
        for type in self._types:
            self._listeners.add(type, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for type in self._types:
            self._listeners.remove(type, self._hear)
        self.end()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._something.clear()
            await self._something.wait()
        return self._waiting.popleft()
