"""The app inside others: it is plain ASGI, so whoever can mount an app can mount this one."""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from hybrid_compute.server import App, create_app
from tests.server.tasks import add


def in_starlette(app: App) -> Any:
    return Starlette(routes=[Mount("/api", app)])


def in_fastapi(app: App) -> Any:
    fastapi = pytest.importorskip("fastapi")
    made = fastapi.FastAPI()
    made.mount("/api", app)
    return made


def in_litestar(app: App) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about itself
        litestar = pytest.importorskip("litestar")

        @litestar.asgi("/api", is_mount=True, copy_scope=True)
        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        return litestar.Litestar([mounted])


@asynccontextmanager
async def served(app: Any) -> AsyncGenerator[str]:
    """Any ASGI app behind uvicorn in this loop, and its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
    running = asyncio.create_task(server._serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


@pytest.mark.parametrize("mount", [in_starlette, in_fastapi, in_litestar])
async def test_an_app_that_is_mounted_serves_below_its_place(mount: Any) -> None:
    """Calls, frames and pages are found below `/api`; the places start with the first request, end with `aclose`."""
    app = create_app([add], workers=1)
    async with served(mount(app)) as url, aiohttp.ClientSession() as client:
        call = {"task": "add", "input": {"a": 1, "b": 2}}
        async with client.post(f"{url}/api/compute", json=call) as answer:
            assert (answer.status, await answer.json()) == (200, {"result": 3})
        async with client.post(f"{url}/api/tasks/add", json={"a": 1, "b": 2}) as answer:
            assert await answer.json() == {"result": 3}
        async with client.ws_connect(f"{url}/api/compute") as frames:
            await frames.send_json({"id": 1, **call})
            assert await frames.receive_json(timeout=10) == {"id": 1, "result": 3}
        async with client.get(f"{url}/api/tasks") as answer:
            assert [each["name"] for each in (await answer.json())["tasks"]] == ["add"]
        async with client.get(f"{url}/api/openapi.json") as answer:
            document = await answer.json()
            assert document["servers"] == [{"url": "/api"}]
            assert "/tasks/add" in document["paths"]
        await app.aclose()
        async with client.post(f"{url}/api/compute", json=call) as answer:
            assert (answer.status, (await answer.json())["code"]) == (503, "backend_closed")
