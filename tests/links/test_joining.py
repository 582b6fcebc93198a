"""What is written in one turn of the event loop goes out in as few pieces as it may."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hybrid_compute.links.joining import Joining


class Wire(asyncio.Transport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.ended = ""

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def get_write_buffer_size(self) -> int:
        return 5


@pytest.fixture
async def wire() -> Wire:
    return Wire()


def joining(wire: Wire) -> Joining:
    return Joining(wire, asyncio.get_running_loop())


async def test_what_comes_first_goes_at_once_and_the_rest_together(wire: Wire) -> None:
    """Somebody may wait for the first; the others are one piece, at the end of the turn."""
    joined = joining(wire)
    for each in (b"a", b"b", b"c"):
        joined.write(each)
    assert wire.written == [b"a"]
    assert joined.get_write_buffer_size() == 2 + 5
    await asyncio.sleep(0)
    assert wire.written == [b"a", b"bc"]
    joined.write(b"d")
    assert wire.written == [b"a", b"bc", b"d"]


async def test_a_head_waits_for_its_body(wire: Wire) -> None:
    """And no longer than for the end of the turn."""
    joined = joining(wire)
    joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert wire.written == []
    joined.write(b"body")
    assert wire.written == [b"HTTP/1.1 200 OK\r\n\r\nbody"]
    await asyncio.sleep(0)
    joined.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await asyncio.sleep(0)
    assert wire.written[1:] == [b"HTTP/1.1 204 No Content\r\n\r\n"]


async def test_much_is_written_at_once_and_in_order(wire: Wire) -> None:
    """So that the transport can say when there is no room for more."""
    joined = joining(wire)
    for each in (b"a", b"b", b"x" * 70_000, b"c"):
        joined.write(each)
    assert wire.written == [b"a", b"b", b"x" * 70_000]
    await asyncio.sleep(0)
    assert b"".join(wire.written) == b"ab" + b"x" * 70_000 + b"c"


async def test_what_waits_goes_before_the_end_but_not_before_an_abort(wire: Wire) -> None:
    """Closing is in order; aborting is not."""
    joined = joining(wire)
    joined.write(b"a")
    joined.write(b"b")
    joined.close()
    assert (wire.written, wire.ended) == ([b"a", b"b"], "closed")
    joined.write(b"c")
    joined.abort()
    await asyncio.sleep(0)
    assert (wire.written, wire.ended) == ([b"a", b"b"], "aborted")


async def test_what_waits_when_the_transport_breaks_is_dropped(wire: Wire) -> None:
    """Some transports refuse what is written then, and at the end of the turn nobody is there to be told."""
    joined = joining(wire)
    joined.write(b"a")
    joined.write(b"b")
    wire.abort()
    await asyncio.sleep(0)
    assert wire.written == [b"a"]
    assert joined.get_write_buffer_size() == 5
