"""Whatever bytes come in, an answer goes out that can be read, and the server goes on."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid_compute.server.refusals import STATUS
from tests.server.serving import Served
from tests.server.talking import BINARY, TEXT, Frames, ask, insist_it_serves

pytestmark = pytest.mark.usefixtures("complaints")
many = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
CODES = {*STATUS, "task_failed", "not_transferable"}

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
finite = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["add", "echo", "fail", "nothing", "count_to", "odd_items", "no", ""])


def calls(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What has the fields of a call, and anything at all in them."""
    field = values | st.none()
    return st.fixed_dictionaries(
        {},
        optional={
            "task": names | field,
            "input": st.fixed_dictionaries({"a": st.integers(), "b": st.integers()}) | field,
            "id": field,
            "stream": st.booleans() | field,
            "cancel": st.booleans() | field,
            "credit": st.integers() | field,
            "timeout": st.floats() | field if values is plain else field,
            "key": st.text(max_size=8) | field,
            "traceparent": field,
            "other": field,
        },
    )


@pytest.fixture(scope="module")
def frames(served: Served) -> Generator[Frames]:
    """One connection for all that comes."""
    with Frames(served.port) as talking:
        yield talking


def insist_on_answers(found: Any) -> None:
    """It is an outcome, or a list of them."""
    for each in found if isinstance(found, list) else [found]:
        assert isinstance(each, dict), found
        if "error" in each:
            assert isinstance(each["error"], str)
            assert each["error"]
            assert each["code"] in CODES, found
        else:
            assert "result" in each or "chunk" in each, found


def insist_it_goes_on(frames: Frames) -> None:
    """The connection answers a good call, after all that it may have to say before."""
    frames.say({"id": "a good call", "task": "echo", "input": 42})
    while True:
        found = frames.hear()
        insist_on_answers(found)
        if isinstance(found, dict) and found.get("id") == "a good call":
            assert found["result"] == 42
            return


@many
@given(st.text(max_size=200) | finite.map(json.dumps) | st.binary(max_size=50).map(lambda data: data.decode("latin-1")))
def test_any_text(frames: Frames, text: str) -> None:
    """A frame of text is answered, and the connection stays."""
    frames.frame(TEXT, text.encode("utf-8", "replace"))
    insist_it_goes_on(frames)


@many
@given(st.binary(max_size=200) | plain.map(msgspec.msgpack.encode))
def test_any_bytes(frames: Frames, data: bytes) -> None:
    """So is a frame of bytes."""
    frames.frame(BINARY, data)
    insist_it_goes_on(frames)


@many
@given(calls(finite) | st.lists(calls(finite), max_size=4))
def test_anything_like_a_call(frames: Frames, asked: Any) -> None:
    """Fields of a call with anything in them."""
    frames.frame(TEXT, json.dumps(asked).encode("utf-8", "replace"))
    insist_it_goes_on(frames)


@many
@given(calls(plain) | st.lists(calls(plain), max_size=4))
def test_anything_like_a_call_in_message_pack(frames: Frames, asked: Any) -> None:
    """The same, with NaN and infinities."""
    try:
        data = msgspec.msgpack.encode(asked)
    except OverflowError:
        return
    frames.frame(BINARY, data)
    insist_it_goes_on(frames)


@many
@given(
    st.binary(max_size=100) | finite.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["application/json", "application/msgpack"]),
    st.sampled_from(["/compute", "/tasks/echo", "/tasks/add", "/tasks/count_to"]),
    st.sampled_from(["", "application/json", "application/msgpack", "text/event-stream", "application/x-ndjson"]),
)
def test_any_body(served: Served, body: bytes, content_type: str, path: str, accept: str) -> None:
    """A body is answered with a status and a code, in an encoding that was asked for."""
    answer = ask(served.port, "POST", path, body, {"Content-Type": content_type, "Accept": accept})
    if answer.status != 200:
        status, code = answer.failure()
        assert STATUS.get(code, 500) == status
    elif answer.headers["content-type"] in ("application/json", "application/msgpack"):
        insist_on_answers(answer.value)
    else:
        assert answer.headers["content-type"] in ("text/event-stream", "application/x-ndjson")


@many
@given(data=st.binary(max_size=300))
def test_any_bytes_at_all(served: Served, data: bytes, complaints: list[str]) -> None:
    """Right into the socket, before and after the handshake."""
    with Frames(served.port) as frames:
        frames.send(data)
    insist_it_serves(served.port)
    complaints.clear()  # what uvicorn itself says of broken frames


@many
@given(finite)
def test_a_value_comes_back_as_it_was(frames: Frames, value: Any) -> None:
    """Through JSON, over a real connection."""
    assert frames.ask({"task": "echo", "input": value}) == {"result": value}


@many
@given(plain | st.binary(max_size=50))
def test_a_value_comes_back_as_it_was_in_message_pack(frames: Frames, value: Any) -> None:
    """Through MessagePack, with bytes and infinities."""
    frames.frame(BINARY, msgspec.msgpack.encode({"task": "echo", "input": value}))
    assert frames.hear() == {"result": value}
