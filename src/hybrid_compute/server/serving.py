"""Serving an app with uvicorn: quick settings, patience with nobody, and an end that answers every call it took.

serve(app, port=8000)     until SIGINT or SIGTERM, or a second one that does not wait
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from hybrid_compute.server.app import App
from hybrid_compute.server.door import is_loopback
from hybrid_compute.server.limits import Limits

_log = logging.getLogger("hybrid_compute.server")

HEAD = 10.0
"""Seconds that the head of a request may take, from the first byte of the connection."""


_HEAD_SIZE = 1 << 18
"""Bytes that it may have, more or less: they are kept before anybody knows whose they are."""

_FRAGMENTS = 100_000
"""Pieces that a frame of a WebSocket may come in: many small ones are kept at a multiple of their size."""

_LAST_WORD = 1.0
"""Seconds that clients have to read how the calls ended that were given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens. Port 0 is any that is free. With a certificate and its key, over TLS."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: str | None = None
    key: str | None = None


class Impatient(HttpToolsProtocol):
    """Closes a connection that does not come to the point.

    uvicorn itself waits for the head of a request as long as it takes, so a client that sends a byte now and then
    would hold a connection for ever. So would one that goes on with a body that is answered already, or with blanks.
    """

    _deadline: asyncio.TimerHandle | None = None
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

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Joining:
    """A transport that writes once in each turn of the event loop what is written in it piece by piece.

    The head and the body of an answer are two pieces, and answers to frames that came together are many: a call of the
    system for each would cost more than all that is done for a small call. All else is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes | memoryview] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | memoryview) -> None:
        if self._size + len(data) >= _MUCH:  # so that the transport can say when there is no room for more
            self._flush()
            self._transport.write(data)
            return
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)
        self._size += len(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._pieces, self._size = [], 0
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return self._size + self._transport.get_write_buffer_size()

    def _flush(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces:
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))


_MUCH = 1 << 16
"""Bytes that are written at once, without waiting for the end of the turn."""


class Sockets(WebSocketsSansIOProtocol):
    """A WebSocket that has patience with the slow, and none with those who never read.

    uvicorn itself lets go of a client that does not answer a ping in time, though it be in the middle of a large frame,
    or the ping behind one; and then it waits for the end of what nobody reads. It also takes a handshake that was
    answered with an error for one that was never finished, and complains of each stranger.
    """

    _heard = False
    _unread = 0
    _sent = _sent_before = 0

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)

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
        return heard or (self._unread > 0 and (self._unread < before or said_more))

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


class Server(uvicorn.Server):
    """A uvicorn server that finishes the calls it has taken before it closes connections."""

    def __init__(self, config: uvicorn.Config, app: App, patience: float) -> None:
        super().__init__(config)
        self._app = app
        self._patience = patience
        self._hurry: Callable[[], object] = lambda: None
        self.when_listening: Callable[[], object] = lambda: None
        """Called when it answers, and signals end it in order."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.when_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.force_exit:  # the second signal: whoever sends it does not want to wait
            self._hurry()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # no new connections
        for each in sockets or ():
            each.close()
        await self._finish_calls()
        await super().shutdown(sockets)

    async def _finish_calls(self) -> None:
        loop = asyncio.get_running_loop()
        drained = asyncio.create_task(self._app.drain())
        self._hurry = lambda: loop.call_soon_threadsafe(drained.cancel)
        await asyncio.wait([drained], timeout=0 if self.force_exit else self._patience)
        if not drained.done():
            count = self._app.desk.under_way
            _log.warning("after %g s, %d calls are still under way: they are given up", self._patience, count)
            self._app.desk.give_up()
            await asyncio.wait([drained], timeout=_LAST_WORD)
            drained.cancel()
            for connection in list(self.server_state.connections):
                if connection.transport.get_write_buffer_size():  # nobody reads that
                    connection.transport.abort()


def make_server(
    app: App, address: Address, limits: Limits, *, patience: float = 30.0, log_level: str = "info"
) -> Server:
    """A server for this app, not yet listening. Calls under way at its end have `patience` seconds.

    Raises `ValueError` if there is no reading the certificate or its key.
    """
    config = uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        loop="hybrid_compute.server.serving:new_event_loop",
        http=Impatient,
        ws=Sockets,
        ws_per_message_deflate=False,  # a megabyte takes twice as long with it
        ws_max_size=limits.body + 1024,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
        access_log=False,
        proxy_headers=False,  # nothing here goes by who a proxy says the client is
        server_header=False,
        log_level=log_level,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )
    try:
        config.load()
    except ssl.SSLError as error:
        files = " and ".join(each for each in (address.certificate, address.key) if each)
        raise ValueError(f"{files}: no certificate with its key can be read there: {error}") from error
    return Server(config, app, patience)


def listen(address: Address) -> list[socket.socket]:
    """The sockets that listen there. Raises `OSError` that says where, if they cannot."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        return [socket.create_server(where[:2], family=family, backlog=2048)]
    except OSError as error:
        raise OSError(error.errno, f"cannot listen at {address.host}:{address.port}: {error.strerror}") from error


def url_of(address: Address, listening: socket.socket) -> str:
    """Where a person finds a server that listens there."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    scheme = "https" if address.certificate else "http"
    return f"{scheme}://{host}:{listening.getsockname()[1]}"


def insist_on_tokens(address: Address, *, has_tenants: bool, insecure: bool) -> None:
    """Raise `ValueError` where strangers could run tasks."""
    if not has_tenants and not insecure and not is_loopback(address.host):
        raise ValueError(
            f"{address.host} can be reached from outside, and there are no tokens: name tenants, or say --insecure"
        )


def _without_delay(connection: socket.socket | None) -> None:
    """Send at once, also from a listening socket that somebody handed us: asyncio sees to it only for its own.

    The head and the body of an answer are written one after the other, and without this the second would wait 40 ms
    for the other side to confirm the first.
    """
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The quickest event loop there is."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
