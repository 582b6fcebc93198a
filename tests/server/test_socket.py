"""Calls over a WebSocket: frames, ids, and a call that is withdrawn at any point of its life."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
import msgspec
import pytest

from hybrid_compute.server.frames import Framing
from hybrid_compute.server.limits import Limits
from tests.server import tasks
from tests.server.serving import Served, serving
from tests.server.talking import BINARY, CLOSE, PATIENCE, TEXT, Frames, as_frame, insist_it_serves, wait_until

pytestmark = pytest.mark.usefixtures("complaints")

ADD = {"task": "add", "input": {"a": 1, "b": 2}}
T = TypeVar("T")


@pytest.mark.parametrize("path", ["/compute", "/"])
def test_a_frame_is_answered(served: Served, path: str) -> None:
    """At either address, with the id it came with."""
    with Frames(served.port, path) as frames:
        assert frames.ask({"id": 1, **ADD}) == {"id": 1, "result": 3}


async def test_a_client_library_agrees(served: Served) -> None:
    """Text is answered with text, and binary with binary."""
    async with aiohttp.ClientSession() as session, session.ws_connect(served.socket_url) as socket:
        await socket.send_json({"id": 1, **ADD})
        assert await socket.receive_json() == {"id": 1, "result": 3}
        await socket.send_bytes(msgspec.msgpack.encode({"id": 2, "task": "echo", "input": b"\xff"}))
        assert msgspec.msgpack.decode(await socket.receive_bytes()) == {"id": 2, "result": b"\xff"}


def test_a_call_without_an_id_is_answered_without_one(served: Served) -> None:
    """Who sends one call at a time needs none."""
    with Frames(served.port) as frames:
        assert frames.ask(ADD) == {"result": 3}
        assert frames.ask({"task": "no"})["code"] == "task_not_found"


@pytest.mark.parametrize(
    "id",
    [
        "0",
        "-1",
        "1.0",
        "1e2",
        "1E+2",
        "12345678901234567890123",
        "0.1000",
        '""',
        '"a"',
        '"\\u0061"',
        '"\\"\\\\/"',
        '"é 漢 🙂"',
        "-0.0",
    ],
)
def test_an_id_comes_back_as_it_came(served: Served, id: str) -> None:
    """To the letter, for a result and for an error: 1.0 is not 1, nor is 1e2 a hundred."""
    with Frames(served.port) as frames:
        for call in ('"task": "echo", "input": 1', '"task": "no"', '"task": 5'):
            frames.say(f'{{"id": {id}, {call}}}')
            opcode, payload = frames._read_frame()
            assert opcode == TEXT
            assert payload.decode().startswith(f'{{"id":{id},')


@pytest.mark.parametrize("id", [0, -1, 1.5, 2**64 - 1, -(2**63), "", "é", "x" * 100])
def test_an_id_comes_back_as_it_came_in_message_pack(served: Served, id: object) -> None:
    """With its type."""
    with Frames(served.port) as frames:
        frames.frame(BINARY, msgspec.msgpack.encode({"id": id, **ADD}))
        assert frames.hear() == {"id": id, "result": 3}


@pytest.mark.parametrize("id", [True, False, [], [1], {}, {"a": 1}])
def test_what_is_neither_a_number_nor_a_text_is_no_id(served: Served, id: object) -> None:
    """It is refused, for calls and words about them, and the connection goes on."""
    with Frames(served.port) as frames:
        for asked in ({"id": id, **ADD}, [{"id": id, **ADD}, ADD], {"id": id, "cancel": True}, {"id": id, "task": 5}):
            found = frames.ask(asked)
            assert (found["id"], found["code"]) == (None, "protocol_error"), asked
        frames.frame(BINARY, msgspec.msgpack.encode({"id": id, **ADD}))
        assert frames.hear()["code"] == "protocol_error"
        assert frames.ask({"id": 1, **ADD}) == {"id": 1, "result": 3}


def test_an_id_of_null_is_none(served: Served) -> None:
    """Several such calls may be under way; each is answered as one with `id: null`."""
    name = tasks.gate()
    with Frames(served.port) as frames:
        for _ in range(2):
            frames.say({"id": None, "task": "wait_at", "input": name})
        wait_until(lambda: tasks.came[name] == 2)
        tasks.gates[name].set()
        assert [frames.hear() for _ in range(2)] == [{"id": None, "result": name}] * 2


def test_an_id_may_not_be_endless(served: Served) -> None:
    """It would come back with every frame."""
    with Frames(served.port) as frames:
        found = frames.ask({"id": "x" * 1_000_000, **ADD})
        assert (found["id"], found["code"]) == (None, "protocol_error")
        assert frames.ask({"id": 1, **ADD}) == {"id": 1, "result": 3}


def test_an_id_that_is_taken_is_refused(served: Served) -> None:
    """Without that id, so that nobody takes the refusal for the answer; afterwards it is free again."""
    name = tasks.gate()
    with Frames(served.port) as frames:
        frames.say({"id": 7, "task": "wait_at", "input": name})
        wait_until(lambda: tasks.came[name] == 1)
        for asked in ({"id": 7, **ADD}, [{"id": 7, **ADD}, ADD, {"id": None, **ADD}]):
            found = frames.ask(asked)
            assert (found["id"], found["code"]) == (None, "protocol_error")
        tasks.gates[name].set()
        assert frames.hear() == {"id": 7, "result": name}
        assert frames.ask({"id": 7, **ADD}) == {"id": 7, "result": 3}
        assert frames.ask([{"id": 9, **ADD}]) == [{"id": 9, "result": 3}]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize(
    ("ids", "answered"),
    [
        ([8, 7, 9], [8, 9]),  # 7 is under way
        ([8, 9, 8, 8], [8, 9]),
        ([7, 7, 8], [8]),
        ([[1], 8, None], [8]),
    ],
    ids=repr,
)
def test_a_batch_with_an_id_that_is_not_its_own(served: Served, opcode: int, ids: list[Any], answered: Any) -> None:
    """None of its calls is run, and whoever waits for one knows; the call under way is not taken to be meant."""
    write = msgspec.json.encode if opcode == TEXT else msgspec.msgpack.encode
    name, unrun = tasks.gate(), tasks.gate()
    with Frames(served.port) as frames:
        frames.frame(opcode, write({"id": 7, "task": "wait_at", "input": name}))
        wait_until(lambda: tasks.came[name] == 1)
        frames.frame(opcode, write([{"id": id, "task": "wait_at", "input": unrun} for id in ids]))
        assert [(each["id"], each["code"]) for each in frames.hear()] == [(id, "protocol_error") for id in answered]
        frames.frame(opcode, write([{"id": id, **ADD} for id in answered]))  # these ids are free
        assert frames.hear() == [{"id": id, "result": 3} for id in answered]
        tasks.gates[name].set()
        assert frames.hear() == {"id": 7, "result": name}
    assert tasks.came[unrun] == 0


def test_frames_are_answered_when_they_are_done(served: Served) -> None:
    """Not in the order in which they came."""
    slow = tasks.gate()
    with Frames(served.port) as frames:
        frames.say({"id": "slow", "task": "wait_at", "input": slow})
        assert frames.ask({"id": "quick", **ADD})["id"] == "quick"
        tasks.gates[slow].set()
        assert frames.hear()["id"] == "slow"


def test_a_batch_is_one_frame_each_way(served: Served) -> None:
    """With an answer for each, in their order."""
    with Frames(served.port) as frames:
        found = frames.ask([{"id": 1, **ADD}, {"id": 2, "task": "no"}, {"id": 3, "task": "fail", "input": "oh"}, ADD])
        assert found[0] == {"id": 1, "result": 3}
        assert [each["code"] for each in found[1:3]] == ["task_not_found", "task_failed"]
        assert found[3] == {"result": 3}
        assert frames.ask([]) == []
        frames.frame(BINARY, msgspec.msgpack.encode([ADD] * 20))
        assert frames.hear() == [{"result": 3}] * 20
        found = frames.ask([ADD] * 10_001)
        assert (found["id"], found["code"]) == (None, "too_large")


@pytest.mark.parametrize(("stream", "key"), [(False, None), (False, "its key"), (True, None)])
def test_a_call_is_withdrawn_in_every_state(served: Served, stream: bool, key: str | None) -> None:
    """Before it begins, while it runs, when it is done, and twice: one answer, and nothing goes on."""
    name = tasks.gate()
    task = {"task": "count_then_wait", "input": {"stop": 2, "name": name}, "stream": True}
    asked = {"id": 1, **(task if stream else {"task": "wait_at", "input": name})}
    cancel = {"id": 1, "cancel": True}
    with Frames(served.port) as frames:

        def last() -> dict[str, object]:
            while "chunk" in (found := frames.hear()):
                pass
            return dict(found)

        def withdrawn(found: dict[str, object]) -> bool:
            return (found["id"], found["code"]) == (1, "cancelled")

        def keyed(part: str) -> dict[str, object]:
            return asked | ({"key": f"{key} {name} {part}"} if key else {})

        both = as_frame(TEXT, json.dumps(keyed("a")).encode()) + as_frame(TEXT, json.dumps(cancel).encode())
        frames.send(both)  # in one packet: it cannot have begun
        assert withdrawn(last())
        wait_until(lambda: tasks.came[name] == tasks.left[name])
        before = tasks.came[name]

        frames.say(keyed("b"))
        wait_until(lambda: tasks.came[name] == before + 1)
        frames.send(2 * as_frame(TEXT, json.dumps(cancel).encode()))
        assert withdrawn(last())
        wait_until(lambda: tasks.left[name] == before + 1)

        tasks.gates[name].set()
        frames.say(keyed("c"))
        assert "result" in last()
        frames.say(cancel)  # too late, and so it was not said
        assert frames.ask({"id": 1, **ADD}) == {"id": 1, "result": 3}
    wait_until(lambda: served.app.desk.under_way == 0)


def test_withdrawing_one_call_of_a_batch_stops_that_call(served: Served) -> None:
    """The others are answered as if nothing had happened, in the frame that answers them all."""
    name = tasks.gate()
    with Frames(served.port) as frames:
        frames.say([{"id": number, "task": "wait_at", "input": name} for number in range(3)] + [{"id": 3, **ADD}])
        wait_until(lambda: tasks.came[name] == 3)
        frames.say({"id": 1, "cancel": True})
        wait_until(lambda: tasks.left[name] == 1)
        frames.say({"id": 3, "cancel": True})  # which is done
        tasks.gates[name].set()
        found = frames.hear()
        assert found[0] == {"id": 0, "result": name}
        assert (found[1]["id"], found[1]["code"]) == (1, "cancelled")
        assert found[2:] == [{"id": 2, "result": name}, {"id": 3, "result": 3}]


def test_a_call_of_a_batch_is_withdrawn_before_it_begins(served: Served) -> None:
    """It never does."""
    name, other = tasks.gate(), tasks.gate()
    calls = [{"id": number, "task": "wait_at", "input": name} for number in range(256)]  # as many as run at once
    calls.append({"id": "last", "task": "wait_at", "input": other})
    with Frames(served.port) as frames:
        frames.say(calls)
        wait_until(lambda: tasks.came[name] == 256)
        assert frames.ask({"id": "last", **ADD})["code"] == "protocol_error"  # it is still taken
        frames.say({"id": "last", "cancel": True})
        assert frames.ask(ADD) == {"result": 3}
        tasks.gates[name].set()
        assert frames.hear()[-1]["code"] == "cancelled"
    assert tasks.came[other] == 0


def test_words_about_a_call_that_is_not_there_are_passed_over(served: Served) -> None:
    """They may have crossed with its answer."""
    with Frames(served.port) as frames:
        for word in ({"id": 5, "cancel": True}, {"id": 5, "credit": 3}, {"id": "x", "credit": 2**70}):
            frames.say(word)
        assert frames.ask({"id": 1, **ADD}) == {"id": 1, "result": 3}


@pytest.mark.parametrize("word", [{"cancel": True}, {"credit": 4}, {"id": None, "cancel": True}])
def test_words_about_no_call_are_refused(served: Served, word: dict[str, object]) -> None:
    """Nobody could know what they mean."""
    with Frames(served.port) as frames:
        assert frames.ask(word)["code"] == "protocol_error"


def test_the_end_of_a_connection_stops_its_calls(served: Served) -> None:
    """Within a tenth of a second, whether it ends politely or not."""
    for goodbye in (lambda frames: frames.frame(8, b"\x03\xe8"), Frames.close, Frames.reset):
        name = tasks.gate()
        frames = Frames(served.port)
        frames.say({"id": 1, "task": "wait_at", "input": name})
        frames.say([{"id": 2, "task": "wait_at", "input": name}])
        frames.say({"id": 3, "task": "count_then_wait", "input": {"stop": 1, "name": name}, "stream": True})
        wait_until(lambda name=name: tasks.came[name] == 3)  # type: ignore[misc]
        goodbye(frames)
        wait_until(lambda name=name: tasks.left[name] == 3)  # type: ignore[misc]
        frames.close()
    wait_until(lambda: served.app.desk.under_way == 0)


def test_no_more_calls_than_there_may_be_on_one_connection() -> None:
    """The next is refused with its id, and let in when another is done."""
    with serving(tasks.registry(), limits=Limits(per_socket=2), workers=1) as served, Frames(served.port) as frames:
        name = tasks.gate()
        for id in (1, 2):
            frames.say({"id": id, "task": "wait_at", "input": name})
        wait_until(lambda: tasks.came[name] == 2)
        found = frames.ask({"id": 3, "task": "wait_at", "input": name})
        assert (found["id"], found["code"]) == (3, "limit_exceeded")
        with Frames(served.port) as others:
            assert others.ask({"id": 3, **ADD}) == {"id": 3, "result": 3}
        frames.say({"id": 1, "cancel": True})
        assert frames.hear()["code"] == "cancelled"
        assert frames.ask({"id": 3, **ADD}) == {"id": 3, "result": 3}


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_batch_that_is_too_long_is_refused_by_its_ids(opcode: int) -> None:
    """As many of them as a batch may have; a call under way that has one of them is not taken to be meant."""
    with serving(tasks.registry(), limits=Limits(batch=4), workers=1) as served, Frames(served.port) as frames:
        write = msgspec.json.encode if opcode == TEXT else msgspec.msgpack.encode
        name = tasks.gate()
        frames.frame(opcode, write({"id": 2, "task": "wait_at", "input": name}))
        wait_until(lambda: tasks.came[name])
        calls = [{"task": "echo", "id": id, "input": [id] * 3} for id in (None, 1, 2, "3", 4, 5)]
        for batch, ids in ((calls, [1, "3"]), ([{"task": "echo"}, *calls], [1])):
            frames.frame(opcode, write(batch))
            assert [(each["id"], each["code"]) for each in frames.hear()] == [(id, "too_large") for id in ids]
        frames.frame(opcode, write([{"task": "echo"}] * 20))  # which have none
        found = frames.hear()
        assert (found["id"], found["code"]) == (None, "too_large")
        tasks.gates[name].set()
        assert frames.hear() == {"id": 2, "result": name}


def test_a_client_that_never_reads_is_no_longer_read_from(served: Served) -> None:
    """Of all it sends, no more is taken in than fits: what it asked for in vain is not remembered without end."""
    large = as_frame(TEXT, json.dumps({"task": "echo", "input": "x" * 100_000}).encode())
    with Frames(served.port, room=4096) as frames:
        frames.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            for _ in range(2_000):  # 200 MB, which is far more than two kernels keep for each other
                frames.send(large)
        insist_it_serves(served.port)
        assert len(asyncio.all_tasks(served.loop)) < 100


class Watched:
    """The one connection that a server has, whose ping goes out and is missed when the test says so."""

    def __init__(self, served: Served) -> None:
        wait_until(lambda: len(served.server.server_state.connections) == 1)
        (self.connection,) = served.server.server_state.connections
        self._loop = served.loop

    def ping(self) -> None:
        assert isinstance(self.connection, Framing)
        self._call(self.connection.send_keepalive_ping)

    def miss(self) -> None:
        """The time for the answer is over."""
        assert isinstance(self.connection, Framing)
        self._call(self.connection.keepalive_timeout)

    def unread(self) -> int:
        """Bytes that wait in the server. It is the loop that says so: one that is late is waited for."""
        return self._call(self.connection.transport.get_write_buffer_size)

    def _call(self, step: Callable[[], T]) -> T:
        async def call() -> T:
            return step()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(PATIENCE)


def test_a_slow_reader_is_not_let_go_for_a_ping_it_cannot_have_read(served: Served) -> None:
    """It is behind a large answer, which arrives whole, however long that takes."""
    name = tasks.gate()
    with Frames(served.port, room=4096) as frames:
        watched = Watched(served)
        frames.say({"task": "pour", "input": {"name": name, "size": 20_000_000}, "stream": True})
        wait_until(lambda: tasks.came[name] == 2)
        left = int.from_bytes(frames.file.read(10)[2:], "big")
        watched.ping()
        for _ in range(5):
            before = watched.unread()
            while watched.unread() == before:
                left -= len(frames.file.read(50_000))
            watched.miss()
        assert frames.file.read(left)[-2:] == b'"}'


def test_a_slow_reader_is_not_let_go_once_the_last_has_gone_out(served: Served) -> None:
    """It has read since the last look, and the ping is behind what the system keeps for it."""
    with Frames(served.port, room=4096) as frames:
        watched = Watched(served)
        frames.say({"task": "echo", "input": "x" * 10_000_000})
        left = int.from_bytes(frames.file.read(10)[2:], "big")
        watched.ping()
        assert watched.unread()
        while watched.unread():
            left -= len(frames.file.read(50_000))
        watched.miss()
        assert frames.file.read(left)[-2:] == b'"}'
        assert frames.ask(ADD) == {"result": 3}


def test_a_slow_writer_is_not_let_go_for_a_ping_it_cannot_answer(served: Served) -> None:
    """It is in the middle of a large frame, which is answered once it is there."""
    frame = as_frame(TEXT, json.dumps({"task": "echo", "input": "x" * 100_000}).encode())
    with Frames(served.port) as frames:
        watched = Watched(served)
        assert isinstance(watched.connection, Framing)
        watched.ping()
        for position in range(0, 100, 20):
            watched.connection._heard = False
            frames.send(frame[position : position + 20])
            wait_until(lambda: watched.connection._heard)
            watched.miss()
        frames.send(frame[100:])
        assert len(frames.hear()["result"]) == 100_000


def test_a_client_that_never_reads_is_let_go(served: Served) -> None:
    """Nobody waits for it to read the rest; nor for one that does not answer though it could."""
    name = tasks.gate()
    with Frames(served.port, room=4096) as frames:
        watched = Watched(served)
        frames.say({"task": "pour", "input": {"name": name, "size": 20_000_000}, "stream": True})
        wait_until(lambda: tasks.came[name] == 2)
        watched.ping()
        watched.miss()  # it has said something before
        watched.miss()
        wait_until(lambda: not served.server.server_state.connections)
        wait_until(lambda: tasks.left[name] == 1)
    with Frames(served.port) as frames:
        watched = Watched(served)
        watched.ping()
        watched.miss()
        watched.miss()
        assert frames.hear() == (CLOSE, 1011)


async def test_a_thousand_connections(served: Served) -> None:
    """Each is answered, and what they held is given back when they go."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(number: int) -> int:
            async with session.ws_connect(served.socket_url) as socket:
                await socket.send_json({"id": number, "task": "echo", "input": number})
                await all_opened.wait()
                found = await socket.receive_json()
                return int(found["result"])

        all_opened = asyncio.Barrier(1_000)
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(number)) for number in range(1_000)]
        assert [each.result() for each in running] == list(range(1_000))
    wait_until(lambda: not served.server.server_state.connections)
    insist_it_serves(served.port)


def test_a_message_may_come_in_fragments(served: Served) -> None:
    """Cut anywhere, also within a letter, with a ping in between."""
    message = json.dumps({"id": 1, "task": "echo", "input": "漢字"}, ensure_ascii=False).encode()
    with Frames(served.port) as frames:
        for position in range(len(message)):
            last = position == len(message) - 1
            frames.frame(TEXT if position == 0 else 0, message[position : position + 1], last=last)
            if position == 5:
                frames.frame(9, b"are you there?")
        assert frames.hear() == {"id": 1, "result": "漢字"}


def test_a_page_names_the_protocol(served: Served) -> None:
    """A browser insists that one it offered is chosen."""
    with Frames(served.port, Sec_WebSocket_Protocol="bearer.x, hybrid-compute") as frames:
        assert frames.welcome[1]["sec-websocket-protocol"] == "hybrid-compute"
        assert frames.ask(ADD) == {"result": 3}


def test_other_sockets_are_turned_away(served: Served) -> None:
    """There is nothing at any other address."""
    with Frames(served.port, "/tasks/add") as frames:
        assert frames.welcome[0] == 403 or frames.hear()[0] == CLOSE
    insist_it_serves(served.port)
