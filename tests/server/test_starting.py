"""The start of an app, which comes with its first request, and its end, which may come before."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
import psutil
import pytest

from hybrid_compute.errors import BackendClosed
from hybrid_compute.server import App, create_app
from tests.server.tasks import add
from tests.server.test_mounting import served

CALL = {"task": "add", "input": {"a": 1, "b": 2}}


async def ask(url: str, client: aiohttp.ClientSession) -> tuple[int, Any]:
    async with client.post(f"{url}/compute", json=CALL) as answer:
        return answer.status, await answer.json()


def made(opened: asyncio.Event | None = None) -> tuple[App, list[str]]:
    """An app with one worker, which starts once it is let, and what becomes of its runtime."""
    app = create_app([add], workers=1)
    noted: list[str] = []
    start, aclose = app.runtime.start, app.runtime.aclose

    async def noted_start() -> None:
        noted.append("starts")
        if opened is not None:
            await opened.wait()
        await start()
        noted.append("started")

    async def noted_close() -> None:
        noted.append("closes")
        await aclose()

    app.runtime.start, app.runtime.aclose = noted_start, noted_close  # type: ignore[method-assign]
    return app, noted


async def test_a_start_that_fails_is_told_to_all_who_come(caplog: pytest.LogCaptureFixture) -> None:
    """It is tried once, and its failure is the answer to each request, in JSON."""
    caplog.set_level(logging.CRITICAL, "hybrid_compute.server")
    app = create_app([add], workers=1)
    starts: list[int] = []

    async def start() -> None:
        starts.append(1)
        await asyncio.sleep(0)
        raise OSError("there is no room")

    app.runtime.start = start  # type: ignore[method-assign]
    async with served(in_another(app)) as url, aiohttp.ClientSession() as client:
        found = await asyncio.gather(*(ask(url, client) for _ in range(3)))
        found.append(await ask(url, client))
        for status, answer in found:
            assert (status, answer["code"]) == (500, "internal_error")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(f"{url}/compute")
        assert refused.value.status == 500
    assert starts == [1]
    await app.aclose()


async def test_nothing_starts_after_the_end() -> None:
    """A request that comes then is told so, and there is no process that nobody would end."""
    app, noted = made()
    before = psutil.Process().children(recursive=True)
    await app.aclose()
    async with served(in_another(app)) as url, aiohttp.ClientSession() as client:
        status, answer = await ask(url, client)
        assert (status, answer["code"]) == (503, "backend_closed")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(f"{url}/compute")
        assert refused.value.status == 503
    with pytest.raises(BackendClosed):
        await app.start()
    assert noted == []
    assert psutil.Process().children(recursive=True) == before


async def test_an_end_while_it_starts_closes_what_it_opened() -> None:
    """The start is let finish first."""
    opened = asyncio.Event()
    app, noted = made(opened)
    starting = asyncio.create_task(app.start())
    await asyncio.sleep(0)
    closing = asyncio.create_task(app.aclose())
    while not noted:  # noqa: ASYNC110  # which takes a turn or two
        await asyncio.sleep(0)
    opened.set()
    await asyncio.gather(starting, closing)
    assert noted == ["starts", "started", "closes"]


def in_another(app: App) -> Any:
    """The app as one that is mounted: nobody tells it of the start and the end of the server."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)

    return mounted
