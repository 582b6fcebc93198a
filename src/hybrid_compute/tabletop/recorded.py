"""Recorded values: what their placeholders stand for, where another value differs from them, and their digests.

"$id:3"            an id; the same number is the same id, another number another one
"$ts"              a time that has been
{"$dur": 10}       a duration
{"$action": type}  an action of that type
{"$error": text}   an error with that text; any error if it is null
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, TypeAlias

from hybrid_compute.tabletop.numbers import is_number

Json: TypeAlias = Any
Document: TypeAlias = dict[str, Json]


class Clock:
    """The time as it was for the recorder: 10 ms later with every step."""

    start = 1_700_000_000_000

    def __init__(self) -> None:
        self.now = self.start

    def __call__(self) -> int:
        return self.now

    def tick(self) -> None:
        self.now += 10

    def has_been(self, time: Json) -> bool:
        return isinstance(time, int | float) and self.start <= time <= self.now


class Seen:
    """The ids that were seen so far, by their placeholders, and the times that there have been."""

    def __init__(self, clock: Clock) -> None:
        self.ids: dict[str, str] = {}
        self.clock = clock

    def is_id(self, name: str, came: Json) -> bool:
        """Whether it is the id of this name; the first one that comes is, if it has no other name."""
        if name not in self.ids and isinstance(came, str) and came not in self.ids.values():
            self.ids[name] = came
        return name in self.ids and bool(self.ids[name] == came)


def differs(expected: Json, came: Json, seen: Seen, where: str) -> str | None:
    """The first place below `where` at which two values are not the same, in words; None if there is none."""
    match expected:
        case {"$error": message}:
            same = message in (None, came)
        case {"$action": name}:
            same = isinstance(came, dict) and came.get("type") == name
        case {"$dur": duration}:
            same = came == duration
        case "$ts":
            same = seen.clock.has_been(came)
        case str() if expected.startswith("$id:"):
            same = seen.is_id(expected, came)
        case dict() if isinstance(came, dict) and expected.keys() == came.keys():
            return _first(differs(value, came[key], seen, f"{where}.{key}") for key, value in expected.items())
        case list() if isinstance(came, list) and len(expected) == len(came):
            pairs = enumerate(zip(expected, came, strict=True))
            return _first(differs(value, other, seen, f"{where}[{index}]") for index, (value, other) in pairs)
        case bool() | None | str():
            same = type(expected) is type(came) and expected == came
        case int() | float():
            same = _same_number(expected, came)
        case _:
            same = False
    return None if same else f"{where}: expected {short(expected)}, came {short(came)}"


def _same_number(expected: float, came: Json) -> bool:
    return is_number(came) and (expected == came or math.isclose(expected, came, rel_tol=0, abs_tol=1e-9))


def _first(differences: Iterator[str | None]) -> str | None:
    return next(filter(None, differences), None)


def short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 120 else f"{text[:117]}..."


def digest(document: Document, seen: Seen) -> str:
    """SHA-256 of the document, in which ids and times, which are never the same, are named as in the vectors."""
    names = {came: name for name, came in seen.ids.items()}
    return sha256(canonical(_named(document, names, seen.clock)).encode()).hexdigest()


def _named(value: Json, names: dict[str, str], clock: Clock) -> Json:
    match value:
        case dict():
            named = {key: _named(inside, names, clock) for key, inside in value.items()}
            return {**named, "totalPauseDuration": "$dur"} if "totalPauseDuration" in named else named
        case list():
            return [_named(inside, names, clock) for inside in value]
        case str():
            return names.get(value, value)
        case _:
            return "$ts" if clock.has_been(value) else value


def canonical(value: Json) -> str:
    """JSON in one form only: keys in order, no spaces, numbers to six digits."""
    match value:
        case dict():
            return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(canonical, value)) + "]"
        case float() if not math.isfinite(value):
            return "null"
        case float():
            digits = f"{value:.6f}".rstrip("0").rstrip(".")
            return "0" if digits == "-0" else digits
        case _:
            return json.dumps(value, ensure_ascii=False)
