"""A thousand WebSocket clients at once: what each costs while it is silent, and how quickly all of them are served."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.harness import Group
from benchmarks.lazy import msgspec
from benchmarks.load import Frames, Socket, open_socket, written
from benchmarks.loops import run_on
from benchmarks.machine import pss
from benchmarks.measure import Effort, Figures, Series, await_rate
from benchmarks.serving import Server, serving

group = Group("crowd", "1,000 WebSocket clients of one server process")

STREAMS = "100 items to each"
MEMORY = "PSS of the server per idle connection"

CLIENTS = 1000
FIRST = 50  # clients that come before the memory is looked at
ITEMS = 100
FILES = CLIENTS + 200  # what both ends need open


def crowd(name: str, task: str, effort: Effort) -> Figures:
    async def measure(server: Server) -> Figures:
        sockets = await _come(server.port, FIRST)
        before = pss(server.pid)
        sockets += await _come(server.port, CLIENTS - FIRST)
        each = (pss(server.pid) - before) * 1024 / (CLIENTS - FIRST)
        streams = await await_rate(_all_stream(sockets, task), CLIENTS * ITEMS, replace(effort, least=1))
        for socket in sockets:
            socket.close()
        return {MEMORY: Series("kB", each), STREAMS: Series("items/s", streams.p50)}

    allow_files(FILES)
    with serving(name) as server:
        return run_on("uvloop", measure(server))


def allow_files(count: int) -> None:
    """Let this process, and those it will start, have so many files open. Raises `RuntimeError` if it may not."""
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise RuntimeError(f"{count} open files are needed, but this system allows {hard}: raise ulimit -n")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


async def _come(port: int, count: int) -> list[Socket]:
    """Clients that have each had one call answered, and are now silent."""
    sockets = [await open_socket(port) for _ in range(count)]
    await asyncio.gather(*[Frames(socket, 1).burst(1) for socket in sockets])
    return sockets


def _all_stream(sockets: list[Socket], task: str) -> Callable[[int], Awaitable[object]]:
    """Bursts of items: as many clients as it takes ask for their hundred at once."""
    readers = [Reader(socket, task) for socket in sockets]
    return lambda items: asyncio.gather(*[reader.stream() for reader in readers[: items // ITEMS]])


class Reader:
    """Reads streams on one WebSocket, and sees to it that no item is missing."""

    def __init__(self, socket: Socket, task: str) -> None:
        self._socket = socket
        self._request = written({"id": 1, "task": task, "input": ITEMS, "stream": True})
        self._read = msgspec.json.decode
        self._next = 0

    def stream(self) -> asyncio.Future[None]:
        self._next = 0
        self._socket.hear = self._hear
        self._socket.send(self._request)
        return self._socket.wait()

    def _hear(self, text: bytes) -> None:
        answer: dict[str, Any] = self._read(text)
        if answer.get("chunk") == self._next < ITEMS:
            self._next += 1
        elif "result" in answer and self._next == ITEMS:
            self._socket.waiting.set_result(None)
        else:
            raise ValueError(f"item {self._next} was due, and the server sent {text[:300]!r}")


group.limit("raw ASGI, msgspec", MEMORY, STREAMS)(partial(crowd, "bare", "count"))
group.ours("create_app", MEMORY, STREAMS)(partial(crowd, "ours", "count_in_loop"))
group.ours("create_app, generators in workers", STREAMS)(partial(crowd, "ours", "count"))
