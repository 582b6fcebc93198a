"""WebSockets as uvicorn speaks them, with an eye on who reads and who does not."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

_FRAGMENTS = 100_000
"""Pieces that a frame of a WebSocket may come in: many small ones are kept at a multiple of their size."""


class Framing(WebSocketsSansIOProtocol):
    """A WebSocket that has patience with the slow, and none with those who never read.

    uvicorn itself lets go of a client that does not answer a ping in time, though it be in the middle of a large frame,
    or the ping behind one; and then it waits for the end of what nobody reads. It also takes a handshake that was
    answered with an error for one that was never finished, and a text that is not UTF-8 for an error of its own, and
    complains of each stranger. A handshake that it cannot read it does not answer at all, and keeps its connection.
    """

    _heard = False
    _unread = 0
    _sent = _sent_before = 0

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:  # whoever reads nothing gets no more of those either
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < _FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.conn.fail(CloseCode.POLICY_VIOLATION, "too many fragments")
            self.handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            self.frames = [b"".join(self.frames)]
            if not _is_utf8(self.frames[0]):
                self.conn.fail(CloseCode.INVALID_DATA, "a text that is not UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def send_keepalive_ping(self) -> None:
        super().send_keepalive_ping()
        self._look()

    def keepalive_timeout(self) -> None:
        if self._look():
            assert self.ping_timeout is not None
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        if self._unread:
            self.transport.abort()

    def _look(self) -> bool:
        """Whether the client has said something since the last look, or has read some of what there is for it."""
        heard, self._heard = self._heard, False
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        said_more, self._sent_before = self._sent > self._sent_before, self._sent
        has_read = self._unread < before or (self._unread > 0 and said_more)  # also the last: the ping may be behind it
        return heard or has_read

    async def send(self, message: Any) -> None:
        try:
            await super().send(message)
        except RuntimeError:
            if not self.close_sent:
                raise
            raise ClientDisconnected from None  # uvicorn takes it for a mistake to say more to who was let go
        self._sent += 1
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True


def _is_utf8(data: bytes) -> bool:
    if data.isascii():  # as nearly all are
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
