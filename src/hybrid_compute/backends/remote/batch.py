"""Many calls in few messages: what `map` is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from hybrid_compute.backends.remote.line import Answer, Message
from hybrid_compute.backends.remote.listing import Listing
from hybrid_compute.errors import BackendError
from hybrid_compute.links.wire import size_of

Ask: TypeAlias = Callable[[list[Message]], Awaitable[list[Answer]]]
"""Sends calls as one message, and waits for their answers."""

CALLS = 128
"""Calls in one message, at the most."""
BYTES = 1 << 20
"""Bytes from which a message is full."""
AT_ONCE = 4
"""Messages on their way."""


def chunks(messages: Iterable[Message], most: int, room: int | None = None) -> Iterator[list[Message]]:
    """The calls in groups of at most so many, and of not much more than `BYTES`; of less than `room`, if possible."""
    chunk: list[Message] = []
    size = 0
    for message in messages:
        value = size_of(message.value or [])
        more = value if room is None else value + _beside(message)
        if chunk and room is not None and size + more > room:
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += more
        if len(chunk) >= most or size >= BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _beside(message: Message) -> int:
    """Bytes that a call has besides its input, at the most."""
    return len(msgspec.json.encode(message.fields)) + 64  # its id is still to come


class Batch:
    """One `map` in progress. `read` makes a result of an answer, or raises what it tells."""

    def __init__(self, ask: Ask, read: Callable[[Answer], Any], limit: int | None, listing: Listing | None) -> None:
        self._ask = ask
        self._read = read
        self._room = listing.body if listing is not None else None
        self._most = min(CALLS, limit or CALLS, (listing and listing.batch) or CALLS)
        self._at_once = min(AT_ONCE, (limit or AT_ONCE * CALLS) // self._most)
        self._sent = 0
        self._results: dict[int, list[Any]] = {}

    async def run(self, messages: Iterable[Message]) -> list[Any]:
        """All results in order, or the first failure; nothing is left running either way."""
        todo = enumerate(chunks(messages, self._most, self._room))
        workers = [asyncio.create_task(self._work(todo)) for _ in range(self._at_once)]
        try:
            await asyncio.gather(*workers)
        finally:
            for each in workers:
                each.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return [result for index in sorted(self._results) for result in self._results[index]]

    async def _work(self, todo: Iterator[tuple[int, list[Message]]]) -> None:
        for index, chunk in todo:
            alone = self._sent == 0
            self._sent += 1
            try:
                answers = await self._ask(chunk)
                alone = alone and len(chunk) == 1
                self._results[index] = [self._read(answer) for answer in answers]
            except BackendError as error:
                # A batch ends as a whole. Where any of it may have begun, it has: nothing may run twice.
                error.started = error.started or not alone
                raise
