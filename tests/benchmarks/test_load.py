"""The clients that load the servers of the benchmarks: they count right answers, and only those."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.contenders.crowd import ITEMS, Reader
from benchmarks.load import REQUEST, RESULT, Frames, connect, cut, open_socket, requests
from benchmarks.serving import Server, serving


@pytest.fixture(scope="module", params=["bare", "starlette", "ours"])
def server(request: pytest.FixtureRequest) -> Generator[Server]:
    """Each of the servers in the comparison that needs no more than this library does."""
    with serving(request.param) as running:
        yield running


async def test_every_request_is_answered_once(server: Server) -> None:
    """As many samples as calls, over all connections together."""
    connections = await connect(server.port, 4)
    try:
        samples = await requests(connections)(200)
    finally:
        for each in connections:
            each.close()
    assert len(samples) == 200
    assert min(samples) > 0


@pytest.mark.parametrize("at_once", [1, 64])
async def test_every_frame_is_answered_once(server: Server, at_once: int) -> None:
    """As many samples as calls, one burst after another on the same socket."""
    socket = await open_socket(server.port)
    try:
        frames = Frames(socket, at_once)
        assert [len(await frames.burst(calls)) for calls in (1, 100, 300)] == [1, 100, 300]
    finally:
        socket.close()


@pytest.mark.parametrize(("name", "task"), [("bare", "count"), ("ours", "count_in_loop"), ("ours", "count")])
async def test_a_reader_gets_every_item_of_its_streams(name: str, task: str) -> None:
    """Streams of the limit and of ours end with their last item, twice on the same socket."""
    with serving(name) as running:
        socket = await open_socket(running.port)
        try:
            reader = Reader(socket, task)
            await reader.stream()
            await reader.stream()
        finally:
            socket.close()


async def test_a_missing_item_is_noticed() -> None:
    """A stream that leaves one out, or ends early, fails the run."""

    async def leave_out(read: Read, write: Write) -> None:
        await _upgrade(read, write)
        await read(b"}")
        for number in range(ITEMS):
            if number != 7:
                write(b'{"id":1,"chunk":%d}' % number)

    async with _server(leave_out) as port:
        socket = await open_socket(port)
        with pytest.raises(ValueError, match="item 7 was due"):
            await Reader(socket, "count").stream()
        socket.close()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", "500 Internal Server Error"),
        (b"", "closed the connection"),
    ],
)
async def test_a_wrong_answer_fails_the_run(answer: bytes, told: str) -> None:
    """An error is no answer, and neither is silence that ends."""

    async def refuse(read: Read, write: Write) -> None:
        await read(REQUEST)
        write(answer)

    async with _server(refuse, framed=False) as port:
        connections = await connect(port, 1)
        with pytest.raises((ValueError, ConnectionError), match=told):
            await requests(connections)(10)


async def test_who_asks_on_a_closed_connection_is_told() -> None:
    """A server that hung up before it was asked is found out, over HTTP and on a WebSocket."""

    async def hang_up(read: Read, write: Write) -> None:
        await _upgrade(read, write)

    async with _server(hang_up) as port:
        socket = await open_socket(port)
        closed = socket.wait()
        with pytest.raises(ConnectionError, match="closed the connection"):
            await closed
        with pytest.raises(ConnectionError, match="closed the connection"):
            await Frames(socket, 1).burst(1)
        (connection,) = await connect(port, 1)
        connection.close()
        with pytest.raises(ConnectionError, match="closed the connection"):
            await requests([connection])(1)


async def test_an_answer_may_come_in_pieces() -> None:
    """It counts when it is whole."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(RESULT)

    async def answer(read: Read, write: Write) -> None:
        await read(REQUEST)
        write(head + RESULT[:5])
        await asyncio.sleep(0)
        write(RESULT[5:])

    async with _server(answer, framed=False) as port:
        connections = await connect(port, 1)
        assert len(await requests(connections)(1)) == 1
        connections[0].close()


async def test_a_server_that_does_not_come_up_is_none() -> None:
    """The error names the command that ended, instead of a wait without end."""
    with pytest.raises(RuntimeError, match=r"benchmarks\.serve nobody did not come up"), serving("nobody"):
        pass


def test_a_server_that_lacks_a_library_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is not installed is left out of the comparison by its name, and nothing else is."""
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(name='fastapi')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ModuleNotFoundError) as caught, serving("fastapi"):
        pass
    assert caught.value.name == "fastapi"


def _framed(text: bytes) -> bytes:
    """A server's frame."""
    size = bytes([len(text)]) if len(text) < 126 else b"\x7e" + len(text).to_bytes(2, "big")
    return b"\x81" + size + text


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(1, 400)))
def test_frames_are_cut_wherever_the_bytes_were(texts: list[bytes], sizes: list[int]) -> None:
    """The same texts come out, however the stream was divided on its way; pings are passed over."""
    stream = b"\x89\x00".join(map(_framed, texts))
    found: list[bytes] = []
    arrived = bytearray()
    while stream:
        size = sizes.pop() if sizes else len(stream)
        arrived += stream[:size]
        stream = stream[size:]
        found += cut(arrived)
    assert found == texts
    assert not arrived


# Servers that misbehave.

Read = Callable[[bytes], Awaitable[None]]
Write = Callable[[bytes], None]


@asynccontextmanager
async def _server(behave: Callable[[Read, Write], Awaitable[None]], *, framed: bool = True) -> AsyncGenerator[int]:
    """A server that behaves like that to one client, and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def read(until: bytes) -> None:
            await reader.readuntil(until)

        upgraded = False

        def write(data: bytes) -> None:
            nonlocal upgraded
            writer.write(_framed(data) if framed and upgraded else data)
            upgraded = True

        await behave(read, write)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


async def _upgrade(read: Read, write: Write) -> None:
    await read(b"\r\n\r\n")
    write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
