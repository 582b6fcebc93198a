"""A 64 MiB array to a server on this machine and back, beside as many bytes as a body that nobody looks at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from benchmarks.harness import Group
from benchmarks.lazy import aiohttp, hc, numpy
from benchmarks.load import HOST
from benchmarks.measure import Effort, Figures, time_awaits
from benchmarks.serving import serving
from benchmarks.tasks import echo

group = Group("remote-arrays", "A 64 MiB float32 array to a server and back, as MessagePack")

ECHO = "there and back"
SHAPE = (16 << 20,)
PIECE = 1 << 18


def raw_body(cut: Callable[[memoryview], Any], effort: Effort) -> Figures:
    async def measure(url: str) -> Figures:
        body = memoryview(numpy.arange(SHAPE[0], dtype=numpy.float32).tobytes())
        headers = {"Content-Length": str(len(body))}
        async with aiohttp.ClientSession() as session:

            async def send() -> Any:
                async with session.post(url, data=cut(body), headers=headers) as response:
                    return await response.read()

            _insist(await send() == body)
            return {ECHO: await time_awaits(send, effort, unit="ms")}

    with serving("whole") as server:
        return asyncio.run(measure(f"http://{HOST}:{server.port}/"))


async def in_pieces(body: memoryview) -> AsyncIterator[memoryview]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


group.limit("bare aiohttp to raw ASGI, the bytes as one", ECHO)(partial(raw_body, bytes))
group.limit("bare aiohttp to raw ASGI, the bytes in pieces", ECHO)(partial(raw_body, in_pieces))


def runtime_run(scheme: str, where: str, effort: Effort) -> Figures:
    """The task runs in the server's own process, or in a worker of it."""
    task = hc.task(name=where)(echo)

    async def measure(url: str) -> Figures:
        array = numpy.arange(SHAPE[0], dtype=numpy.float32)
        async with hc.Runtime([hc.RemoteBackend(url)]) as rt:
            _insist(numpy.array_equal(await rt.run(task, array), array))
            return {ECHO: await time_awaits(lambda: rt.run(task, array), effort, unit="ms")}

    with serving("ours") as server:
        return asyncio.run(measure(f"{scheme}://{HOST}:{server.port}"))


def _insist(unchanged: bool) -> None:
    if not unchanged:
        raise ValueError("the array came back changed")


for scheme, over in (("http", "HTTP"), ("ws", "WebSocket")):
    group.ours(f"Runtime.run, {over}, in the server", ECHO)(partial(runtime_run, scheme, "echo"))
    group.ours(f"Runtime.run, {over}, in a worker", ECHO)(partial(runtime_run, scheme, "echo_there"))
