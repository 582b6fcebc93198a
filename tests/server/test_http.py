"""Calls over HTTP: what comes in, what goes out, and everything that HTTP itself allows."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from hybrid_compute.links.wire import JSON as WIRE_JSON
from hybrid_compute.server import impatient
from hybrid_compute.server.http import Message, _Response
from hybrid_compute.server.limits import Limits
from hybrid_compute.server.streams import format_for
from tests.server import serving as serving_module
from tests.server import tasks
from tests.server.serving import Served, serving
from tests.server.talking import Frames, Line, ask, head, insist_it_serves, post, result, wait_until

pytestmark = pytest.mark.usefixtures("complaints")

JSON = {"Content-Type": "application/json"}
PACKED = {"Content-Type": "application/msgpack"}


@pytest.mark.parametrize("path", ["/compute", "/", "/compute?a=b", "http://localhost/compute"])
def test_a_call_is_answered(served: Served, path: str) -> None:
    """At either address, also in the absolute form that proxies use."""
    answer = ask(served.port, "POST", path, b'{"task": "add", "input": {"a": 1, "b": 2}}', JSON)
    assert (answer.status, answer.body) == (200, b'{"result":3}')


def test_the_body_of_a_task_is_its_input(served: Served) -> None:
    """No envelope at `/tasks/NAME`."""
    answer = ask(served.port, "POST", "/tasks/add", b'{"a": 1, "b": 2}', JSON)
    assert (answer.status, answer.value) == (200, {"result": 3})


def test_an_empty_body_is_a_missing_input(served: Served) -> None:
    """As it is in a call without `input`."""
    for answer in (ask(served.port, "POST", "/tasks/nothing", b"", JSON), post(served.port, {"task": "nothing"})):
        assert (answer.status, answer.value) == (200, {"result": None})


@pytest.mark.parametrize(
    "path", ["/tasks/a%20name%2Fwith%20%C3%BCmlaut%20%26%20slash", "/tasks/a%20name/with%20%c3%bcmlaut%20&%20slash"]
)
def test_a_task_may_have_any_name(served: Served, path: str) -> None:
    """Slashes and letters beyond ASCII are written as in any URL."""
    answer = ask(served.port, "POST", path, b"7", JSON)
    assert (answer.status, answer.value) == (200, {"result": -7})


@pytest.mark.parametrize("path", ["/tasks/no", "/tasks/%FF%FE", "/tasks/%2e%2e%2f", "/tasks//add"])
def test_a_task_that_is_not_there_is_not_found(served: Served, path: str) -> None:
    """Whatever the path looks like."""
    assert ask(served.port, "POST", path, b"{}", JSON).failure() == (404, "task_not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/compute", "/tasks/add"])
def test_a_call_is_a_post(served: Served, method: str, path: str) -> None:
    """Other methods are told which one it is."""
    answer = ask(served.port, method, path, b'{"task": "add"}', JSON)
    assert answer.failure() == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_a_head_request_has_no_body(served: Served) -> None:
    """And the connection stays in step after it."""
    with Line(served.port) as line:
        line.send(head("HEAD", "/compute") + head("GET", "/healthz"))
        data = b""
        while b'"ok"' not in data:
            data += line.socket.recv(1 << 16)
    assert data.startswith(b"HTTP/1.1 405 ")
    assert data.count(b"HTTP/1.1 ") == 2
    assert b'"error"' not in data


def test_a_body_where_none_belongs_is_passed_over(served: Served) -> None:
    """A GET with a body is a GET."""
    body = b'{"task": "add"}'
    with Line(served.port) as line:
        for _ in range(2):
            line.send(head("GET", "/tasks", Content_Length=len(body)) + body)
            assert line.answer().value["remembers_keys"] is False  # they are gone with the server


def test_the_listing_tells_what_is_too_much() -> None:
    """So that a client need not find out."""
    with serving([tasks.add], limits=Limits(body=1_000, batch=7, per_socket=9)) as served:
        assert ask(served.port, "GET", "/tasks").value["limits"] == {"body": 1_000, "batch": 7, "calls": 9}


def test_a_client_that_never_reads_does_not_keep_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reads slowly does; one that has stopped is let go, with all that waits for it."""
    monkeypatch.setattr(impatient, "READING", 1_000_000)
    body = json.dumps({"task": "echo", "input": "x" * 20_000_000}).encode()
    with serving(tasks.registry(), workers=1) as served, Line(served.port, room=4096) as line:
        line.send(head("POST", "/compute", Content_Type="application/json", Content_Length=len(body)) + body)
        wait_until(lambda: served.server.server_state.connections)
        (connection,) = served.server.server_state.connections
        assert isinstance(connection, impatient.Impatient)
        unread = connection.transport.get_write_buffer_size
        wait_until(unread)

        async def look() -> None:
            connection._look()

        for _ in range(5):
            before = unread()
            while unread() == before:
                line.socket.recv(1_000)
            asyncio.run_coroutine_threadsafe(look(), served.loop).result()
            assert connection._next_look is not None
        monkeypatch.setattr(impatient, "READING", 0.05)
        asyncio.run_coroutine_threadsafe(look(), served.loop).result()
        wait_until(lambda: not served.server.server_state.connections)


