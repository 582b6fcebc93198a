"""A body that arrives in parts, cut into the messages it is made of. Without I/O: bytes in, messages out.

NDJSON        one message on each line; an empty line is a sign of life
MessagePack   each message behind its length, four bytes, high byte first; zero is a sign of life
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from hybrid_compute.errors import RemoteProtocolError


class Cutter(Protocol):
    """Cuts what it is fed. Raises `RemoteProtocolError` for a message that is too long."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now."""
        ...


class Lines:
    """A message on each line."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._begun: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        *ends, rest = data.split(b"\n")
        for end in ends:
            line = b"".join([*self._begun, end]).strip()
            self._begun, self._size = [], 0
            if line:
                yield line
        self._begun.append(rest)
        self._size += len(rest)
        if self._size > self._largest:
            raise RemoteProtocolError(f"a line of a stream is longer than {self._largest:,} bytes")


class Measured:
    """Each message behind its length."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > self._largest:
                raise RemoteProtocolError(
                    f"a message of a stream has {length:,} bytes, and {self._largest:,} are the most"
                )
            if len(self._buffer) < 4 + length:
                return
            message = bytes(memoryview(self._buffer)[4 : 4 + length])
            del self._buffer[: 4 + length]
            if message:
                yield message
