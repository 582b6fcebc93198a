"""Fewer calls of the system: what is written in one turn of the event loop goes out together."""

from __future__ import annotations

import asyncio
from typing import Any


class Joining:
    """A transport that writes together what is written in one turn of the event loop.

    The head and the body of an answer are two pieces, and answers to frames that came together are many: a call of the
    system for each would cost more than all that is done for a small call. What comes first in a turn goes out at once,
    for it may be all that somebody waits for; a head waits for its body, and what comes later for the end of the turn.
    All else is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        # Asked for with each message, and found quicker here.
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self._pieces: list[bytes | memoryview] = []
        self._size = 0
        self._in_turn = False
        self._written = False  # something, in this turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | memoryview) -> None:
        if not self._in_turn:
            self._in_turn = True
            self._loop.call_soon(self._end_turn)
        waits = self._written or data[:7] == _HEAD
        if waits and self._size + len(data) < _MUCH:
            self._pieces.append(data)
            self._size += len(data)
            return
        self._written = True
        if self._pieces and len(data) < _MUCH:
            self._pieces.append(data)
            self._flush()
        else:
            self._flush()
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._pieces, self._size = [], 0
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return self._size + self._transport.get_write_buffer_size()

    def _end_turn(self) -> None:
        self._in_turn = self._written = False
        if self.is_closing():  # it broke meanwhile, and one of uvloop raises at what is written then, here for nobody
            self._pieces, self._size = [], 0
        self._flush()

    def _flush(self) -> None:
        if self._pieces:
            pieces, self._pieces, self._size = self._pieces, [], 0
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))


_HEAD = b"HTTP/1."

_MUCH = 1 << 16
"""Bytes that do not wait for the end of the turn: so the transport can say when there is no room for more."""