async def test_the_head_of_a_stream_comes_first() -> None:
    """Though there is no room for it yet, and a sign of life is due."""
    sent: list[str] = []
    room = asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            await room.wait()
        sent.append(message["type"])

    how = format_for("application/x-ndjson", WIRE_JSON, stream=True)
    assert how is not None
    response = _Response(send, how, 60)
    saying = [asyncio.create_task(response.say([b"{}"])) for _ in range(2)]
    await asyncio.sleep(0)
    assert (sent, response.begun) == ([], False)
    room.set()
    await asyncio.gather(*saying)
    assert sent == ["http.response.start", "http.response.body", "http.response.body"]


def test_a_body_may_come_in_chunks(served: Served) -> None:
    """Without its length being said before, cut anywhere."""
    body = b'{"task": "add", "input": {"a": 20, "b": 22}}'
    with Line(served.port) as line:
        line.send(head("POST", "/compute", Content_Type="application/json", Transfer_Encoding="chunked"))
        for position in range(len(body)):
            line.send(b"1\r\n" + body[position : position + 1] + b"\r\n")
        line.send(b"0\r\n\r\n")
        assert line.answer().value == {"result": 42}


def test_a_client_that_asks_first_is_told_to_go_on(served: Served) -> None:
    """`Expect: 100-continue` is honoured before the body is read, and not if it is refused anyway."""
    body = b'{"task": "add", "input": {"a": 1, "b": 2}}'
    with Line(served.port) as line:
        line.send(
            head("POST", "/compute", Content_Type="application/json", Content_Length=len(body), Expect="100-continue")
        )
        assert line.socket.recv(25, 0x100) == b"HTTP/1.1 100 Continue\r\n\r\n"  # MSG_WAITALL
        line.send(body)
        assert line.answer().value == {"result": 3}
    with Line(served.port) as line:
        line.send(head("POST", "/compute", Content_Type="text/plain", Content_Length=len(body), Expect="100-continue"))
        assert line.answer().failure() == (415, "unsupported_media_type")


def test_requests_in_a_row_are_answered_in_order(served: Served) -> None:
    """Pipelining: all that was sent at once, one after the other, though the first takes longest."""
    name = tasks.gate()
    first = json.dumps({"task": "wait_at", "input": name}).encode()
    others = [json.dumps({"task": "echo", "input": number}).encode() for number in range(50)]
    with Line(served.port) as line:
        line.send(
            b"".join(
                head("POST", "/compute", Content_Type="application/json", Content_Length=len(each)) + each
                for each in [first, *others]
            )
        )
        wait_until(lambda: tasks.came[name])
        tasks.gates[name].set()
        data = b""
        while data.count(b'{"result":') < 51:
            data += line.socket.recv(1 << 16)
    found = [part.split(b"}")[0] for part in data.split(b'{"result":')[1:]]
    assert [json.loads(each) for each in found] == [name, *range(50)]


