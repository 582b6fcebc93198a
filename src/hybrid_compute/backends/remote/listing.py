"""What a server says it can do: the names of its tasks, and whether it remembers keys."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hybrid_compute.errors import RemoteProtocolError


class _Listed(msgspec.Struct):
    name: str


class _List(msgspec.Struct):
    tasks: list[_Listed]
    remembers_keys: bool = False


class Listing:
    """The tasks of a server, as it listed them, or as somebody said."""

    def __init__(self, tasks: Iterable[str], *, remembers_keys: bool = False) -> None:
        self.tasks = frozenset(tasks)
        self.remembers_keys = remembers_keys

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
    return Listing((each.name for each in found.tasks), remembers_keys=found.remembers_keys)


_decoder = msgspec.json.Decoder(_List)
