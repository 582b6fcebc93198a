"""Tools on a real server: uvicorn, in this event loop, on a free port of this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from hybrid_compute.server.mcp import ToolsApp


@asynccontextmanager
async def served(app: ToolsApp) -> AsyncIterator[str]:
    """The URL of these tools, until the block is left."""
    starlette = Starlette(routes=[Route("/mcp", app)], lifespan=lambda _app: app.running())
    server = uvicorn.Server(uvicorn.Config(starlette, port=0, log_level="error", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no other way to say so
        await asyncio.sleep(0.001)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        await serving
