"""Clients that cost so little that the server is what is measured.

They speak as much HTTP and WebSocket as it takes to ask one thing again and again: requests are written once and sent
as they are, answers are compared with the one that is right. Any other answer ends the run.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeAlias, cast

from benchmarks.lazy import msgspec
from benchmarks.machine import cpu_seconds
from benchmarks.measure import Effort, Series, now

Burst: TypeAlias = Callable[[int], Awaitable[list[int]]]
"""Makes so many calls; the nanoseconds that each took."""

HOST = "127.0.0.1"
LEARNING = 500  # calls before the clock starts: ours has learned by then where they run best
INPUT = {"text": "hello", "n": [1, 2, 3]}
CALL = {"task": "echo", "input": INPUT}
CLOSED = "the server closed the connection"


def written(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


async def look(burst: Burst, calls: int, effort: Effort) -> tuple[Series, Series]:
    """How long a call takes, and how many go through in a second, in bursts of so many."""
    await burst(LEARNING)
    samples: list[int] = []
    rates: list[float] = []
    deadline = now() + int(2 * effort.seconds * 1e9)
    while len(rates) < effort.least or now() < deadline:
        start = now()
        samples += await burst(calls)
        rates.append(calls * 1e9 / (now() - start))
    return Series.of((sample / 1e3 for sample in samples), "us"), Series("calls/s", statistics.median(rates))


async def look_at_cpu(burst: Burst, calls: int, server: int) -> Series:
    """The CPU time that a call takes in the process of the server: a figure that a busy machine hardly moves."""
    before = cpu_seconds(server)
    await burst(calls)
    return Series("us", (cpu_seconds(server) - before) / calls * 1e6)


# HTTP: as many connections as requests in flight.


REQUEST = (
    b"POST /compute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (len(written(CALL)), written(CALL))
)
RESULT = written({"result": INPUT})


class Requests(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last is here."""

    def __init__(self) -> None:
        self._done: asyncio.Future[None] | None = None
        self._samples: list[int] = []
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._arrived = b""

    def ask(self, calls: int, samples: list[int]) -> asyncio.Future[None]:
        """So many requests, one after another; done with the last."""
        self._left, self._samples = calls, samples
        self._done = done = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            self._fail(ConnectionError(CLOSED))
        else:
            self._ask()
        return done

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        if not self._arrived.startswith(b"HTTP/1.1 200 "):
            self._fail(ValueError(f"the server answered {self._arrived[:300]!r}"))
        elif self._arrived.endswith(RESULT):
            self._samples.append(now() - self._asked)
            self._left -= 1
            if self._left:
                self._ask()
            elif self._done is not None:
                self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError(CLOSED))

    def close(self) -> None:
        self._transport.abort()

    def _ask(self) -> None:
        self._arrived = b""
        self._asked = now()
        self._transport.write(REQUEST)

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


async def connect(port: int, count: int) -> list[Requests]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Requests, HOST, port))[1] for _ in range(count)]


def requests(connections: Sequence[Requests]) -> Burst:
    """Bursts of requests, one in flight on each of these connections."""

    async def burst(calls: int) -> list[int]:
        samples: list[int] = []
        each = max(1, calls // len(connections))
        await asyncio.gather(*[connection.ask(each, samples) for connection in connections])
        return samples

    return burst


# WebSocket: as many frames in flight as the server is to have at once, on one connection.


UPGRADE = (
    b"GET /compute HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT, PING, MASKED = 0x81, 0x89, 0x80


def frame(text: bytes) -> bytes:
    """A client's frame of up to 125 bytes. It must be masked; a mask of zeros leaves the text as it is."""
    assert len(text) < 126
    return bytes((TEXT, MASKED | len(text), 0, 0, 0, 0)) + text


def cut(data: bytearray) -> Generator[bytes]:
    """The texts of all whole frames of a server, which are taken out of `data`."""
    start = 0
    while len(data) >= start + 2:
        size, head = data[start + 1], 2
        if size == 126:
            size, head = int.from_bytes(data[start + 2 : start + 4], "big"), 4
        end = start + head + size
        if len(data) < start + head or len(data) < end:
            break
        if data[start] not in (TEXT, PING) or size > 65_535:
            raise ValueError(f"the server sent a frame that is no text: {bytes(data[start : start + 100])!r}")
        if data[start] == TEXT:  # a run is over before the server misses the answer to a ping
            yield bytes(data[start + head : end])
        start = end
    del data[:start]


class Socket(asyncio.Protocol):
    """One WebSocket. `hear` gets each text that arrives; what goes wrong ends what it waits for."""

    def __init__(self) -> None:
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting: asyncio.Future[None] = self.open
        self.hear: Callable[[bytes], None] = lambda text: None
        self._arrived = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(UPGRADE)

    def data_received(self, data: bytes) -> None:
        self._arrived += data
        try:
            if not self.open.done():
                self._opened()
            if self.open.done():
                for text in cut(self._arrived):
                    self.hear(text)
        except Exception as error:  # whatever it is: here, nobody but who waits would hear of it
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError(CLOSED))

    def send(self, text: bytes) -> None:
        self._transport.write(frame(text))

    def wait(self) -> asyncio.Future[None]:
        """What is to be done with when all has been heard."""
        self.waiting = waiting = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            self._fail(ConnectionError(CLOSED))
        return waiting

    def close(self) -> None:
        self._transport.abort()

    def _opened(self) -> None:
        head, end, rest = self._arrived.partition(b"\r\n\r\n")
        if end:
            if not head.startswith(b"HTTP/1.1 101 "):
                raise ValueError(f"the server does not open a WebSocket: {bytes(head)!r}")
            self._arrived = rest
            self.open.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self.waiting.done():
            self.waiting.set_exception(error)


async def open_socket(port: int) -> Socket:
    socket: Socket = (await asyncio.get_running_loop().create_connection(Socket, HOST, port))[1]
    await socket.open
    return socket


class Frames:
    """Calls on one WebSocket, so many at a time: the next goes out when an answer comes in."""

    def __init__(self, socket: Socket, at_once: int) -> None:
        self._socket = socket
        self._at_once = at_once
        self._read = msgspec.json.decode
        self._asked: dict[int, int] = {}
        self._samples: list[int] = []
        self._left = 0
        socket.hear = self._hear

    async def burst(self, calls: int) -> list[int]:
        self._left, self._samples = calls, []
        done = self._socket.wait()
        for _ in range(min(calls, self._at_once)):
            self._ask()
        await done
        return self._samples

    def _ask(self) -> None:
        id = self._left
        self._left -= 1
        self._asked[id] = now()
        self._socket.send(b'{"id":%d,%s' % (id, _REST))

    def _hear(self, text: bytes) -> None:
        answer = self._read(text)
        if answer.get("result") != INPUT:
            raise ValueError(f"the server answered {text[:300]!r}")
        self._samples.append(now() - self._asked.pop(answer["id"]))
        if self._left:
            self._ask()
        elif not self._asked:
            self._socket.waiting.set_result(None)


_REST = written(CALL)[1:]
