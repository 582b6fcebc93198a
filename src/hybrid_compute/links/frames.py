"""The frames two ends of a link exchange, without I/O.

    every frame     u64 length | kind << 56,  u32 call,  u32 function or f32 seconds,  then `length` bytes of body

    to a worker     DEFINE function          FORGET function          CALL, MANY call of function
                    CREDIT call, n items     CANCEL call              RELEASE loans          SETUP the worker
                    DROP segments
    from a worker   RESULT call, seconds     FAILURE call, seconds    ITEM of a stream       CANCELLED call
                    PROGRESS of a call       RELEASE loans            DROP segments

Each call and each result is a pickle of its own, so that two never share an object by accident; only atoms are pickled
together. With the BUFFERS flag a body
begins with the descriptors of buffers that stay in shared memory (see `codec.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

HEADER = struct.Struct("<QII")
REPLY = struct.Struct("<QIf")
SIZE = HEADER.size
LENGTH = (1 << 56) - 1

DEFINE, FORGET, CALL, MANY, CREDIT, CANCEL, RELEASE, SETUP, DROP = range(1, 10)
RESULT, FAILURE, ITEM, CANCELLED, PROGRESS = range(16, 21)
KEYWORDS = 0x20  # flag: the body is (args, kwargs), not args alone
PICKLES = 0x40  # flag: the values of MANY are encoded one by one, in the call or in its result
BUFFERS = 0x80  # flag: the body starts with buffer descriptors
KIND = 0x1F

Frame: TypeAlias = tuple[int, int, int, bytes]
Reply: TypeAlias = tuple[int, int, float, bytes]

READ_SIZE = 1 << 16


def frame(kind: int, call: int = 0, number: int = 0, body: bytes = b"") -> bytes:
    """One frame towards a worker."""
    return HEADER.pack(len(body) | kind << 56, call, number) + body


def reply(kind: int, call: int = 0, seconds: float = 0.0, body: bytes = b"") -> bytes:
    """One frame from a worker."""
    return REPLY.pack(len(body) | kind << 56, call, seconds) + body


class Frames:
    """Bytes in, whole frames out. What is not yet whole is kept, each byte copied once however it arrives."""

    def __init__(self, layout: struct.Struct = HEADER) -> None:
        self._unpack = layout.unpack_from
        self._parts: list[bytes] = []
        self.partial = False  # whether bytes of an unfinished frame are held back
        self._have = 0
        self._need = SIZE

    def feed(self, data: bytes) -> Sequence[tuple[int, int, int, bytes]]:
        """The frames that `data` completes, in order, as `(kind and flags, call, number, body)`."""
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return ()
            data = b"".join(self._parts)
            self._parts = []
            self.partial = False
        unpack, at, end = self._unpack, 0, len(data)
        if end >= SIZE:
            head, call, number = unpack(data)
            if head & LENGTH == end - SIZE:  # exactly one frame: nearly always so when calls are not in a hurry
                return ((head >> 56, call, number, data[SIZE:]),)
        frames: list[tuple[int, int, int, bytes]] = []
        while end - at >= SIZE:
            head, call, number = unpack(data, at)
            stop = at + SIZE + (head & LENGTH)
            if stop > end:
                break
            frames.append((head >> 56, call, number, data[at + SIZE : stop]))
            at = stop
        if at < end:
            self._keep(data[at:] if at else data)
        return frames

    def _keep(self, rest: bytes) -> None:
        self._parts = [rest]
        self.partial = True
        self._have = len(rest)
        self._need = SIZE if self._have < SIZE else SIZE + (self._unpack(rest, 0)[0] & LENGTH)
