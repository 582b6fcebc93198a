"""Requests that mean no good. Each gets an answer with a code where there is anybody to answer, and a good call after.

The good call comes over the same connection where that is still there, and over a new one; both must be answered.
"""

from __future__ import annotations

import gzip
import json
import resource
import struct
from collections.abc import Generator
from typing import Any

import msgspec
import pytest

from hybrid_compute.server import impatient
from hybrid_compute.server.limits import Limits
from tests.server import tasks
from tests.server.serving import Served, serving
from tests.server.talking import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frames,
    Line,
    as_frame,
    ask,
    head,
    insist_it_serves,
    post,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("complaints")

MOST = 1_000_000
DEEP = 100_000
JSON = "application/json"
PACKED = "application/msgpack"
OFFER = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2_Settings": "", "Content_Type": JSON}


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with serving(tasks.registry(), limits=Limits(body=MOST, patience=0.3), workers=1) as running:
        yield running


@pytest.fixture(autouse=True)
def _it_goes_on(served: Served) -> Generator[None]:
    """Whatever a test does to the server, it serves."""
    yield
    insist_it_serves(served.port)


def packed(*parts: bytes) -> bytes:
    """A call of `echo` in MessagePack whose input is these bytes."""
    return (
        b"\x82"
        + msgspec.msgpack.encode("task")
        + msgspec.msgpack.encode("echo")
        + msgspec.msgpack.encode("input")
        + b"".join(parts)
    )