def test_many_calls_over_one_connection(served: Served) -> None:
    """It stays open, also after calls that went wrong."""
    with Line(served.port) as line:
        for number in range(20):
            for body, wanted in ((b'{"task": "echo", "input": %d}' % number, number), (b"{", None)):
                line.send(head("POST", "/compute", Content_Type="application/json", Content_Length=len(body)) + body)
                assert line.answer().value.get("result") == wanted


@pytest.mark.parametrize(
    "kind", ["application/msgpack", "application/x-msgpack", "APPLICATION/MSGPACK; charset=binary"]
)
def test_message_pack_is_answered_in_kind(served: Served, kind: str) -> None:
    """Bytes need no base64 there."""
    body = msgspec.msgpack.encode({"task": "echo", "input": b"\0\xff"})
    answer = ask(served.port, "POST", "/compute", body, {"Content-Type": kind})
    assert answer.headers["content-type"] == "application/msgpack"
    assert answer.value == {"result": b"\0\xff"}


def test_accept_names_the_other_encoding(served: Served) -> None:
    """For results and for errors alike."""
    call = json.dumps({"task": "echo", "input": 1}).encode()
    answer = ask(served.port, "POST", "/compute", call, JSON | {"Accept": "application/msgpack"})
    assert answer.headers["content-type"] == "application/msgpack"
    assert answer.value == {"result": 1}
    answer = ask(served.port, "POST", "/compute", b"{", JSON | {"Accept": "application/msgpack"})
    assert answer.failure() == (400, "protocol_error")
    assert answer.headers["content-type"] == "application/msgpack"
    packed = msgspec.msgpack.encode({"task": "echo", "input": 1})
    answer = ask(served.port, "POST", "/compute", packed, PACKED | {"Accept": "application/json"})
    assert answer.body == b'{"result":1}'


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ({"task": "no"}, 404, "task_not_found"),
        ({}, 400, "protocol_error"),
        ({"task": "add", "input": {"a": 1}}, 422, "invalid_input"),
        ({"task": "add", "input": {"a": 1, "b": "2"}}, 422, "invalid_input"),
        ({"task": "fail", "input": "oh"}, 500, "task_failed"),
        ({"task": "echo", "input": 1, "timeout": -1}, 400, "protocol_error"),
        ({"task": 7}, 400, "protocol_error"),
        ("echo", 400, "protocol_error"),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_status(served: Served, call: object, status: int, code: str) -> None:
    """Stable, whatever the text says."""
    assert post(served.port, call).failure() == (status, code)


def test_what_a_task_raised_is_told_without_its_traceback(served: Served) -> None:
    """Its type and arguments; where it was raised stays here."""
    value = post(served.port, {"task": "fail", "input": "oh"}).value
    assert value["details"] == {"type": "ValueError", "module": "builtins", "args": ["oh"]}
    assert "Traceback" not in json.dumps(value)


def test_a_traceback_is_told_where_it_was_asked_for() -> None:
    """With `tracebacks=True`."""
    with serving([tasks.fail], tracebacks=True) as served:
        assert "ValueError: oh" in post(served.port, {"task": "fail", "input": "oh"}).value["details"]["traceback"]


