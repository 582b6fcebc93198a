"""Ids of calls: a number or a text, which goes back as it came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from hybrid_compute.errors import ProtocolError
from hybrid_compute.links.wire import Encoding, Request

LONGEST: Final = 1_000
"""Bytes of an id: it goes back with every answer, and into the text of an error."""


def id_of(asked: Request, encoding: Encoding, answer_in: Encoding | None = None) -> bytes | None:
    """The id of a call, as it is written in the answer; None if it has none.

    Raises `ProtocolError` for what is neither a number nor a text, or is too long. Null is taken for no id, but goes
    back too.
    """
    if asked.id is UNSET:
        return None
    return _checked(bytes(asked.id), encoding, answer_in or encoding)


def id_in(data: Any, encoding: Encoding) -> bytes:
    """The id in a message that is not valid otherwise; null if there is none that could go back."""
    found = encoding.read_id(data)
    if found is None:
        return encoding.null
    try:
        return _checked(found, encoding, encoding)
    except ProtocolError:
        return encoding.null


def usable(ids: Iterable[bytes], encoding: Encoding) -> list[bytes]:
    """Those among these ids that can go back, and are not null."""
    found: list[bytes] = []
    for id in ids:
        try:
            found.append(_checked(id, encoding, encoding))
        except ProtocolError:
            continue  # such a call cannot be answered by its id, whatever comes of it
    return [id for id in found if id != encoding.null]


def _checked(id: bytes, encoding: Encoding, answer_in: Encoding) -> bytes:
    if len(id) > LONGEST:
        raise ProtocolError(f"an id has at most {LONGEST:,} bytes, not {len(id):,}")
    decoder = _PACKED if encoding.binary else _JSON
    try:
        value = decoder.decode(id)
        if answer_in is encoding:
            return id
        return msgspec.msgpack.encode(value) if answer_in.binary else msgspec.json.encode(value)
    except (msgspec.MsgspecError, UnicodeError, OverflowError) as error:
        raise ProtocolError(f"an id is a number or a text: {error}") from error


_JSON: Final = msgspec.json.Decoder(int | float | str | None)
_PACKED: Final = msgspec.msgpack.Decoder(int | float | str | None)
