"""A real server for tests: uvicorn in a thread of its own, on a free port of this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hybrid_compute.server.app import App, create_app
from hybrid_compute.server.limits import Limits
from hybrid_compute.server.serving import Address, Server, make_server, new_event_loop


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs, and how to reach it."""

    app: App
    server: Server
    port: int
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/compute"

    def stop(self) -> None:
        """Ask it to stop, as a signal would, and wait until it has."""
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@contextmanager
def serving(served: Any, *, limits: Limits | None = None, patience: float = 10.0, **options: Any) -> Generator[Served]:
    """A server of these tasks, until the block is left."""
    limits = limits or Limits()
    listener = socket.create_server(("127.0.0.1", 0))
    begun = threading.Event()
    made: list[tuple[App, Server, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        app = create_app(served, limits=limits, **options)
        server = make_server(app, Address(port=0), limits, patience=patience, log_level="warning")
        made.append((app, server, asyncio.get_running_loop()))
        server.when_listening = begun.set
        try:
            await server._serve([listener])  # `serve` would take the signals, which are the main thread's
        finally:
            begun.set()

    def work() -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=work, name="server")
    thread.start()
    begun.wait(30)
    app, server, loop = made[0]
    running = Served(app, server, listener.getsockname()[1], thread, loop)
    try:
        yield running
    finally:
        running.stop()
