"""A WebSocket server that does not keep to the protocol: told as such, and no call waits for ever."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from hybrid_compute.backends.remote.backend import RemoteBackend
from hybrid_compute.backends.remote.line import CREDIT
from hybrid_compute.calls import Call
from hybrid_compute.errors import ConnectionLost, LimitExceeded, RemoteProtocolError
from hybrid_compute.runtime import Runtime
from tests.backends import remoting
from tests.backends.remoting import QUICK

Answers = Callable[[Any], list[Any]]
"""From a frame that came to those that go back."""


@asynccontextmanager
async def answering(answers: Answers, *, close: int | None = None) -> AsyncGenerator[RemoteBackend]:
    """A backend for a server that answers like this, and then closes, if told so."""

    async def compute(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for frame in socket:
            for answer in answers(msgspec.msgpack.decode(frame.data)):
                await socket.send_bytes(answer if isinstance(answer, bytes) else msgspec.msgpack.encode(answer))
            if close is not None:
                await socket.close(code=close)
        return socket

    async def tasks(request: web.Request) -> web.Response:
        return web.json_response({"tasks": [{"name": "double"}, {"name": "numbers"}]})

    app = web.Application()
    app.add_routes([web.get("/compute", compute), web.get("/tasks", tasks)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield RemoteBackend(f"ws://127.0.0.1:{runner.addresses[0][1]}", upkeep=QUICK)
    finally:
        await runner.cleanup()


BROKEN: dict[str, Answers] = {
    "garbage": lambda asked: [b"\xc1garbage"],
    "no id": lambda asked: [{"result": 42}],
    "a result for nobody": lambda asked: [{"id": None, "result": 42}],
    "an error in a list": lambda asked: [[{"id": None, "error": "no", "code": "protocol_error"}]],
    "an error for a stranger": lambda asked: [{"id": "one", "error": "no", "code": "protocol_error"}],
    "an empty list": lambda asked: [[]],
    "an id of another kind": lambda asked: [{"id": "one", "result": 42}],
}


@pytest.mark.parametrize("answers", BROKEN.values(), ids=BROKEN)
async def test_a_frame_that_belongs_to_no_call_ends_the_connection(answers: Answers) -> None:
    """Somebody waits for what it should have been, and nobody knows who."""
    async with answering(answers) as place, Runtime([place]) as rt:
        with pytest.raises(ConnectionLost, match="what it sent is not of our protocol") as caught:
            await rt.run(remoting.double, 21)
        assert caught.value.started


NAMELESS = {"id": None, "error": "this is not a call", "code": "too_large"}


async def test_an_error_without_an_id_is_for_the_only_call_there_is() -> None:
    """The server could not read whose frame it was, but only one was under way; the connection stays."""
    async with answering(lambda asked: [NAMELESS]) as place, Runtime([place]):
        line = await place._line()
        for _ in range(2):
            with pytest.raises(LimitExceeded, match="this is not a call"):
                await place.run_call(Call(remoting.double, (21,)))
            with pytest.raises(LimitExceeded, match="this is not a call"):
                await place.run_batch(Call(remoting.double), [(1,), (2,)], None)
            with pytest.raises(LimitExceeded, match="this is not a call"):
                async with place.stream_call(Call(remoting.numbers, (3,))) as items:
                    await anext(items)
        assert await place._line() is line


async def test_an_error_without_an_id_that_could_be_for_two_calls_ends_the_connection() -> None:
    """To guess would be to tell one of them what is not so."""
    answers: Answers = lambda asked: [NAMELESS] if asked["input"] == 2 else []  # noqa: E731
    async with answering(answers) as place, Runtime([place]) as rt:
        calls = [asyncio.create_task(rt.run(remoting.double, number)) for number in (1, 2)]
        for call in calls:
            with pytest.raises(ConnectionLost, match="this is not a call"):
                await call


async def test_a_call_that_was_withdrawn_still_counts_as_one_that_an_error_may_be_for() -> None:
    """Until the server has answered it. That nobody waits for it does not make the error another's."""
    seen: list[Any] = []

    def answers(asked: Any) -> list[Any]:
        seen.append(asked)
        return [NAMELESS] if asked.get("input") == 2 else []

    async with answering(answers) as place, Runtime([place]) as rt:
        withdrawn = asyncio.create_task(rt.run(remoting.double, 1))
        await remoting.until(lambda: len(seen) == 1)
        withdrawn.cancel()
        await remoting.until(lambda: seen[-1].get("cancel") is True)
        with pytest.raises(ConnectionLost, match="this is not a call"):
            await rt.run(remoting.double, 2)


async def test_what_comes_late_or_twice_is_nobodys() -> None:
    """It changes nothing for those who wait."""
    answers: Answers = lambda asked: [  # noqa: E731
        {"id": 999, "result": 1},
        {"id": asked["id"], "result": asked["input"] * 2},
        {"id": asked["id"], "result": 0},
    ]
    async with answering(answers) as place, Runtime([place]) as rt:
        assert await asyncio.gather(*(rt.run(remoting.double, number) for number in range(20))) == [*range(0, 40, 2)]


async def test_an_answer_without_result_and_error_is_the_servers_fault() -> None:
    """It has the id of its call, so the connection stays."""
    async with answering(lambda asked: [{"id": asked["id"]}]) as place, Runtime([place]) as rt:
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match="neither result nor error"):
                await rt.run(remoting.double, 21)


async def test_a_server_that_ignores_credit_is_stopped() -> None:
    """It would fill this program's memory while the reader is slow."""
    told: list[Any] = []

    def answers(asked: Any) -> list[Any]:
        told.append(asked)
        return [{"id": asked["id"], "chunk": number} for number in range(CREDIT + 1)] if "task" in asked else []

    async with answering(answers) as place, Runtime([place]):
        seen: list[int] = []
        with pytest.raises(RemoteProtocolError, match="more of a stream than it was granted"):
            async with place.stream_call(Call(remoting.numbers, (100,))) as items:
                await remoting.until(lambda: place._keeper.line._streams[1]._failure is not None)  # type: ignore[union-attr]
                async for item in items:
                    seen.append(item)  # noqa: PERF401  # a comprehension would lose them with the failure
        assert seen == list(range(CREDIT))
        await remoting.until(lambda: told[-1].get("cancel") is True)


@pytest.mark.parametrize(
    ("code", "words"), [(1001, "because it goes away"), (1009, "a message was too large"), (4000, "with code 4000")]
)
async def test_why_a_server_closed_a_connection_is_told(code: int, words: str) -> None:
    """In words, where the code has a meaning."""
    async with answering(lambda asked: [], close=code) as place, Runtime([place]) as rt:
        with pytest.raises(ConnectionLost, match=f"the server closed it, .*{words}"):
            await rt.run(remoting.double, 21)
