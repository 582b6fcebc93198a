"""Serving an app with uvicorn: where it listens, its settings, and an end that answers every call it took.

server = make_server(app, address, limits)
await server.serve(listen(address))     until SIGINT or SIGTERM; a second one does not wait
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import uvicorn

from hybrid_compute.server.app import App
from hybrid_compute.server.door import is_loopback
from hybrid_compute.server.frames import Framing
from hybrid_compute.server.impatient import Impatient
from hybrid_compute.server.limits import Limits

_log = logging.getLogger("hybrid_compute.server")

_A_MOMENT = 0.05
"""Seconds between two looks at whether all is read: nobody says so."""

_LAST_WORD = 1.0
"""Seconds that clients have to read how the calls ended that were given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens. Port 0 is any that is free. With a certificate and its key, over TLS."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: str | None = None
    key: str | None = None


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
        end = asyncio.get_running_loop().time() + self._patience
        await self._finish_calls()
        await self._finish_sending(end)
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

    async def _finish_sending(self, end: float) -> None:
        """Wait for the clients that still read their answers, though not beyond the end of patience."""
        loop = asyncio.get_running_loop()
        end = max(end, loop.time() + _LAST_WORD)
        # Nobody says when the last byte has gone.
        while (unread := self._unread()) and loop.time() < end and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(_A_MOMENT)
        for transport in unread:
            transport.abort()

    def _unread(self) -> list[asyncio.Transport]:
        """The connections with answers that wait for their client to read."""
        transports = [connection.transport for connection in self.server_state.connections]
        return [each for each in transports if each.get_write_buffer_size()]


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
        ws=Framing,
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


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The quickest event loop there is."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