BODIES: dict[str, tuple[str, bytes, str]] = {
    "nothing": (JSON, b"", "protocol_error"),
    "a space": (JSON, b" ", "protocol_error"),
    "no JSON": (JSON, b"hello", "protocol_error"),
    "half of a call": (JSON, b'{"task": "add", "input": {"a": 1', "protocol_error"),
    "two calls": (JSON, b'{"task": "nothing"}{"task": "nothing"}', "protocol_error"),
    "a number": (JSON, b"7", "protocol_error"),
    "null": (JSON, b"null", "protocol_error"),
    "a task that is a number": (JSON, b'{"task": 1}', "protocol_error"),
    "a task that is an object": (JSON, b'{"task": {"name": "add"}}', "protocol_error"),
    "a task of another language": (JSON, b'{"task": "__import__(\'os\').getpid()"}', "task_not_found"),
    "an attribute": (JSON, b'{"task": "add.__globals__"}', "task_not_found"),
    "a very long name": (JSON, b'{"task": "%s"}' % (b"x" * 100_000), "task_not_found"),
    "a stream that is a text": (JSON, b'{"task": "nothing", "stream": "yes"}', "protocol_error"),
    "a timeout that is a text": (JSON, b'{"task": "nothing", "timeout": "1"}', "protocol_error"),
    "a timeout beyond numbers": (JSON, b'{"task": "nothing", "timeout": 1e999}', "protocol_error"),
    "a key that is a number": (JSON, b'{"task": "nothing", "key": 1}', "protocol_error"),
    "a trace that is a number": (JSON, b'{"task": "nothing", "traceparent": 1}', "protocol_error"),
    "wrong types": (JSON, b'{"task": "add", "input": {"a": "1", "b": []}}', "invalid_input"),
    "too few": (JSON, b'{"task": "add", "input": {"a": 1}}', "invalid_input"),
    "too many": (JSON, b'{"task": "add", "input": {"a": 1, "b": 2, "c": 3}}', "invalid_input"),
    "a list for an object": (JSON, b'{"task": "add", "input": [1, 2]}', "invalid_input"),
    "a number too long": (JSON, b'{"task": "add", "input": {"a": %s, "b": 1}}' % (b"9" * 10_000), "invalid_input"),
    "NaN": (JSON, b'{"task": "echo", "input": NaN}', "protocol_error"),
    "not UTF-8 in a value": (JSON, b'{"task": "echo", "input": "\xff\xfe"}', "invalid_input"),
    "not UTF-8 in a name": (JSON, b'{"task": "\xff\xfe"}', "protocol_error"),
    "UTF-16": (JSON, '{"task": "nothing"}'.encode("utf-16"), "protocol_error"),
    "half of a surrogate pair": (JSON, b'{"task": "echo", "input": "\\ud800"}', "protocol_error"),
    "half of one in a name": (JSON, b'{"task": "\\ud800"}', "protocol_error"),
    "a byte of zero": (JSON, b'{"task": "nothing"}\0', "protocol_error"),
    "deep lists": (JSON, b"[" * DEEP + b"]" * DEEP, "protocol_error"),
    "deep lists without an end": (JSON, b"[" * DEEP, "protocol_error"),
    "deep objects": (JSON, b'{"a":' * DEEP + b"1" + b"}" * DEEP, "protocol_error"),
    "a deep input": (JSON, b'{"task": "echo", "input": %s%s}' % (b"[" * DEEP, b"]" * DEEP), "protocol_error"),
    "a deep id": (JSON, b'{"task": "nothing", "id": %s%s}' % (b"[" * DEEP, b"]" * DEEP), "protocol_error"),
    "a deep field that nobody knows": (JSON, b'{"x": %s%s}' % (b"[" * DEEP, b"]" * DEEP), "protocol_error"),
    "MessagePack as JSON": (JSON, msgspec.msgpack.encode({"task": "nothing"}), "protocol_error"),
    "JSON as MessagePack": (PACKED, b'{"task": "nothing"}', "protocol_error"),
    "half a MessagePack": (PACKED, msgspec.msgpack.encode({"task": "nothing"})[:-1], "protocol_error"),
    "a list that claims to be long": (PACKED, b"\xdd\xff\xff\xff\xff", "protocol_error"),
    "a text that claims to be long": (PACKED, packed(b"\xdb\xff\xff\xff\xff", b"x"), "protocol_error"),
    "bytes that claim to be long": (PACKED, packed(b"\xc6\xff\xff\xff\xff"), "protocol_error"),
    "a map that claims to be long": (PACKED, packed(b"\xdf\xff\xff\xff\xff"), "protocol_error"),
    "an extension that claims to be long": (PACKED, packed(b"\xc9\xff\xff\xff\xff\x01"), "protocol_error"),
    "deep MessagePack": (PACKED, packed(b"\x91" * DEEP, b"\xc0"), "protocol_error"),
    "a code that is never used": (PACKED, b"\xc1", "protocol_error"),
    "an extension nobody knows": (PACKED, packed(b"\xd4\x63\x00"), "invalid_input"),
    "an array of objects": (PACKED, packed(b"\xc7\x0a\x01O\x01" + bytes(8)), "invalid_input"),
    "an array that claims to be long": (PACKED, packed(b"\xc7\x0a\x01d\x01" + b"\xff" * 8), "invalid_input"),
    "an array of many dimensions": (PACKED, packed(b"\xc7\x02\x01d\xff"), "invalid_input"),
    "an array without a head": (PACKED, packed(b"\xc7\x00\x01"), "invalid_input"),
    "a text that is not UTF-8": (PACKED, packed(b"\xa2\xff\xfe"), "invalid_input"),
    "a time that never was": (PACKED, packed(b"\xd7\xff" + b"\xff" * 8), "invalid_input"),
    "a map with a map for a key": (PACKED, packed(b"\x81\x80\x01"), "invalid_input"),
    "a map with a list of maps for a key": (PACKED, packed(b"\x81\x91\x80\x01"), "invalid_input"),
    "too large": (JSON, b" " * (MOST + 1), "too_large"),
    "a list of nothing that claims to be long": (PACKED, b"\xdd\xff\xff\xff\xff" + b"\xc0" * 20_000, "too_large"),
    "a large batch after blanks": (JSON, b" \n\t" * 1_000 + b"[%s{}]" % (b"{}," * 20_000), "too_large"),
    "a large list of numbers": (JSON, b"[%s1]" % (b"1," * 200_000), "protocol_error"),
    "a large batch": (JSON, b"[%s{}]" % (b"{}," * 20_000), "too_large"),
    "a large batch in MessagePack": (PACKED, b"\xdd" + struct.pack(">I", 20_000) + b"\x80" * 20_000, "too_large"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_hostile_body(served: Served, kind: str) -> None:
    """Over HTTP, in its whole and in pieces; the connection is still there afterwards, or closed cleanly."""
    content_type, body, code = BODIES[kind]
    answer = ask(served.port, "POST", "/compute", body, {"Content-Type": content_type})
    assert answer.failure()[1] == code, answer
    with Line(served.port) as line:
        line.send(head("POST", "/compute", Content_Type=content_type, Content_Length=len(body)) + body)
        assert line.answer().failure()[1] == code
        line.send(head("GET", "/healthz"))
        assert line.answer().status == 200


@pytest.mark.parametrize(
    "odd", [1, None, "add", [{"task": "add"}], {"task": 5}, {"task": "add", "timeout": "soon"}], ids=repr
)
@pytest.mark.parametrize("packs", [False, True], ids=["JSON", "MessagePack"])
def test_an_odd_item_of_a_batch_is_refused_alone(served: Served, odd: Any, packs: bool) -> None:
    """Over HTTP and in a frame: whoever waits for the others gets their answers."""
    write, read = (
        (msgspec.msgpack.encode, msgspec.msgpack.decode) if packs else (msgspec.json.encode, msgspec.json.decode)
    )
    good = {"task": "add", "input": {"a": 1, "b": 2}}
    named = {**odd, "id": "odd"} if isinstance(odd, dict) else odd
    batch = write([{**good, "id": 1}, named, {**good, "id": 2}])
    answer = ask(served.port, "POST", "/compute", batch, {"Content-Type": PACKED if packs else JSON})
    with Frames(served.port) as frames:
        frames.frame(BINARY if packs else TEXT, batch)
        for first, second, third in (read(answer.body), frames.hear()):
            assert (first, third) == ({"id": 1, "result": 3}, {"id": 2, "result": 3})
            assert second["code"] == "protocol_error"
            assert second.get("id") == ("odd" if isinstance(odd, dict) else None)


def fits_in_a_frame(kind: str) -> bool:
    """A text frame that is not UTF-8, and one that is far too large, end their connection: see below."""
    content_type, body, _ = BODIES[kind]
    return len(body) <= MOST and (content_type == PACKED or body == body.decode(errors="replace").encode())


@pytest.mark.parametrize("kind", list(filter(fits_in_a_frame, BODIES)))
def test_a_hostile_frame(served: Served, kind: str) -> None:
    """On a WebSocket, which stays open."""
    content_type, body, code = BODIES[kind]
    binary = content_type == PACKED
    with Frames(served.port) as frames:
        frames.frame(BINARY if binary else TEXT, body)
        assert frames.hear()["code"] == code
        assert frames.ask({"id": 1, "task": "add", "input": {"a": 1, "b": 2}}) == {"id": 1, "result": 3}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 415, "unsupported_media_type"),
        ({"Content_Type": ""}, 415, "unsupported_media_type"),
        ({"Content_Type": "text/plain"}, 415, "unsupported_media_type"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415, "unsupported_media_type"),
        ({"Content_Type": "application/jsonx"}, 415, "unsupported_media_type"),
        ({"Content_Type": "x" * 10_000}, 415, "unsupported_media_type"),
        ({"Content_Type": "\udcff\udcfe"}, 415, "unsupported_media_type"),
        ({"Content_Type": JSON, "Content_Encoding": "gzip"}, 415, "unsupported_media_type"),
        ({"Content_Type": JSON, "Content_Encoding": "identity, gzip"}, 415, "unsupported_media_type"),
        ({"Content_Type": JSON, "Request_Timeout": "\udcff"}, 400, "protocol_error"),
        ({"Content_Type": JSON, "Idempotency_Key": "x" * 1_000}, 400, "protocol_error"),
        ({"Content_Type": JSON, "Host": "theirs.example"}, 403, "forbidden"),
    ],
)
def test_a_hostile_head(served: Served, headers: dict[str, str], status: int, code: str) -> None:
    """Whatever it says, in whatever bytes."""
    body = b'{"task": "nothing"}'
    lines = [f"{name.replace('_', '-')}: {each}" for name, each in ({"Host": "localhost"} | headers).items()]
    start = "\r\n".join(["POST /compute HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", ""])
    with Line(served.port) as line:
        line.send(start.encode("utf-8", "surrogateescape") + body)
        assert line.answer().failure() == (status, code)


