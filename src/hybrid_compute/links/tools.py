"""What crosses between a tool of the Model Context Protocol and whoever calls it: plain values, and errors.

The protocol has words for a failed tool, but only for people. Ours adds a code and details for programs, so that a
caller which knows us raises the same error. Nothing here speaks the protocol: its SDK does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from hybrid_compute.errors import NotTransferable
from hybrid_compute.links.wire import Failure

ERROR_KEY: Final = "hybrid-compute/error"
"""Where in `_meta` of a failed result the code and the details of the error stand."""

DEEPEST: Final = 128
"""Levels of nesting that may cross. The SDK reads no more than 200, some of them its own, and what it cannot read is
never answered; somewhat beyond, it breaks the connection."""


def read(data: bytes) -> Any:
    """The plain value that JSON of ours stands for. Raises `NotTransferable` if it is nested too deep for the SDK."""
    value = msgspec.json.decode(data)
    if data.count(b"[") + data.count(b"{") > DEEPEST and _is_deep(value):
        raise NotTransferable(f"a value nested more than {DEEPEST} deep cannot go to or from a tool")
    return value


def error_in_meta(failure: Failure) -> dict[str, Any]:
    """A failure as a program is told of it. Details that JSON cannot say are left out; the text is told elsewhere."""
    try:
        details = read(msgspec.json.encode(failure.details))
    except (TypeError, UnicodeError, RecursionError, NotTransferable):
        details = {}
    return {ERROR_KEY: {"code": failure.code, "details": details}}


def failure_in(meta: Mapping[str, Any] | None, text: str) -> Failure | None:
    """The failure that `error_in_meta` was made of; None for servers that know nothing of it."""
    try:
        told = msgspec.convert((meta or {}).get(ERROR_KEY), _Told)
    except msgspec.ValidationError:
        return None
    return Failure(text, told.code, told.details)


def sayable(text: str) -> str:
    """The text, with a mark in place of what is no Unicode, over which the SDK would break the connection too."""
    return text.encode("utf-8", "replace").decode()


class _Told(msgspec.Struct):
    code: str
    details: dict[str, Any] = {}


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [part for each in level for part in _parts(each)]
    return any(isinstance(each, list | dict) for each in level)


def _parts(value: Any) -> Iterable[Any]:
    match value:
        case list():
            return value
        case dict():
            return value.values()
        case _:
            return ()
