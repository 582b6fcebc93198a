"""How many calls are in a batch, and whose they are, before any of them is made.

In memory a call takes a hundred times the room that it may take in a message, so a batch that is far too long would do
its harm while it is read.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import msgspec

from hybrid_compute.links.wire import Encoding
from hybrid_compute.server.refusals import Refused


class Counter:
    """Counts up to `most` calls."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most
        call = msgspec.defstruct("Call", [], namespace={"__post_init__": self._count})
        self._decoder = msgspec.json.Decoder(list[call])  # type: ignore[valid-type]
        self._ids: list[bytes] = []
        named = msgspec.defstruct(
            "Named", [("id", msgspec.Raw, msgspec.Raw())], namespace={"__post_init__": self._note}
        )
        self._json = msgspec.json.Decoder(list[named])  # type: ignore[valid-type]
        self._packed = msgspec.msgpack.Decoder(list[named])  # type: ignore[valid-type]

    def insist_on_few(self, data: Any, encoding: Encoding) -> None:
        """Raise `Refused` for a batch of too many calls. What is no batch at all is for others to say."""
        if len(data) <= self._most:
            return
        if _length_of(data) > self._most if encoding.binary else self._has_too_many(data):
            raise Refused("too_large", f"a batch may have {self._most:,} calls, not more")

    def first_ids(self, data: Any, encoding: Encoding) -> list[bytes]:
        """The ids, as they are written, in the first calls of a batch: in no more than it may have."""
        self._left = self._most
        self._ids = []
        try:
            (self._packed if encoding.binary else self._json).decode(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # too many, as was to be expected, or no batch
        found, self._ids = self._ids, []
        return found

    def _note(self, call: Any) -> None:
        self._count(call)
        if id := bytes(call.id):
            self._ids.append(id)

    def _has_too_many(self, data: Any) -> bool:
        is_list = _TEXT.match(data) if isinstance(data, str) else _BYTES.match(data)
        if not is_list:
            return False
        self._left = self._most
        try:
            self._decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return self._left < 0
        return False

    def _count(self, _call: object) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError("these are too many")  # which ends the reading


def _length_of(data: bytes) -> int:
    """What the head of a list in MessagePack says; 0 if it is none."""
    kind = data[0]
    if kind >> 4 == 9:
        return kind & 15
    if kind == 0xDC and len(data) >= 3:
        return int(struct.unpack_from(">H", data, 1)[0])
    if kind == 0xDD and len(data) >= 5:
        return int(struct.unpack_from(">I", data, 1)[0])
    return 0


_BYTES = re.compile(rb"[ \t\r\n]*\[")
_TEXT = re.compile(r"[ \t\r\n]*\[")
