"""Arguments and results of functions, which are more than JSON can say: the other side of `sandbox/values.py`."""

from __future__ import annotations

import base64
import datetime
import decimal
import pathlib
import uuid
from collections.abc import Callable, Collection
from typing import Any

TAG = "$"
"""The key of an object that stands for something else; `of` is what that is made of."""

_MADE: dict[str, Callable[[Any], object]] = {
    "bytes": base64.b64decode,
    "bytearray": lambda text: bytearray(base64.b64decode(text)),
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda parts: datetime.timedelta(*parts),
    "Decimal": decimal.Decimal,
    "UUID": uuid.UUID,
    "Path": pathlib.Path,
}


def untagged(found: dict[str, Any]) -> Any:
    """What an object of JSON stands for. What is in it has been looked at before."""
    return _MADE[found[TAG]](found["of"]) if TAG in found else found


def _duration(span: datetime.timedelta) -> str:
    sign, span = ("-", -span) if span.days < 0 else ("", span)
    return f"{sign}P{span.days}DT{span.seconds}.{span.microseconds:06}S"


_SAID: list[tuple[Any, Callable[[Any], object]]] = [
    ((bytes, bytearray), lambda value: base64.b64encode(value).decode()),
    ((set, frozenset), list),
    ((datetime.datetime, datetime.date, datetime.time), lambda value: value.isoformat()),
    (datetime.timedelta, _duration),
    ((decimal.Decimal, uuid.UUID, pathlib.PurePath), str),
]


def sayer(wanted: Collection[str]) -> Callable[[Any], object]:
    """What `json.dumps` asks about values that it cannot say, where the host expects those types by their hints."""

    def say(value: Any) -> object:
        for kinds, said in _SAID:
            if isinstance(value, kinds) and any(kind.__name__ in wanted for kind in type(value).__mro__):
                return said(value)
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    return say
