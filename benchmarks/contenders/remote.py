"""A call to our server and back: `RemoteBackend` beside aiohttp by hand, on asyncio's own event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from benchmarks.harness import Group
from benchmarks.lazy import aiohttp, hc, msgspec
from benchmarks.load import CALL, HOST, INPUT, LEARNING
from benchmarks.measure import Effort, Figures, await_rate, time_awaits
from benchmarks.serving import serving
from benchmarks.tasks import echo

group = Group("remote", "A trivial task at a server on this machine, as MessagePack")

HTTP, HTTP_MANY = "HTTP, 1 in flight", "HTTP, 64 in flight"
SOCKET, SOCKET_MANY = "WebSocket, 1 in flight", "WebSocket, 64 in flight"
MEASURES = (HTTP, HTTP_MANY, SOCKET, SOCKET_MANY)

AT_ONCE = 64
CALLS = 1024  # of one burst
CONTENT = {"Content-Type": "application/msgpack"}

Ask: TypeAlias = Callable[[], Awaitable[Any]]


async def _figures(ask: Ask, one: str, many: str, effort: Effort) -> Figures:
    if await ask() != INPUT:  # a wrong answer is often a quick one
        raise ValueError("the server does not echo")
    burst = _bursts(ask)
    await burst(LEARNING)
    return {one: await time_awaits(ask, effort), many: await await_rate(burst, CALLS, effort)}


def _bursts(ask: Ask) -> Callable[[int], Awaitable[object]]:
    async def several(count: int) -> None:
        for _ in range(count):
            await ask()

    return lambda calls: asyncio.gather(*[several(max(1, calls // AT_ONCE)) for _ in range(AT_ONCE)])


@group.limit("bare aiohttp", *MEASURES)
def bare(effort: Effort) -> Figures:
    async def measure(port: int) -> Figures:
        async with aiohttp.ClientSession() as session:
            ask = _post(session, f"http://{HOST}:{port}/compute")
            figures = await _figures(ask, HTTP, HTTP_MANY, effort)
            async with session.ws_connect(f"ws://{HOST}:{port}/compute") as socket:
                frames = BareFrames(socket)
                figures |= await _figures(frames.ask, SOCKET, SOCKET_MANY, effort)
                frames.close()
        return figures

    with serving("ours") as server:
        return asyncio.run(measure(server.port))


def _post(session: Any, url: str) -> Ask:
    encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode

    async def ask() -> Any:
        async with session.post(url, data=encode(CALL), headers=CONTENT) as response:
            return decode(await response.read())["result"]

    return ask


class BareFrames:
    """Calls on one WebSocket: an id, a future, one reader, no more."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._encode, self._decode = msgspec.msgpack.encode, msgspec.msgpack.decode
        self._reader = asyncio.ensure_future(self._read())

    async def ask(self) -> Any:
        id = next(self._ids)
        answered = self._waiting[id] = asyncio.get_running_loop().create_future()
        await self._socket.send_bytes(self._encode({"id": id, **CALL}))
        return await answered

    async def _read(self) -> None:
        async for frame in self._socket:
            answer = self._decode(frame.data)
            self._waiting.pop(answer["id"]).set_result(answer["result"])

    def close(self) -> None:
        self._reader.cancel()


@group.ours("RemoteBackend alone", *MEASURES)
def backend_alone(effort: Effort) -> Figures:
    """The remote place with no runtime above it."""
    task = hc.task(echo)

    async def measure(url: str, one: str, many: str) -> Figures:
        backend = hc.RemoteBackend(url)
        await backend.start()
        try:
            return await _figures(lambda: backend.run_task(task, INPUT), one, many, effort)
        finally:
            await backend.aclose()

    return _both_ways(measure)


@group.ours("Runtime.run", *MEASURES)
def runtime_run(effort: Effort) -> Figures:
    task = hc.task(echo)

    async def measure(url: str, one: str, many: str) -> Figures:
        async with hc.Runtime([hc.RemoteBackend(url)]) as rt:
            return await _figures(lambda: rt.run(task, INPUT), one, many, effort)

    return _both_ways(measure)


def _both_ways(measure: Callable[[str, str, str], Coroutine[Any, Any, Figures]]) -> Figures:
    with serving("ours") as server:
        place = f"{HOST}:{server.port}"
        figures = asyncio.run(measure(f"http://{place}", HTTP, HTTP_MANY))
        return figures | asyncio.run(measure(f"ws://{place}", SOCKET, SOCKET_MANY))