def test_a_batch_is_answered_item_by_item(served: Served) -> None:
    """In its order; one that fails does so alone; ids come back as they came."""
    calls = [
        {"id": "a", "task": "echo", "input": 1},
        {"id": 2.0, "task": "no"},
        {"task": "fail", "input": "oh"},
        {"id": None, "task": "add", "input": {"a": 1, "b": 2}},
        {"task": "count_to", "input": {"stop": 3}, "stream": True},
    ]
    answer = post(served.port, calls)
    assert answer.status == 200
    found = answer.value
    assert found[0] == {"id": "a", "result": 1}
    assert (found[1]["id"], found[1]["code"]) == (2.0, "task_not_found")
    assert b'"id":2.0' in answer.body
    assert found[2]["code"] == "task_failed"
    assert found[3] == {"id": None, "result": 3}
    assert found[4]["code"] == "protocol_error"


def test_an_empty_batch_has_no_answers(served: Served) -> None:
    """But is answered."""
    assert post(served.port, []).value == []
    assert ask(served.port, "POST", "/compute", b"\x90", PACKED).value == []


def test_ten_thousand_calls_in_one_request(served: Served) -> None:
    """As many as there may be, all answered, in order."""
    calls = [{"task": "echo", "input": number} for number in range(10_000)]
    assert [each["result"] for each in post(served.port, calls).value] == list(range(10_000))
    assert post(served.port, [*calls, calls[0]]).failure() == (413, "too_large")


def test_the_calls_of_a_batch_run_side_by_side(served: Served) -> None:
    """Each waits for a gate that only the others' coming opens."""
    name = tasks.gate()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, served.port, [{"task": "wait_at", "input": name}] * 20)
        wait_until(lambda: tasks.came[name] == 20)
        tasks.gates[name].set()
        assert [each["result"] for each in answer.result().value] == [name] * 20


@pytest.mark.parametrize(
    "seconds", ["0", "-1", "nan", "inf", "-inf", "soon", "", "1,5", "\u00bd".encode().decode("latin-1")]
)
def test_a_timeout_is_a_positive_number(served: Served, seconds: str) -> None:
    """Said in a header as in the call."""
    answer = post(served.port, {"task": "echo", "input": 1}, Request_Timeout=seconds)
    assert answer.failure() == (400, "protocol_error")


@pytest.mark.parametrize("seconds", ["1e308", "1e-3", " 5 ", "20"])
def test_any_positive_number_will_do(served: Served, seconds: str) -> None:
    """However large: a call that is done in time is done."""
    assert result(served.port, "echo", 1, Request_Timeout=seconds) == 1
    assert post(served.port, {"task": "pid", "timeout": float(seconds) + 10}).status == 200


@pytest.mark.parametrize("seconds", [0, -1, -0.0, 1e-400])
def test_a_timeout_in_the_call_is_a_positive_number(served: Served, seconds: float) -> None:
    """As in the header."""
    assert post(served.port, {"task": "echo", "input": 1, "timeout": seconds}).failure() == (400, "protocol_error")


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_are_no_timeouts_either(served: Served, seconds: float) -> None:
    """MessagePack can say them."""
    body = msgspec.msgpack.encode({"task": "echo", "input": 1, "timeout": seconds})
    assert ask(served.port, "POST", "/compute", body, PACKED).failure() == (400, "protocol_error")


def test_a_call_is_stopped_when_its_time_is_up(served: Served) -> None:
    """At the server: nobody is left at the gate."""
    name = tasks.gate()
    answer = post(served.port, {"task": "wait_at", "input": name, "timeout": 0.05})
    assert answer.failure() == (504, "task_timeout")
    wait_until(lambda: tasks.left[name] == 1)


def test_a_call_is_stopped_when_its_client_goes_away(served: Served) -> None:
    """Whether it hangs up politely or not."""
    for goodbye in (Line.close, Line.reset):
        name = tasks.gate()
        body = json.dumps({"task": "wait_at", "input": name}).encode()
        line = Line(served.port)
        line.send(head("POST", "/compute", Content_Type="application/json", Content_Length=len(body)) + body)
        wait_until(lambda name=name: tasks.came[name] == 1)  # type: ignore[misc]
        goodbye(line)
        wait_until(lambda name=name: tasks.left[name] == 1)  # type: ignore[misc]


