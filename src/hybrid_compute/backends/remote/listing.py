"""What a server says it can do: the names of its tasks, whether it remembers keys, and what it takes at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from hybrid_compute.errors import RemoteProtocolError


class _Listed(msgspec.Struct):
    name: str


_Count = Annotated[int, msgspec.Meta(ge=1)]


class _Limits(msgspec.Struct, frozen=True):
    body: _Count | None = None
    batch: _Count | None = None
    calls: _Count | None = None


class _List(msgspec.Struct):
    tasks: list[_Listed]
    remembers_keys: bool = False
    notebook: str | None = None
    limits: _Limits = _Limits()


class Listing:
    """The tasks of a server, as it listed them, or as somebody said."""

    def __init__(
        self,
        tasks: Iterable[str],
        *,
        remembers_keys: bool = False,
        notebook: str | None = None,
        body: int | None = None,
        batch: int | None = None,
        calls: int | None = None,
    ) -> None:
        self.tasks = frozenset(tasks)
        self.remembers_keys = remembers_keys
        self.notebook = notebook  # where it remembers them
        self.body = body  # bytes that it takes in one message; None where it does not say
        self.batch = batch  # calls that it takes in one message
        self.calls = calls  # calls that it has under way at a time on one WebSocket

    def __contains__(self, task: str) -> bool:
        return task in self.tasks

    def __str__(self) -> str:
        return ", ".join(sorted(self.tasks)) or "none"


def read_listing(data: bytes) -> Listing:
    """The list that a server gave. Raises `RemoteProtocolError` if it is none."""
    try:
        found = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RemoteProtocolError(f"this is no list of tasks: {error}") from error
    return Listing(
        (each.name for each in found.tasks),
        remembers_keys=found.remembers_keys,
        notebook=found.notebook,
        body=found.limits.body,
        batch=found.limits.batch,
        calls=found.limits.calls,
    )


_decoder = msgspec.json.Decoder(_List)
