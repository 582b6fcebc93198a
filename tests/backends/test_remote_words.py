"""Addresses, lists of tasks, and bodies cut into messages: bytes and texts in, values out."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.backends.remote.address import parse
from hybrid_compute.backends.remote.batch import chunks
from hybrid_compute.backends.remote.cutting import Cutter, Lines, Measured
from hybrid_compute.backends.remote.line import Message
from hybrid_compute.backends.remote.listing import read_listing
from hybrid_compute.errors import RemoteProtocolError
from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Encoding, size_of

# Addresses.


@pytest.mark.parametrize(
    ("url", "calls", "tasks"),
    [
        ("http://host:8000", "http://host:8000/compute", "http://host:8000/tasks"),
        ("http://host:8000/", "http://host:8000/compute", "http://host:8000/tasks"),
        ("http://host:8000/compute", "http://host:8000/compute", "http://host:8000/tasks"),
        ("https://host/api", "https://host/api/compute", "https://host/api/tasks"),
        ("https://host/api/compute/", "https://host/api/compute", "https://host/api/tasks"),
        ("ws://host", "ws://host/compute", "http://host/tasks"),
        ("wss://[::1]:8443/compute", "wss://[::1]:8443/compute", "https://[::1]:8443/tasks"),
    ],
)
def test_one_url_stands_for_all_addresses_of_a_server(url: str, calls: str, tasks: str) -> None:
    """With a folder before them or not, with `/compute` at the end or not."""
    address = parse(url)
    assert (address.calls, address.tasks) == (calls, tasks)
    assert address.by_socket == url.startswith("ws")


# Lists.


def test_a_list_is_names_and_what_the_server_remembers() -> None:
    """Whatever else it says of its tasks."""
    listing = read_listing(b'{"tasks": [{"name": "a", "kind": "function", "input": {}}, {"name": "b"}], "more": 1}')
    assert "a" in listing
    assert "c" not in listing
    assert str(listing) == "a, b"
    assert not listing.remembers_keys
    remembering = read_listing(b'{"tasks": [], "remembers_keys": true, "notebook": "n-1"}')
    assert (remembering.remembers_keys, remembering.notebook) == (True, "n-1")


def test_a_list_says_what_the_server_takes() -> None:
    """Where it does not, nothing is known."""
    listing = read_listing(b'{"tasks": [], "limits": {"body": 1000, "batch": 5}}')
    assert (listing.body, listing.batch) == (1000, 5)
    listing = read_listing(b'{"tasks": [], "limits": {"calls": 1}}')
    assert (listing.body, listing.batch, listing.notebook) == (None, None, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"tasks": 1}',
        b'{"tasks": [{}]}',
        b'{"tasks": [], "limits": {"batch": 0}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_what_is_no_list_is_refused(data: bytes) -> None:
    """In our error, however it is wrong."""
    with pytest.raises(RemoteProtocolError, match="this is no list of tasks"):
        read_listing(data)


# Many calls in few messages.

CALLS = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=2000)), max_size=60)


@pytest.mark.parametrize("encoding", [JSON, MESSAGE_PACK], ids=["json", "msgpack"])
@given(calls=CALLS, room=st.integers(1, 5000), timeout=st.none() | st.floats(0.001, 1e6))
def test_messages_of_many_calls_fit_into_what_the_server_takes(
    encoding: Encoding, calls: list[tuple[str, bytes]], room: int, timeout: float | None
) -> None:
    """Unless one call alone is too large: it goes alone, to be refused alone. None is missing, none out of order."""
    fields = {} if timeout is None else {"timeout": timeout}
    messages = [Message({"task": name, **fields}, encoding.write_value(data)) for name, data in calls]
    found = list(chunks(messages, 16, room))
    assert [each for chunk in found for each in chunk] == messages
    for chunk in found:
        for number, each in enumerate(chunk):
            each.fields["id"] = 10**15 + number
        written = encoding.write_batch([encoding.write_request(*each) for each in chunk])
        assert size_of(written) <= room or len(chunk) == 1
        assert len(chunk) <= 16


# Bodies in parts.

MESSAGES = st.lists(st.binary(max_size=40), max_size=20)


def cut(cutter: Cutter, body: bytes, cuts: list[int]) -> list[bytes]:
    """The messages of a body that arrives in parts."""
    found: list[bytes] = []
    places = [0, *sorted(each % (len(body) + 1) for each in cuts), len(body)]
    for start, end in itertools.pairwise(places):
        found += cutter.feed(body[start:end])
    return found


@given(MESSAGES, st.lists(st.integers(0, 10_000), max_size=30))
def test_measured_messages_come_out_as_they_went_in(messages: list[bytes], cuts: list[int]) -> None:
    """Wherever the body was cut on its way. Empty ones are signs of life, and no messages."""
    body = b"".join(len(each).to_bytes(4, "big") + each for each in messages)
    assert cut(Measured(100), body, cuts) == [each for each in messages if each]


@given(st.lists(st.text(max_size=20), max_size=20), st.lists(st.integers(0, 10_000), max_size=30))
def test_lines_come_out_as_they_went_in(texts: list[str], cuts: list[int]) -> None:
    """The same; JSON has no line ends but those between messages."""
    lines = [json.dumps(each).encode() for each in texts]
    body = b"".join(line + b"\n\n" for line in lines)
    assert cut(Lines(1000), body, cuts) == lines


@pytest.mark.parametrize("cutter", [Lines(10), Measured(10)])
def test_a_message_that_is_too_long_is_refused_before_it_is_whole(cutter: Cutter) -> None:
    """No server fills this program's memory by never ending a message."""
    with pytest.raises(RemoteProtocolError, match="10"):
        list(cutter.feed(b"\x00\x00\x00\x0b" + b"x" * 9))


def test_what_is_unfinished_stays() -> None:
    """A body that ends in the middle of a message gives those before it."""
    assert list(Measured(100).feed(b"\x00\x00\x00\x01a\x00\x00\x00\x05b")) == [b"a"]
    assert list(Lines(100).feed(b"1\n2")) == [b"1"]