def test_a_batch_is_stopped_when_its_client_goes_away(served: Served) -> None:
    """All of it: what is under way, and what has not begun."""
    name = tasks.gate()
    body = json.dumps([{"task": "wait_at", "input": name}] * 300).encode()
    with Line(served.port) as line:
        line.send(head("POST", "/compute", Content_Type="application/json", Content_Length=len(body)) + body)
        wait_until(lambda: tasks.came[name] == 256)
    wait_until(lambda: tasks.left[name] == 256)
    wait_until(lambda: served.app.desk.under_way == 0)
    assert tasks.came[name] == 256


def test_a_slow_body_does_not_hold_up_others(served: Served) -> None:
    """A hundred that never finish theirs, and one that does."""
    lines = [Line(served.port) for _ in range(100)]
    try:
        for line in lines:
            line.send(head("POST", "/compute", Content_Type="application/json", Content_Length=1_000_000) + b'{"task"')
        insist_it_serves(served.port)
    finally:
        for line in lines:
            line.close()


def test_a_large_value_comes_back_whole(served: Served) -> None:
    """Both ways, in both encodings."""
    large = "x" * 5_000_000
    assert result(served.port, "echo", large) == large
    body = msgspec.msgpack.encode({"task": "echo", "input": large.encode()})
    assert ask(served.port, "POST", "/compute", body, PACKED).value == {"result": large.encode()}


def test_two_apps_in_one_process_do_not_meet(served: Served) -> None:
    """Each has its own tasks, counts and answers."""
    with serving([tasks.nothing]) as other:
        assert post(other.port, {"task": "echo"}).failure() == (404, "task_not_found")
        assert post(other.port, {"task": "nothing"}).status == 200
        assert b'task="echo"' not in ask(other.port, "GET", "/metrics").body
        threads = [threading.Thread(target=insist_it_serves, args=(served.port,)) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()


@pytest.mark.parametrize(
    "path", ["/nowhere", "/compute/", "/tasks.json", "/%2e%2e/etc/passwd", "//compute", "/tasks%2Fadd/x"]
)
def test_what_is_not_there_is_not_found_in_json(served: Served, path: str) -> None:
    """Every reply has a code."""
    status, code = ask(served.port, "GET", path).failure()
    assert (status, code) in [(404, "not_found"), (405, "method_not_allowed")]


def test_the_event_loop_is_the_quickest_there_is(served: Served) -> None:
    """Who serves gets it by the settings alone."""
    uvloop = pytest.importorskip("uvloop")
    for made in (serving_module.new_event_loop(), served.server.config.get_loop_factory()()):
        assert isinstance(made, uvloop.Loop)
        made.close()


def test_an_ordinary_event_loop_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no uvloop: calls, streams and sockets all the same."""
    monkeypatch.setattr(serving_module, "new_event_loop", asyncio.new_event_loop)
    with serving(tasks.registry(), workers=1) as served:
        assert type(served.loop).__module__.startswith("asyncio")
        insist_it_serves(served.port)
        assert len(post(served.port, {"task": "count_to", "input": {"stop": 9}}, Accept="text/event-stream").body) > 100
        name = tasks.gate()
        with Frames(served.port) as frames:
            frames.say({"id": 1, "task": "wait_at", "input": name})
            wait_until(lambda: tasks.came[name] == 1)
            assert frames.ask({"id": 1, "cancel": True})["code"] == "cancelled"
            frames.say({"id": 1, "task": "wait_at", "input": name})
            wait_until(lambda: tasks.came[name] == 2)
        wait_until(lambda: tasks.left[name] == 2)
        assert result(served.port, "pid") > 0


def test_what_is_no_http_is_answered_in_json_too(served: Served) -> None:
    """The one answer that uvicorn would give by itself, in a text."""
    with Line(served.port) as line:
        line.send(b"this is no HTTP\r\n\r\n")
        answer = line.answer()
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert answer.value["code"] == "protocol_error"
