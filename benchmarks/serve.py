"""One server of the comparison in this process: `python -m benchmarks.serve NAME`.

The first line printed is its port, or the library that it lacks.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import uvicorn
import uvloop

from benchmarks.apps import APPS

LARGEST = 128 << 20  # bytes of a frame, as with ours


def main(name: str) -> None:
    try:
        app = APPS[name]()
    except ModuleNotFoundError as missing:
        print(missing.name, flush=True)
        return
    run(_ours(app) if name == "ours" else _peer(app))


def run(server: uvicorn.Server) -> None:
    """Serve on uvloop, until a signal; says the port when it can be reached."""
    startup = server.startup

    async def started(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)

    server.startup = started  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve())


def _ours(app: Any) -> uvicorn.Server:
    from hybrid_compute.server import Limits
    from hybrid_compute.server.serving import Address, make_server

    return make_server(app, Address(port=0), Limits(), log_level="error")


def _peer(app: Any) -> uvicorn.Server:
    """The same settings as ours has, as far as they are of uvicorn."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            http="httptools",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_max_size=LARGEST,
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            log_level="error",
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
