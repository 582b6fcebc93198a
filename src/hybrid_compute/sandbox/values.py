"""Arguments and results of functions on their way through the wall: `guest/values.py` is the other side.

In go values, and arrive as they are: JSON, in which an object with the key `$` stands for what JSON has no word for.
Out comes plain JSON, which becomes what the function's hints say: nothing that it sends decides what is made of it.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import typing
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import msgspec

from hybrid_compute.errors import NotTransferable
from hybrid_compute.hints import bare
from hybrid_compute.schema import as_plain

_ATOMS = frozenset({str, int, float, bool, type(None)})


def tagged(value: Any) -> Any:
    """The value as JSON can say it. Raises `NotTransferable` for one that is nested without end.

    What neither JSON nor Python itself knows (a dataclass, an array) becomes what it is made of; what cannot, stays.
    """
    try:
        return _tagged(value)
    except RecursionError as error:
        raise NotTransferable("a value nested without end cannot be JSON") from error


def _tagged(value: Any) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is list:
        return _each(value)
    if isinstance(value, Mapping):
        return _object(value)  # pyright: ignore[reportUnknownArgumentType]
    for word, said in _WORDS.items():
        if isinstance(value, word):
            return {"$": _NAMES.get(word, word.__name__), "of": said(value)}
    try:
        parts = msgspec.to_builtins(value, builtin_types=_KEPT, enc_hook=as_plain)
    except (TypeError, ValueError, OverflowError):
        return value  # and who makes JSON of it says what is wrong
    return parts if type(parts) in _ATOMS or type(parts) is kind else _tagged(parts)


def _each(values: Any) -> list[Any]:
    found = list(values)
    return found if _ATOMS.issuperset(map(type, found)) else [_tagged(value) for value in found]


def _object(value: Mapping[Any, Any]) -> dict[str, Any]:
    if all(type(key) is str for key in value) and "$" not in value:
        return {key: _tagged(each) for key, each in value.items()}
    return {"$": "dict", "of": [[_tagged(key), _tagged(each)] for key, each in value.items()]}


def _base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


_WORDS: dict[type, Callable[[Any], Any]] = {
    bytes: _base64,
    bytearray: _base64,
    tuple: _each,
    set: _each,
    frozenset: _each,
    datetime.datetime: datetime.datetime.isoformat,  # before `date`, which it is too
    datetime.date: datetime.date.isoformat,
    datetime.time: datetime.time.isoformat,
    datetime.timedelta: lambda span: [span.days, span.seconds, span.microseconds],
    decimal.Decimal: str,
    uuid.UUID: str,
    PurePath: PurePath.as_posix,
}
"""What JSON has no word for: how it is said, beside the name of its type."""

_NAMES: dict[type, str] = {PurePath: "Path"}
_KEPT = tuple(word for word in _WORDS if word not in (tuple, set, frozenset, PurePath))
"""What msgspec is to leave to us."""


def types_in(hint: Any) -> Iterator[str]:
    """The names of the types that a hint speaks of: what may come out besides JSON."""
    hint = bare(hint)
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type) and origin is not object:  # which says nothing
        yield origin.__name__
        if issubclass(origin, typing.AbstractSet):
            yield from ("set", "frozenset")
    for each in typing.get_args(hint):
        yield from types_in(each)
