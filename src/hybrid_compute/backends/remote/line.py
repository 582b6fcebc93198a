"""What a line to a server can do, over HTTP or on a WebSocket: carry messages there and answers back.

A line knows of ids, frames and lost connections, and nothing of tasks. It raises `ConnectionLost` for what it carried
when it broke, and `BackendUnavailable` for what it never carried.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias

from hybrid_compute.errors import LimitExceeded
from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Encoding, Pieces, Reply, size_of

Fields: TypeAlias = dict[str, Any]
"""What a call says besides its input."""

ENCODINGS: dict[str, Encoding] = {each.content_type: each for each in (JSON, MESSAGE_PACK)}

CREDIT = 16
"""Items of a stream that may be on their way."""


class Message(NamedTuple):
    """One call: its fields, and its input if it has one."""

    fields: Fields
    value: Pieces | None


class Answer(NamedTuple):
    """What came back, how it is written, and how many bytes it took."""

    reply: Reply
    encoding: Encoding
    size: int


def fitting(written: Pieces, most: int | None, name: str) -> Pieces:
    """The message, if the server takes one so large, as far as that is known. Raises `LimitExceeded`."""
    size = size_of(written)
    if most is not None and size > most:
        text = f"{name} takes messages of at most {most:,} bytes, and this one would have {size:,}: nothing was sent"
        raise LimitExceeded(text, backend=name)
    return written


class Line(Protocol):
    """An open line."""

    lost: asyncio.Future[str]
    """Done when the server cannot be reached any more: the reason."""

    async def ask(self, message: Message, /) -> Answer:
        """The answer to one call. To be cancelled is to withdraw it."""
        ...

    async def ask_many(self, messages: Sequence[Message], /) -> list[Answer]:
        """The answers to many calls, sent as one message, in their order."""
        ...

    def stream(self, message: Message, /) -> AbstractAsyncContextManager[AsyncIterator[Answer]]:
        """All that comes back for one call, while the block is open; leaving it withdraws the call."""
        ...

    async def aclose(self) -> None: ...
