"""Events of an engine, and who listens to them.

engine.on("draw", show)           a function, for each event of a type; "*" hears all, after the others
async for event in engine.events("draw"): ...
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from hybrid_compute.engine.turn import Told

_log = logging.getLogger("hybrid_compute.engine")


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
        """Tell all who listen, in order. One who raises harms nobody: it is told as an event `error`."""
        for each in told:
            event = Event(each.type, each.payload, each.source, next(self._numbers))
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
            self.tell([Told("error", {"error": error, "source": event.type}, event.source)])
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
