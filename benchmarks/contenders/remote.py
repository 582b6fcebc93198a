"""A call to our server and back: `RemoteBackend` beside aiohttp by hand, on asyncio's own event loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from benchmarks.harness import Group
from benchmarks.lazy import aiohttp, hc, msgspec
from benchmarks.load import CALL, HOST, INPUT, LEARNING
from benchmarks.measure import Effort, Figures, Series, await_rate, time_awaits
from benchmarks.serving import serving
from benchmarks.tasks import echo

group = Group("remote", "A trivial task at a server on this machine, as MessagePack")

HTTP, HTTP_MANY = "HTTP, 1 in flight", "HTTP, 64 in flight"
SOCKET, SOCKET_MANY = "WebSocket, 1 in flight", "WebSocket, 64 in flight"
HTTP_CPU, SOCKET_CPU = (f"{many}, client CPU per call" for many in (HTTP_MANY, SOCKET_MANY))
OVER_HTTP, ON_SOCKET = (HTTP, HTTP_MANY, HTTP_CPU), (SOCKET, SOCKET_MANY, SOCKET_CPU)
MEASURES = (*OVER_HTTP, *ON_SOCKET)

AT_ONCE = 64
CALLS = 1024  # of one burst
LONG_BURST = 4096
CONTENT = {"Content-Type": "application/msgpack"}

Ask: TypeAlias = Callable[[], Awaitable[Any]]


async def _figures(ask: Ask, measures: Sequence[str], effort: Effort) -> Figures:
    if await ask() != INPUT:  # a wrong answer is often a quick one
        raise ValueError("the server does not echo")
    burst = _bursts(ask)
    await burst(LEARNING)
    alone, together = await time_awaits(ask, effort), await await_rate(burst, CALLS, effort)
    return dict(zip(measures, (alone, together, await _cpu(burst)), strict=True))


async def _cpu(burst: Callable[[int], Awaitable[object]]) -> Series:
    """What a call takes of this process's own time, however busy the machine is besides."""
    before = time.process_time()
    await burst(LONG_BURST)
    return Series("us", (time.process_time() - before) / LONG_BURST * 1e6)


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
            figures = await _figures(ask, OVER_HTTP, effort)
            async with session.ws_connect(f"ws://{HOST}:{port}/compute") as socket:
                frames = BareFrames(socket)
                figures |= await _figures(frames.ask, ON_SOCKET, effort)
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

    async def measure(url: str, measures: Sequence[str]) -> Figures:
        backend = hc.RemoteBackend(url)
        await backend.start()
        try:
            return await _figures(lambda: backend.run_task(task, INPUT), measures, effort)
        finally:
            await backend.aclose()

    return _both_ways(measure)


@group.ours("Runtime.run", *MEASURES)
def runtime_run(effort: Effort) -> Figures:
    task = hc.task(echo)

    async def measure(url: str, measures: Sequence[str]) -> Figures:
        async with hc.Runtime([hc.RemoteBackend(url)]) as rt:
            return await _figures(lambda: rt.run(task, INPUT), measures, effort)

    return _both_ways(measure)


def _both_ways(measure: Callable[[str, Sequence[str]], Coroutine[Any, Any, Figures]]) -> Figures:
    with serving("ours") as server:
        place = f"{HOST}:{server.port}"
        figures = asyncio.run(measure(f"http://{place}", OVER_HTTP))
        return figures | asyncio.run(measure(f"ws://{place}", ON_SOCKET))
