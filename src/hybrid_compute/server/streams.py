"""How the messages of a stream are kept apart in the body of one response.

application/x-ndjson         a line for each
text/event-stream            an event for each, without a name: a browser's EventSource reads it as it is
application/x-msgpack-stream four bytes of length before each
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hybrid_compute.links.wire import JSON, MESSAGE_PACK, Encoding


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write many messages one after the other."""

    content_type: str
    encoding: Encoding
    frame: Callable[[bytes], bytes]
    sign_of_life: bytes
    """What a reader passes over."""


LINES: Final = Format("application/x-ndjson", JSON, lambda message: message + b"\n", b"\n")
EVENTS: Final = Format("text/event-stream", JSON, lambda message: b"data: " + message + b"\n\n", b": still here\n\n")
PACKED: Final = Format(
    "application/x-msgpack-stream",
    MESSAGE_PACK,
    lambda message: struct.pack(">I", len(message)) + message,
    struct.pack(">I", 0),
)


def format_for(accept: str, encoding: Encoding, *, stream: bool) -> Format | None:
    """The way that a client asks for; None if it wants no stream.

    >>> format_for("text/event-stream", JSON, stream=False).content_type
    'text/event-stream'
    >>> format_for("*/*", MESSAGE_PACK, stream=True).content_type
    'application/x-msgpack-stream'
    """
    for each in (LINES, EVENTS, PACKED):
        if each.content_type in accept:
            return each
    if not stream:
        return None
    return PACKED if encoding is MESSAGE_PACK else LINES
