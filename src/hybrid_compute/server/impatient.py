"""HTTP as uvicorn speaks it, without its patience: every connection comes to the point, and its answers are read."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hybrid_compute.links.wire import JSON, Failure
from hybrid_compute.server.joining import Joining

HEAD = 10.0
"""Seconds that the head of a request may take, from the first byte of the connection."""


_HEAD_SIZE = 1 << 18
"""Bytes that it may have, more or less: they are kept before anybody knows whose they are."""

READING = 40.0
"""Seconds in which a client reads something of what there is for it. On a WebSocket it has two pings' time, as much."""


class Impatient(HttpToolsProtocol):
    """Closes a connection that does not come to the point.

    uvicorn itself waits for the head of a request as long as it takes, so a client that sends a byte now and then
    would hold a connection for ever. So would one that goes on with a body that is answered already, or with blanks;
    and one that does not read would hold its answers.
    """

    _deadline: asyncio.TimerHandle | None = None
    _next_look: asyncio.TimerHandle | None = None
    _unread = 0
    _in_head = True
    _size = 0

    def connection_made(self, transport: Any) -> None:
        _without_delay(transport.get_extra_info("socket"))
        super().connection_made(cast("asyncio.Transport", Joining(transport, self.loop)))
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._size += len(data)
            if self._size > _HEAD_SIZE and not self.transport.is_closing():
                self.send_400_response("The head of this request is too large.")
        is_idle = getattr(self.cycle, "response_complete", True)  # there is none before the first request
        if is_idle and self._deadline is None and self.transport.get_protocol() is self:  # else it is a WebSocket now
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP at all is answered in JSON too."""
        body = b"".join(JSON.write_failure(None, Failure(msg, "protocol_error")))
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        self.transport.write(head + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._size = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._deadline is not None:
            self._stop_waiting()
        self._in_head = False
        super().on_headers_complete()
        parser: Any = self.parser
        if not parser.should_upgrade():
            self.headers = deque(maxlen=0)  # type: ignore[assignment]  # else trailers are taken for headers
        elif not self._should_upgrade():
            self.cycle.keep_alive = False  # what follows would be said in a protocol that is not spoken here

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_looking()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():  # it is closed only once that is read
            self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_looking()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _look_later(self) -> None:
        self._stop_looking()
        self._unread = self.transport.get_write_buffer_size()
        self._next_look = self.loop.call_later(READING, self._look)

    def _stop_looking(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    def _look(self) -> None:
        """Whether the client has read something since the last look. Nobody writes more until it has."""
        if self.transport.get_protocol() is not self:  # it is a WebSocket now, which looks for itself
            return
        if self.transport.get_write_buffer_size() < self._unread:
            self._look_later()
        else:
            self.transport.abort()


def _without_delay(connection: socket.socket | None) -> None:
    """Send at once, also from a listening socket that somebody handed us: asyncio sees to it only for its own.

    The head and the body of an answer are written one after the other, and without this the second would wait 40 ms
    for the other side to confirm the first.
    """
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
