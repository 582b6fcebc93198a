"""Streams: items as they come, as fast as they are read, until somebody leaves."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from hybrid_compute.server.limits import Limits
from tests.server import tasks
from tests.server.serving import Served, serving
from tests.server.talking import BINARY, Frames, Line, ask, head, insist_it_serves, post, wait_until

pytestmark = pytest.mark.usefixtures("complaints")

JSON = {"Content-Type": "application/json"}


def begin(line: Line, call: Any, accept: str = "application/x-ndjson") -> None:
    """Ask for a stream, and leave its answer unread."""
    body = json.dumps(call).encode()
    line.send(head("POST", "/compute", Content_Type="application/json", Accept=accept, Content_Length=len(body)) + body)


def read_until(line: Line, part: bytes) -> bytes:
    data = b""
    while part not in data:
        data += line.socket.recv(1 << 16)
    return data


def count_to(stop: int) -> dict[str, Any]:
    return {"task": "count_to", "input": {"stop": stop}}


def test_lines(served: Served) -> None:
    """NDJSON: a message in each line, the last of which is the result."""
    answer = post(served.port, count_to(3), Accept="application/x-ndjson")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert answer.body == b'{"chunk":0}\n{"chunk":1}\n{"chunk":2}\n{"result":null}\n'


def test_events(served: Served) -> None:
    """SSE: a message in each event, of which none has a name."""
    answer = post(served.port, count_to(2), Accept="text/event-stream")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body == b'data: {"chunk":0}\n\ndata: {"chunk":1}\n\ndata: {"result":null}\n\n'


def test_packed(served: Served) -> None:
    """MessagePack: the length of each message before it."""
    headers = {"Content-Type": "application/msgpack"}
    answer = ask(served.port, "POST", "/compute", msgspec.msgpack.encode({**count_to(2), "stream": True}), headers)
    assert answer.headers["content-type"] == "application/x-msgpack-stream"
    found, rest = [], answer.body
    while rest:
        (size,) = struct.unpack_from(">I", rest)
        found.append(msgspec.msgpack.decode(rest[4 : 4 + size]))
        rest = rest[4 + size :]
    assert found == [{"chunk": 0}, {"chunk": 1}, {"result": None}]


def test_frames(served: Served) -> None:
    """On a WebSocket: frames with the id of the call, also several streams side by side."""
    with Frames(served.port) as frames:
        for id in (1, 2):
            frames.say({"id": id, "stream": True, **count_to(3)})
        found = [frames.hear() for _ in range(8)]
        for id in (1, 2):
            mine = [each for each in found if each["id"] == id]
            assert mine == [*({"id": id, "chunk": number} for number in range(3)), {"id": id, "result": None}]
        frames.frame(BINARY, msgspec.msgpack.encode({"stream": True, **count_to(1)}))
        assert [frames.hear(), frames.hear()] == [{"chunk": 0}, {"result": None}]


def test_without_a_stream_the_items_come_as_a_list(served: Served) -> None:
    """For clients that know of none."""
    assert post(served.port, count_to(3)).value == {"result": [0, 1, 2]}


def test_a_task_with_one_result_can_be_asked_for_as_a_stream(served: Served) -> None:
    """Of that result alone."""
    answer = post(served.port, {"task": "add", "input": {"a": 1, "b": 2}}, Accept="text/event-stream")
    assert answer.body == b'data: {"result":3}\n\n'


def test_an_error_after_the_first_item_is_the_last_item(served: Served) -> None:
    """The status cannot change any more."""
    call = {"task": "count_then_fail", "input": 2}
    answer = post(served.port, call, Accept="application/x-ndjson")
    assert answer.status == 200
    assert answer.lines[:2] == [{"chunk": 0}, {"chunk": 1}]
    assert [each.get("code") for each in answer.lines[2:]] == ["task_failed"]
    with Frames(served.port) as frames:
        frames.say({"id": 1, "stream": True, **call})
        assert [frames.hear().get("chunk") for _ in range(2)] == [0, 1]
        assert frames.hear()["code"] == "task_failed"


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ({"task": "count_then_fail", "input": 0}, 500, "task_failed"),
        ({"task": "count_to", "input": {"stop": "three"}}, 422, "invalid_input"),
        ({"task": "no"}, 404, "task_not_found"),
        ({"task": "count_to", "input": {"stop": 1}, "key": "once"}, 400, "protocol_error"),
        ({"task": "count_to", "input": {"stop": 1}, "timeout": 0}, 400, "protocol_error"),
    ],
)
def test_an_error_before_the_first_item_has_a_status(served: Served, call: Any, status: int, code: str) -> None:
    """As every other."""
    for accept in ("application/x-ndjson", "text/event-stream"):
        assert post(served.port, call, Accept=accept).failure() == (status, code)
    with Frames(served.port) as frames:
        found = frames.ask({"id": 1, "stream": True, **call})
        assert (found["id"], found["code"]) == (1, code)


def test_an_item_that_cannot_be_written_ends_the_stream(served: Served) -> None:
    """And its task."""
    with serving([tasks.odd_items]) as others:
        lines = post(others.port, {"task": "odd_items"}, Accept="application/x-ndjson").lines
        assert [lines[0], lines[1]["code"], len(lines)] == [{"chunk": 1}, "not_transferable", 2]


def test_a_stream_ends_when_its_time_is_up(served: Served) -> None:
    """With the code that says so."""
    name = tasks.gate()
    call = {"task": "count_then_wait", "input": {"stop": 1, "name": name}, "timeout": 0.1}
    lines = post(served.port, call, Accept="application/x-ndjson").lines
    assert [lines[0], lines[1]["code"]] == [{"chunk": 0}, "task_timeout"]
    wait_until(lambda: tasks.left[name] == tasks.came[name])


def test_a_stream_with_nothing_to_say_gives_signs_of_life() -> None:
    """A blank line, a comment, a length of zero: what readers pass over."""
    with serving(tasks.registry(), limits=Limits(silence=0.01), workers=1) as served:
        for accept, sign in (
            ("application/x-ndjson", b"\r\n\n\r\n"),
            ("text/event-stream", b": still here\n\n"),
            ("application/x-msgpack-stream", b"\r\n\0\0\0\0\r\n"),
        ):
            name = tasks.gate()
            with Line(served.port) as line:
                begin(line, {"task": "count_then_wait", "input": {"stop": 1, "name": name}}, accept)
                read_until(line, sign)
                tasks.gates[name].set()
                read_until(line, b"result")


@pytest.mark.parametrize("credit", [0, 1, 3])
def test_no_more_items_than_there_is_credit_for(served: Served, credit: int) -> None:
    """What is given later adds up; a stream without any holds up nobody else."""
    name = tasks.gate()
    with Frames(served.port) as frames:
        frames.say({"id": 1, "task": "count_to", "input": {"stop": 6, "name": name}, "stream": True, "credit": credit})
        for number in range(credit):
            assert frames.hear() == {"id": 1, "chunk": number}
        for number in range(50):
            assert frames.ask({"id": "x", "task": "echo", "input": number}) == {"id": "x", "result": number}
        assert tasks.came[name] <= credit + 2  # one that waits for credit, and one being made
        frames.say({"id": 1, "credit": 0})
        frames.say({"id": 1, "credit": 1})
        assert frames.hear() == {"id": 1, "chunk": credit}
        frames.say({"id": 1, "credit": 10**30})
        rest = [frames.hear() for _ in range(6 - credit)]
        assert rest == [*({"id": 1, "chunk": number} for number in range(credit + 1, 6)), {"id": 1, "result": None}]


def test_credit_is_a_number_of_items(served: Served) -> None:
    """Whoever gives less than none is told so, and the stream goes on as it was."""
    with Frames(served.port) as frames:
        found = frames.ask({"id": 1, "stream": True, "credit": -1, **count_to(2)})
        assert (found["id"], found["code"]) == (1, "protocol_error")
        frames.say({"id": 1, "stream": True, "credit": 1, **count_to(2)})
        assert frames.hear() == {"id": 1, "chunk": 0}
        found = frames.ask({"id": 1, "credit": -5})
        assert (found["id"], found["code"]) == (None, "protocol_error")
        for odd in (1.5, "many", None, True, [1]):
            assert frames.ask({"id": 1, "credit": odd})["code"] in ("protocol_error", "task_not_found"), odd
        frames.say({"id": 1, "credit": 1})
        assert [frames.hear(), frames.hear()] == [{"id": 1, "chunk": 1}, {"id": 1, "result": None}]


def test_a_stream_is_withdrawn_while_it_waits_for_credit(served: Served) -> None:
    """It is answered, and its task is stopped."""
    name = tasks.gate()
    with Frames(served.port) as frames:
        frames.say({"id": 1, "task": "count_to", "input": {"stop": 9, "name": name}, "stream": True, "credit": 1})
        assert frames.hear() == {"id": 1, "chunk": 0}
        assert frames.ask({"id": 1, "cancel": True})["code"] == "cancelled"
        wait_until(lambda: tasks.left[name] == 1)


@pytest.mark.parametrize("how", ["http", "socket"])
def test_a_slow_reader_slows_the_task(served: Served, how: str) -> None:
    """Memory stays flat, however much there is to say; and it goes on when it is read."""
    name = tasks.gate()
    call = {"task": "pour", "input": {"name": name, "size": 100_000}, "stream": True}
    with Line(served.port, room=4096) if how == "http" else Frames(served.port, room=4096) as line:
        if isinstance(line, Frames):
            line.say({"id": 1, **call})
        else:
            begin(line, call)
        wait_until(lambda: tasks.came[name] > 3)
        for _ in range(300):
            insist_it_serves(served.port)
        made = tasks.came[name]
        assert made < 150, "15 MB is more than two kernels and a server should keep for a reader"
        while tasks.came[name] < made + 20:
            line.socket.recv(1 << 16)
    wait_until(lambda: tasks.left[name] == 1)


@pytest.mark.parametrize("goodbye", [Line.close, Line.reset])
@pytest.mark.parametrize("how", ["http", "socket"])
def test_a_reader_that_leaves_stops_the_task(served: Served, how: str, goodbye: Any) -> None:
    """Within a tenth of a second, though it is in the middle of a large item that nobody reads."""
    took = []
    for _ in range(3):
        name = tasks.gate()
        call = {"task": "pour", "input": {"name": name, "size": 1_000_000}, "stream": True}
        line = Line(served.port, room=4096) if how == "http" else Frames(served.port, room=4096)
        if isinstance(line, Frames):
            line.say({"id": 1, **call})
        else:
            begin(line, call)
        wait_until(lambda name=name: tasks.came[name] > 0)  # type: ignore[misc]
        began = time.perf_counter()
        (Frames.reset if isinstance(line, Frames) and goodbye is Line.reset else goodbye)(line)
        line.socket.close()
        if isinstance(line, Frames):
            line.file.close()
        wait_until(lambda name=name: tasks.left[name] == 1)  # type: ignore[misc]
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1
    wait_until(lambda: served.app.desk.under_way == 0)


@pytest.mark.parametrize("how", ["http", "socket"])
def test_a_task_in_a_worker_is_stopped_too(served: Served, tmp_path: Path, how: str) -> None:
    """Its generator is closed, so that it can put its things away."""
    path = tmp_path / "last"
    call = {"task": "count_in_worker", "input": {"stop": 10**9, "path": str(path)}, "stream": True}
    with Line(served.port) if how == "http" else Frames(served.port) as line:
        if isinstance(line, Frames):
            line.say({"id": 1, "credit": 2, **call})
            assert line.hear() == {"id": 1, "chunk": 0}
        else:
            begin(line, call)
            read_until(line, b'{"chunk":0}')
    wait_until(lambda: path.exists() and path.read_text() == "ended")


async def test_a_client_library_reads_items_as_they_come(served: Served) -> None:
    """The first is there before the task goes on."""
    name = tasks.gate()
    call = {"task": "count_then_wait", "input": {"stop": 2, "name": name}}
    async with aiohttp.ClientSession(headers={"Accept": "application/x-ndjson"}) as session:
        async with session.post(f"{served.url}/compute", json=call) as response:
            assert [await response.content.readline() for _ in range(2)] == [b'{"chunk":0}\n', b'{"chunk":1}\n']
            tasks.gates[name].set()
            assert await response.content.read() == b'{"result":null}\n'
