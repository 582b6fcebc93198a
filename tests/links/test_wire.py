"""What servers and clients say to each other: bytes in, values out, and back."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from msgspec import UNSET, Raw

from hybrid_compute import task
from hybrid_compute.errors import InvalidInput, NotTransferable, RemoteProtocolError
from hybrid_compute.links.layouts import NUMBERS
from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Encoding, Failure, Reply, Request, size_of

BOTH = pytest.mark.parametrize("encoding", [JSON, MESSAGE_PACK], ids=["json", "msgpack"])


@task
def echo(value: Any) -> Any:
    return value


@task
def add(a: int, b: int = 2) -> int:
    return a + b


finite = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=10,
)
ids = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
fields = st.fixed_dictionaries(
    {"task": st.text()},
    optional={
        "stream": st.booleans(),
        "cancel": st.booleans(),
        "credit": st.integers(-(2**63), 2**63 - 1),
        "timeout": st.floats(allow_nan=False, allow_infinity=False),
        "key": st.text(),
        "traceparent": st.text(),
    },
)


def joined(pieces: list[bytes | memoryview]) -> bytes:
    data = b"".join(pieces)
    assert len(data) == size_of(pieces)
    return data


def read_id(encoding: Encoding, id: Any) -> Any:
    if id is UNSET:
        return UNSET
    return msgspec.msgpack.decode(bytes(id)) if encoding.binary else msgspec.json.decode(bytes(id))


@BOTH
@given(said=fields, value=finite, id=ids)
def test_a_request_is_read_as_it_was_written(encoding: Encoding, said: dict[str, Any], value: Any, id: Any) -> None:
    """All of its fields, its input, and its id with its type."""
    data = joined(encoding.write_request({**said, "id": id}, encoding.write_value(value)))
    asked = encoding.read_requests(data)
    assert isinstance(asked, Request)
    assert {name: getattr(asked, name) for name in said} == said
    assert encoding.bind(echo, asked.input) == ((value,), {})
    found = read_id(encoding, asked.id)
    assert (found, type(found)) == (id, type(id))
    assert encoding.read_id(data) == bytes(asked.id)  # type: ignore[arg-type]


@BOTH
@given(value=finite, id=ids, kind=st.sampled_from(["result", "chunk"]))
def test_an_outcome_is_read_as_it_was_written(encoding: Encoding, value: Any, id: Any, kind: Any) -> None:
    """With an id and without."""
    raw = msgspec.msgpack.encode(id) if encoding.binary else msgspec.json.encode(id)
    for given_id in (None, raw):
        reply = encoding.read_replies(joined(encoding.write_outcome(given_id, kind, encoding.write_value(value))))
        assert isinstance(reply, Reply)
        assert encoding.read_result(echo, getattr(reply, kind)) == value
        assert reply.error is None
        assert read_id(encoding, reply.id) == (UNSET if given_id is None else id)


@BOTH
@given(
    id=st.none() | ids,
    error=st.text(min_size=1),
    code=st.text(),
    details=st.dictionaries(st.text(max_size=5), finite, max_size=3),
)
def test_a_failure_is_read_as_it_was_written(
    encoding: Encoding, id: Any, error: str, code: str, details: dict[str, Any]
) -> None:
    """Its text, its code and its details."""
    raw = None if id is None else msgspec.msgpack.encode(id) if encoding.binary else msgspec.json.encode(id)
    reply = encoding.read_replies(joined(encoding.write_failure(raw, Failure(error, code, details))))
    assert isinstance(reply, Reply)
    assert (reply.error, reply.code, reply.details) == (error, code, details)
    assert read_id(encoding, reply.id) == (UNSET if id is None else id)


@BOTH
@given(values=st.lists(finite, max_size=4) | st.integers(15, 40).map(lambda count: [1] * count))
def test_a_batch_is_read_as_it_was_written(encoding: Encoding, values: list[Any]) -> None:
    """Both ways, however many there are, also none."""
    requests = [encoding.write_request({"task": "echo"}, encoding.write_value(value)) for value in values]
    asked = encoding.read_requests(joined(encoding.write_batch(requests)))
    assert isinstance(asked, list)
    assert [encoding.bind(echo, each.input)[0][0] for each in asked] == values
    answers = [encoding.write_outcome(None, "result", encoding.write_value(value)) for value in values]
    replies = encoding.read_replies(joined(encoding.write_batch(answers)))
    assert isinstance(replies, list)
    assert [encoding.read_result(echo, each.result) for each in replies if isinstance(each.result, Raw)] == values


@BOTH
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(encoding: Encoding, data: bytes) -> None:
    """No other error ever comes out, from any of the readers."""
    encoding.read_id(data)
    for read in (encoding.read_requests, encoding.read_replies):
        try:
            read(data)
        except RemoteProtocolError:
            continue
    try:
        encoding.bind(echo, Raw(data))
    except InvalidInput:
        pass
    if data:
        try:
            encoding.read_result(add, Raw(data))
        except RemoteProtocolError:
            pass


@BOTH
@given(value=finite, where=st.integers(0), byte=st.integers(0, 255))
def test_one_wrong_byte_is_read_or_refused(encoding: Encoding, value: Any, where: int, byte: int) -> None:
    """Of a message that was good before."""
    data = bytearray(joined(encoding.write_request({"task": "echo", "id": 1}, encoding.write_value(value))))
    data[where % len(data)] = byte
    try:
        asked = encoding.read_requests(bytes(data))
    except RemoteProtocolError:
        return
    for each in asked if isinstance(asked, list) else [asked]:
        try:
            encoding.bind(echo, each.input)
        except InvalidInput:
            continue


@BOTH
@pytest.mark.parametrize("depth", [100_000])
def test_what_is_nested_without_end_is_refused(encoding: Encoding, depth: int) -> None:
    """On the way in, and on the way out."""
    opened, closed = (b"\x91", b"") if encoding.binary else (b"[", b"]")
    data = opened * depth + (b"\xc0" if encoding.binary else b"") + closed * depth
    with pytest.raises(RemoteProtocolError):
        encoding.read_requests(data)
    with pytest.raises(InvalidInput, match="deep"):
        encoding.bind(echo, Raw(data))
    assert encoding.read_id(data) is None
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    with pytest.raises(NotTransferable):
        encoding.write_value(deep)
    while deep:  # bit by bit: to let it go at once would go as deep
        deep = deep[0]


@BOTH
def test_a_missing_input_leaves_defaults_as_they_are(encoding: Encoding) -> None:
    """And is refused where there are none."""
    data = joined(encoding.write_request({"task": "add"}, encoding.write_value({"a": 1})))
    asked = encoding.read_requests(data)
    assert isinstance(asked, Request)
    args, kwargs = encoding.bind(add, asked.input)
    assert add(*args, **kwargs) == 3
    with pytest.raises(InvalidInput, match="`a`"):
        encoding.bind(add, Raw())


@BOTH
@pytest.mark.parametrize(
    ("input", "path"),
    [({"a": "x"}, r"\$\.a"), ({"a": 1, "b": [2]}, r"\$\.b"), ({"a": 1, "c": 2}, "`c`"), ([1], "object")],
)
def test_what_does_not_fit_is_refused_by_its_path(encoding: Encoding, input: Any, path: str) -> None:
    """The text says where to look."""
    with pytest.raises(InvalidInput, match=path):
        encoding.bind(add, Raw(joined(encoding.write_value(input))))


@BOTH
def test_a_result_of_the_wrong_type_is_the_fault_of_the_server(encoding: Encoding) -> None:
    """It says one thing and sends another."""
    with pytest.raises(RemoteProtocolError, match="'add'"):
        encoding.read_result(add, Raw(joined(encoding.write_value("three"))))


def test_numbers_that_json_does_not_have_are_refused() -> None:
    """MessagePack has them."""
    for value in (math.nan, math.inf, [1, {"a": -math.inf}]):
        with pytest.raises(NotTransferable, match="cannot be JSON"):
            JSON.write_value(value)
    (nan, inf), _ = MESSAGE_PACK.bind(echo, Raw(joined(MESSAGE_PACK.write_value([math.nan, math.inf]))))[0][0], None
    assert math.isnan(nan)
    assert inf == math.inf


@given(st.integers())
def test_integers_are_exact_or_refused(number: int) -> None:
    """However long in JSON; 64 bits in MessagePack."""
    assert JSON.bind(echo, Raw(joined(JSON.write_value(number)))) == ((number,), {})
    if -(2**63) <= number < 2**64:
        assert MESSAGE_PACK.bind(echo, Raw(joined(MESSAGE_PACK.write_value(number)))) == ((number,), {})
    else:
        with pytest.raises(NotTransferable):
            MESSAGE_PACK.write_value(number)


@given(st.binary(max_size=100) | st.integers(0, 300_000).map(bytes))
def test_bytes_are_base64_or_as_they_are(data: bytes) -> None:
    """Small and large, alone and inside."""
    assert json.loads(joined(JSON.write_value({"a": data}))).keys() == {"a"}
    for value in (data, {"a": [data]}, [data, data]):
        assert MESSAGE_PACK.bind(echo, Raw(joined(MESSAGE_PACK.write_value(value)))) == ((value,), {})


@given(
    arrays.arrays(
        st.sampled_from([np.dtype(kind) for kind in "?bhilqBHILQefdFD"]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    )
)
def test_an_array_is_the_memory_it_lies_in(array: np.ndarray[Any, Any]) -> None:
    """Of any kind of number and any shape, in any order of memory."""
    for given_array in (
        array,
        array.T,
        array[..., ::-1] if array.ndim else array,
        array.astype(array.dtype.newbyteorder(">")),
    ):
        (found,), _ = MESSAGE_PACK.bind(echo, Raw(joined(MESSAGE_PACK.write_value([given_array]))))
        np.testing.assert_array_equal(found[0], given_array)
        assert found[0].dtype == array.dtype
        assert found[0].shape == given_array.shape


def test_a_large_array_is_sent_from_where_it_lies() -> None:
    """Not copied into the message, also inside of others; small ones are not worth a piece of their own."""
    large, small = np.arange(1_000_000, dtype=np.float64), np.arange(3)
    pieces = MESSAGE_PACK.write_value({"a": [large, small]})
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert [np.shares_memory(np.frombuffer(view, np.uint8), large) for view in views] == [True]
    (found,), _ = MESSAGE_PACK.bind(echo, Raw(joined(pieces)))
    np.testing.assert_array_equal(found["a"][0], large)
    np.testing.assert_array_equal(found["a"][1], small)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"d",
        b"d\x01",
        b"d\xff",
        b"O\x01" + (1).to_bytes(8, "big") + bytes(8),
        b"V\x00" + bytes(8),
        b"\xff\x00",
        b"d\x01" + b"\xff" * 8,
        b"d\x02" + b"\xff" * 16,
        b"d\x02" + (0).to_bytes(8, "big") + b"\xff" * 8,
        b"d\x01" + (2).to_bytes(8, "big") + bytes(8),
        b"d\x40" + (1).to_bytes(8, "big") * 64 + bytes(8),
        b"d\x41" + (1).to_bytes(8, "big") * 65 + bytes(8),
    ],
)
def test_what_only_claims_to_be_an_array(data: bytes) -> None:
    """It is refused, or is an array; memory that is not there is never asked for."""
    packed = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, data))
    try:
        (found,), _ = MESSAGE_PACK.bind(echo, Raw(packed))
    except InvalidInput:
        return
    assert found.dtype.char in NUMBERS
    assert found.nbytes <= len(data)


@pytest.mark.parametrize("value", [object(), {1, object()}, [lambda: 1], {"a": open}])
@BOTH
def test_what_cannot_be_said_is_refused(encoding: Encoding, value: Any) -> None:
    """On the way out; nothing is pickled."""
    with pytest.raises(NotTransferable):
        encoding.write_value(value)


@BOTH
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_of_a_surrogate_pair_is_refused(encoding: Encoding, text: str) -> None:
    """It is no Unicode, and no reader would take it."""
    with pytest.raises(NotTransferable):
        encoding.write_value(text)
    with pytest.raises(NotTransferable):
        encoding.write_value({text: 1})
