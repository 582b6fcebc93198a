"""Many calls in few messages: what `map` is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hybrid_compute.backends.remote.line import Answer, Line, Message
from hybrid_compute.errors import BackendError
from hybrid_compute.links.wire import size_of

CALLS = 128
"""Calls in one message, at the most."""
BYTES = 1 << 20
"""Bytes from which a message is full."""
AT_ONCE = 4
"""Messages on their way."""


def chunks(messages: Iterable[Message], most: int) -> Iterator[list[Message]]:
    """The calls in groups of at most so many, and of not much more than `BYTES`."""
    chunk: list[Message] = []
    size = 0
    for message in messages:
        chunk.append(message)
        size += size_of(message.value or [])
        if len(chunk) >= most or size >= BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class Batch:
    """One `map` in progress. `read` makes a result of an answer, or raises what it tells."""

    def __init__(self, line: Line, read: Callable[[Answer], Any], limit: int | None) -> None:
        self._line = line
        self._read = read
        self._most = min(CALLS, limit or CALLS)
        self._at_once = min(AT_ONCE, (limit or AT_ONCE * CALLS) // self._most)
        self._sent = 0
        self._results: dict[int, list[Any]] = {}

    async def run(self, messages: Iterable[Message]) -> list[Any]:
        """All results in order, or the first failure; nothing is left running either way."""
        todo = enumerate(chunks(messages, self._most))
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
                answers = await self._line.ask_many(chunk)
                alone = alone and len(chunk) == 1
                self._results[index] = [self._read(answer) for answer in answers]
            except BackendError as error:
                # A batch ends as a whole. Where any of it may have begun, it has: nothing may run twice.
                error.started = error.started or not alone
                raise
