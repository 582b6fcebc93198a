"""Serving an app with uvicorn: quick settings, patience with nobody, and an end that answers every call it took.

serve(app, port=8000)     until SIGINT or SIGTERM, or a second one that does not wait
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hybrid_compute.server.app import App
from hybrid_compute.server.door import is_loopback
from hybrid_compute.server.limits import Limits

_log = logging.getLogger("hybrid_compute.server")

HEAD = 10.0
"""Seconds that the head of a request may take, from the first byte of the connection."""


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
    would hold a connection for ever.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """A uvicorn server that finishes the calls it has taken before it closes connections."""

    def __init__(self, config: uvicorn.Config, app: App, patience: float) -> None:
        super().__init__(config)
        self._app = app
        self._patience = patience

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # no new connections
        for each in sockets or ():
            each.close()
        try:
            async with asyncio.timeout(None if self.force_exit else self._patience):
                await self._app.drain()
        except TimeoutError:
            _log.warning(
                "after %g s, %d calls are still under way: they are given up", self._patience, self._app.desk.under_way
            )
        await super().shutdown(sockets)


def make_server(
    app: App, address: Address, limits: Limits, *, patience: float = 30.0, log_level: str = "info"
) -> Server:
    """A server for this app, not yet listening. Calls under way at its end have `patience` seconds."""
    config = uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        loop="uvloop" if _has_uvloop() else "asyncio",
        http=Impatient,
        ws="websockets-sansio",
        ws_per_message_deflate=False,  # a megabyte takes twice as long with it
        ws_max_size=limits.body + 1024,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
        access_log=False,
        server_header=False,
        log_level=log_level,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )
    return Server(config, app, patience)


def insist_on_tokens(address: Address, *, has_tenants: bool, insecure: bool) -> None:
    """Raise `ValueError` where strangers could run tasks."""
    if not has_tenants and not insecure and not is_loopback(address.host):
        raise ValueError(
            f"{address.host} can be reached from outside, and there are no tokens: name tenants, or say --insecure"
        )


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401  # it has none on Windows
    except ImportError:
        return False
    return True