@pytest.mark.parametrize(
    "trace", ["", "x", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\udcff" * 100, "ff-" + "a" * 5_000]
)
def test_a_trace_that_is_none_is_passed_over(served: Served, trace: str) -> None:
    """As the standard has it: a call is not refused for the sake of it."""
    body = b'{"task": "pid"}'
    start = head("POST", "/compute", Content_Type=JSON, Content_Length=len(body))[:-2]
    with Line(served.port) as line:
        line.send(start + b"traceparent: " + trace.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body)
        assert line.answer().status == 200


def test_a_bomb_is_not_unpacked(served: Served) -> None:
    """Fifty megabytes of nothing in fifty kilobytes: nobody reads them."""
    bomb = gzip.compress(b" " * 50_000_000)
    answer = ask(served.port, "POST", "/compute", bomb, {"Content-Type": JSON, "Content-Encoding": "gzip"})
    assert answer.failure() == (415, "unsupported_media_type")
    with Frames(served.port, Sec_WebSocket_Extensions="permessage-deflate") as frames:
        assert "sec-websocket-extensions" not in frames.welcome[1]


@pytest.mark.parametrize(
    "start",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS, where there is none
        b"GET\r\n\r\n",
        b"POST /compute HTTP/9.9\r\n\r\n",
        b"POST /compute HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"POST /compute HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /compute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /compute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /compute HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /compute HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /compute HTTP/1.1\r\n" + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_http(served: Served, start: bytes) -> None:
    """It is answered with a status of its own, or not at all, and the connection ends; in the log it is no error."""
    with Line(served.port) as line:
        try:
            line.send(start)
            data = line.socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        assert not data or data.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), data


def test_a_chunked_body_that_never_ends(served: Served) -> None:
    """It is cut off where it is too large, though nobody said how large it would be."""
    with Line(served.port) as line:
        line.send(head("POST", "/compute", Content_Type=JSON, Transfer_Encoding="chunked"))
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(2 * MOST // 0x10000):
            line.send(chunk)
        assert line.answer().failure() == (413, "too_large")


def test_a_head_without_an_end(served: Served) -> None:
    """It is cut off where it is too large, whoever sends it."""
    for start in (b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: "):
        with Line(served.port) as line:
            with pytest.raises(ConnectionError):
                line.send(start)
                for _ in range(100):
                    line.send(b"x" * 100_000 if start[-2:] != b"\r\n" else b"X: y\r\n" * 10_000)
    with Line(served.port) as line:
        line.send(head("GET", "/healthz", **{f"X{number}": "x" * 100 for number in range(500)}))
        assert line.answer().status == 200, "50 kB are not too large"


def test_what_comes_after_a_body_is_no_header(served: Served) -> None:
    """Trailers would come past whoever has looked at the headers; and there is no end to them."""
    trailers = b"Idempotency-Key: x\r\nRequest-Timeout: -1\r\nContent-Type: text/plain\r\nHost: theirs.example\r\n"
    body = b'{"task": "echo", "input": 1}'
    with Line(served.port) as line:
        for times in (1, 1_000):
            start = head("POST", "/compute", Content_Type=JSON, Transfer_Encoding="chunked")
            line.send(start + b"%x\r\n%s\r\n0\r\n" % (len(body), body) + trailers * times + b"\r\n")
            assert line.answer().value == {"result": 1}


def test_an_offer_of_another_protocol_is_not_taken_up(served: Served) -> None:
    """The request is answered in HTTP, its body and all, however it comes; and so is what follows."""
    body = b'{"task": "echo", "input": 1}'
    whole = head("POST", "/compute", Content_Length=len(body), **OFFER) + body
    chunked = head("POST", "/compute", Transfer_Encoding="chunked", **OFFER) + b"%x\r\n%s\r\n0\r\n\r\n" % (28, body)
    with Line(served.port) as line:
        for asked in (whole, chunked):
            for step in (len(asked), 20, 1):
                for begin in range(0, len(asked), step):
                    line.send(asked[begin : begin + step])
                assert line.answer().value == {"result": 1}


def test_an_offer_in_two_headers(served: Served) -> None:
    """What belongs to one connection may be said in several of them, and the last need not be the upgrade."""
    body = b'{"task": "echo", "input": 1}'
    two_headers = {**OFFER, "Connection": "Upgrade\r\nConnection: HTTP2-Settings", "Content_Length": len(body)}
    with Line(served.port) as line:
        for _ in range(2):
            line.send(head("POST", "/compute", **two_headers) + body)
            assert line.answer().value == {"result": 1}


def test_many_offers_at_once(served: Served) -> None:
    """None of them is taken up either."""
    with Line(served.port) as line:
        line.send(head("POST", "/compute", Content_Length=2, **OFFER) + b"{}")
        line.send(head("GET", "/healthz", **OFFER) * 999 + head("GET", "/healthz", Connection="close"))
        answers = b"".join(iter(lambda: line.socket.recv(1 << 16), b""))
        assert answers.startswith(b"HTTP/1.1 400")
        assert answers.count(b'{"status": "ok"}') == 1_000


def test_what_comes_after_a_tunnel_is_no_request(served: Served) -> None:
    """There is none, and what would be said in it is not taken for HTTP."""
    with Line(served.port) as line:
        line.send(head("CONNECT", "localhost:80", **OFFER) + head("GET", "/tasks"))
        assert line.answer().headers["connection"] == "close"
        assert line.is_closed()


def test_a_size_that_is_only_claimed(served: Served) -> None:
    """It is refused before any of it is sent."""
    with Line(served.port) as line:
        line.send(head("POST", "/compute", Content_Type=JSON, Content_Length=10**15))
        assert line.answer().failure() == (413, "too_large")


@pytest.mark.parametrize("start", [b"", b"{", b'{"task": "add", "input": '])
def test_a_body_that_never_comes(served: Served, start: bytes) -> None:
    """Whoever announces one and keeps silent is answered when patience is over."""
    with Line(served.port) as line:
        line.send(head("POST", "/compute", Content_Type=JSON, Content_Length=100) + start)
        status, code = line.answer().failure()
        assert (status, code) == (408, "too_slow")


def test_a_head_that_never_comes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at first, nor after an answer, nor as a trickle of what means nothing; an idle connection may stay."""
    monkeypatch.setattr(impatient, "HEAD", 0.2)
    with (
        Frames(served.port) as frames,
        Line(served.port) as silent,
        Line(served.port) as slow,
        Line(served.port) as blank,
        Line(served.port) as idle,
    ):
        for line in (slow, blank, idle):
            line.send(head("GET", "/healthz"))
            assert line.answer().status == 200
        slow.send(b"GET /healthz HTT")
        blank.socket.settimeout(0.01)
        with pytest.raises((ConnectionError, TimeoutError)) as ended:
            while True:
                blank.send(b"\r\n")
                try:
                    assert blank.socket.recv(1) == b""
                    raise ConnectionResetError
                except TimeoutError:
                    continue
        assert ended.type is not TimeoutError
        assert silent.is_closed()
        assert slow.is_closed()
        idle.send(head("GET", "/healthz"))
        assert idle.answer().status == 200
        assert frames.ask({"task": "echo", "input": 1}) == {"result": 1}


def test_a_body_that_trickles_on_after_its_answer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads it any more, so the connection is closed before long."""
    monkeypatch.setattr(impatient, "HEAD", 0.2)
    with Line(served.port) as line:
        line.send(head("POST", "/compute", Content_Type="text/plain", Content_Length=10**6))
        assert line.answer().failure() == (415, "unsupported_media_type")
        line.socket.settimeout(0.01)
        ended = False
        while not ended:
            try:
                line.send(b"x")
                ended = line.socket.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True


def test_connections_that_are_half_open(served: Served) -> None:
    """Hundreds that say nothing, hundreds that stopped in the middle, and machines that lost their power."""
    lines = [Line(served.port) for _ in range(300)]
    for number, line in enumerate(lines):
        line.send([b"", b"POST /compute HTTP/1.1\r\nHo", head("POST", "/compute", Content_Length=5)][number % 3])
    insist_it_serves(served.port)
    for number, line in enumerate(lines):
        (line.reset if number % 2 else line.close)()
    wait_until(lambda: not served.server.server_state.connections)


# Frames.


@pytest.mark.parametrize(
    ("frames_sent", "closed_with"),
    [
        (as_frame(TEXT, b"\xff\xfe"), 1007),
        (as_frame(TEXT, b"{}", masked=False), 1002),
        (as_frame(3, b"x"), 1002),
        (as_frame(0, b"x"), 1002),
        (as_frame(PING, b"x" * 126), 1002),
        (as_frame(PING, b"x", last=False), 1002),
        (as_frame(TEXT, b"{", last=False) + as_frame(TEXT, b"}"), 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (as_frame(CLOSE, b"\x03"), 1002),
        (as_frame(CLOSE, b"\x00\x01"), 1002),
        (as_frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (as_frame(TEXT, b"x" * (MOST + 2_000))[:1_000], 1009),  # its length is enough
        (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
        (as_frame(TEXT, b"x" * 900_000, last=False) + as_frame(0, b"x" * 900_000)[:1_000], 1009),
    ],
)
def test_what_is_no_websocket(served: Served, frames_sent: bytes, closed_with: int) -> None:
    """The protocol itself says how such a connection ends, and nobody's log is filled by it."""
    with Frames(served.port) as frames:
        frames.send(frames_sent)
        assert frames.hear() == (CLOSE, closed_with)


def test_a_frame_that_is_a_little_too_large(served: Served) -> None:
    """It is answered, and the connection stays."""
    with Frames(served.port) as frames:
        frames.frame(TEXT, b'{"id": 1, "task": "nothing"}' + b" " * MOST)
        assert frames.hear()["code"] == "too_large"
        assert frames.ask({"task": "echo", "input": 1}) == {"result": 1}


def test_calls_under_way_when_a_client_breaks_the_protocol(served: Served) -> None:
    """They are stopped with their connection."""
    name = tasks.gate()
    with Frames(served.port) as frames:
        frames.say([{"id": 1, "task": "wait_at", "input": name}] + [{"task": "wait_at", "input": name}] * 9)
        wait_until(lambda: tasks.came[name] == 10)
        frames.send(as_frame(3, b""))
        assert frames.hear()[0] == CLOSE
    wait_until(lambda: tasks.left[name] == 10)


def test_a_flood_of_pings(served: Served) -> None:
    """They are answered as long as the answers are read; who does not read them leaves nothing behind."""
    with Frames(served.port) as frames:
        frames.frame(PING, b"are you there?")
        assert frames._read_frame() == (PONG, b"are you there?")
    wait_until(lambda: not served.server.server_state.connections)
    with Frames(served.port, room=4096) as frames:
        for _ in range(200):  # 20 MB of them
            frames.send(as_frame(PING, b"x" * 100) * 1_000)
        insist_it_serves(served.port)
        sizes = [each.transport.get_write_buffer_size() for each in served.server.server_state.connections]
        assert max(sizes) < 1_000_000


def test_a_message_in_countless_pieces(served: Served) -> None:
    """Each is small, or nothing at all; the connection is closed before they are too many."""
    with Frames(served.port) as frames:
        frames.frame(TEXT, b"", last=False)
        try:
            for _ in range(20):
                frames.send(as_frame(0, b"", last=False) * 10_000)
        except ConnectionError:
            return
        assert frames.hear() == (CLOSE, 1008)


def test_handshakes_that_are_none(served: Served) -> None:
    """They are answered as plain requests, or refused."""
    for headers in (
        {"Upgrade": "websocket", "Connection": "Upgrade"},
        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Key": "x", "Sec_WebSocket_Version": "13"},
        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Key": "x" * 24, "Sec_WebSocket_Version": "7"},
        {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2_Settings": ""},
    ):
        with Line(served.port) as line:
            line.send(head("GET", "/compute", **headers))
            assert line.answer().status >= 400


@pytest.mark.parametrize("path", ["/tasks", "/tasks/add", "/mcp", "/no"])
def test_a_handshake_where_there_is_no_socket(served: Served, path: str) -> None:
    """It is refused like one at the right place: in JSON, with a code."""
    with Frames(served.port, path) as frames:
        status, headers, body = frames.welcome
        assert (status, headers["content-type"]) == (404, "application/json")
        assert json.loads(body)["code"] == "not_found"


@pytest.mark.parametrize("packs", [False, True], ids=["JSON", "MessagePack"])
def test_an_input_too_deep_for_a_worker_is_its_clients_fault(served: Served, packs: bool) -> None:
    """What can be read here cannot always be sent on from here. How deep that is depends on the version of Python."""

    def status(depth: int) -> int:
        body = b'{"task": "pid_for", "input": %s%s}' % (b"[" * depth, b"]" * depth)
        if packs:
            body = msgspec.msgpack.encode({"task": "pid_for", "input": msgspec.Raw(b"\x91" * depth + b"\x90")})
        return ask(served.port, "POST", "/compute", body, {"Content-Type": PACKED if packs else JSON}).status

    assert status(300) == 200
    assert {status(depth) for depth in range(400, 1000, 50)} <= {200, 422}
    assert status(DEEP) in (400, 422)


@pytest.mark.parametrize("odd", [{"Content_Length": "2"}, {"X": "x" * 10_000}, {f"X{n}": "" for n in range(200)}])
def test_a_handshake_that_is_too_much(served: Served, odd: dict[str, str]) -> None:
    """It ends its connection."""
    with Line(served.port) as line:
        line.send(head("GET", "/compute", Upgrade="websocket", Connection="Upgrade", **odd))
        assert line.is_closed()


def test_a_client_that_goes_away_during_the_handshake(served: Served) -> None:
    """Over and over: nobody complains, and nothing is left."""
    for _ in range(50):
        line = Line(served.port)
        line.send(
            head(
                "GET",
                "/compute",
                Upgrade="websocket",
                Connection="Upgrade",
                Sec_WebSocket_Key="x" * 22 + "==",
                Sec_WebSocket_Version=13,
            )
        )
        line.reset()
    wait_until(lambda: not served.server.server_state.connections)


def test_memory_stays_flat(served: Served) -> None:
    """A thousand hostile bodies leave nothing behind."""
    bodies = [
        BODIES[kind] for kind in ("deep lists", "a large batch", "a very long name", "bytes that claim to be long")
    ]

    def send_all(times: int) -> None:
        for _ in range(times):
            for content_type, body, _ in bodies:
                ask(served.port, "POST", "/compute", body, {"Content-Type": content_type})

    send_all(20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    send_all(60)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_a_batch_that_is_far_too_long_takes_no_memory(served: Served) -> None:
    """It is counted before its calls are made: of a megabyte of them, there would be a hundred."""
    bodies = [(JSON, b"[%s{}]" % (b"{}," * (MOST // 3 - 2))), (PACKED, b"\xdd\0\x0f\0\0" + b"\x80" * 0xF0000)]
    for content_type, body in bodies * 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = ask(served.port, "POST", "/compute", body, {"Content-Type": content_type})
        assert answer.failure() == (413, "too_large")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


def test_values_that_cannot_be_written(served: Served) -> None:
    """A result that JSON cannot say is an error of that call alone."""
    body = msgspec.msgpack.encode(
        [{"id": 1, "task": "echo", "input": float("nan")}, {"id": 2, "task": "echo", "input": 2}]
    )
    answer = ask(served.port, "POST", "/compute", body, {"Content-Type": PACKED, "Accept": JSON})
    first, second = answer.value
    assert (first["id"], first["code"]) == (1, "not_transferable")
    assert second == {"id": 2, "result": 2}


def test_ids_cross_from_one_encoding_to_the_other(served: Served) -> None:
    """A batch in JSON that is answered in MessagePack, and the other way round."""
    ids: list[Any] = [1, -1, 1.5, "é", None, 2**63]
    calls = [{"id": id, "task": "echo", "input": 1} for id in ids]
    answer = ask(served.port, "POST", "/compute", json.dumps(calls).encode(), {"Content-Type": JSON, "Accept": PACKED})
    assert [each["id"] for each in answer.value] == ids
    body = msgspec.msgpack.encode(calls)
    answer = ask(served.port, "POST", "/compute", body, {"Content-Type": PACKED, "Accept": JSON})
    assert [each["id"] for each in answer.value] == ids


@pytest.mark.parametrize("id", [b'"\xff"', b"[1]", b"{}", b"true", b'"%s"' % (b"x" * 2_000)])
def test_an_id_that_is_none_spoils_its_own_call_only(served: Served, id: bytes) -> None:
    """And never the frame that it would be written into."""
    body = b'[{"id": %s, "task": "nothing"}, {"id": 2, "task": "echo", "input": 2}]' % id
    answer = ask(served.port, "POST", "/compute", body, {"Content-Type": JSON})
    first, second = answer.value
    assert (first["id"], first["code"]) == (None, "protocol_error")
    assert second == {"id": 2, "result": 2}


def test_a_key_is_not_for_a_batch(served: Served) -> None:
    """It stands for one call."""
    assert post(served.port, [{"task": "nothing"}], Idempotency_Key="k").failure() == (400, "protocol_error")


def test_a_time_is_for_each_call_of_a_batch(served: Served) -> None:
    """Unless the call says another."""
    name, open_gate = tasks.gate(), tasks.gate()
    tasks.gates[open_gate].set()
    calls = [{"task": "wait_at", "input": name}, {"task": "wait_at", "input": open_gate, "timeout": 20}]
    first, second = post(served.port, calls, Request_Timeout="0.05").value
    assert (first["code"], second) == ("task_timeout", {"result": open_gate})
