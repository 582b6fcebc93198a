"""HTTP as uvicorn speaks it, without its patience: every connection comes to the point, and its answers are read."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hybrid_compute.links.joining import Joining
from hybrid_compute.links.wire import JSON, Failure

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

    Nor does it lose the body of a request that offers to speak HTTP/2 instead, as Java's client does by default.
    """

    _deadline: asyncio.TimerHandle | None = None
    _next_look: asyncio.TimerHandle | None = None
    _unread = 0
    _in_head = True
    _size = 0
    _data = _again = b""

    def connection_made(self, transport: Any) -> None:
        _without_delay(transport.get_extra_info("socket"))
        super().connection_made(cast("asyncio.Transport", Joining(transport, self.loop)))
        self._await_head()

    def data_received(self, data: bytes) -> None:
        self._again = data
        while self._again:
            self._data, self._again = self._again, b""
            super().data_received(self._data)
        self._data = b""
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
        if self._is_offer():
            return  # it is read again
        super().on_headers_complete()
        parser: Any = self.parser
        if not parser.should_upgrade():
            self.headers = deque(maxlen=0)  # type: ignore[assignment]  # else trailers are taken for headers
        elif not self._should_upgrade():
            self.cycle.keep_alive = False  # what follows would be said in a protocol that is not spoken here

    def on_message_complete(self) -> None:
        if not self._is_offer():
            super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Read the head again without the offer: with it, what follows is not taken for its body."""
        if self._is_offer():
            upgrade = cast("httptools.HttpParserUpgrade", sys.exception())
            self._again = self._head_without_offer() + self._data[upgrade.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it

    def _is_offer(self) -> bool:
        """Whether this request offers to speak a protocol that is not spoken here."""
        parser: Any = self.parser
        if not parser.should_upgrade() or self._should_upgrade():
            return False
        return any(name == b"upgrade" for name, _ in self.headers)  # there is none with CONNECT

    def _head_without_offer(self) -> bytes:
        parser: Any = self.parser
        start = b"%s %s HTTP/%s\r\n" % (parser.get_method(), self.url, parser.get_http_version().encode())
        return start + b"".join(b"%s: %s\r\n" % each for each in self.headers if each[0] != b"upgrade") + b"\r\n"

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
