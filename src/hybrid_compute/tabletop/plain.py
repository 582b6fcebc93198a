"""What the token actions take: plain JSON, so that a table can be kept, sent and compared anywhere."""

from __future__ import annotations

from math import isfinite
from typing import Any, Final, cast

from hybrid_compute.errors import InvalidInput
from hybrid_compute.tabletop.schema import check as check_fields

DEEPEST: Final = 200
"""Levels of lists and objects in a payload. What is nested much deeper cannot be copied."""

_ATOMS: Final = frozenset({str, int, bool, type(None)})


def check_payload(action: str, payload: Any) -> None:
    """Raises `InvalidInput` for what is no JSON object, or nested too deeply, or has other fields than the action."""
    if type(payload) is not dict:
        raise InvalidInput(f"the payload of a token action is an object, not {payload!r:.100}")
    check("payload", cast(Any, payload))
    check_fields(action, cast(Any, payload))


def check(what: str, value: Any) -> None:
    """Raises `InvalidInput` for what is no JSON, or nested too deeply; `what` is its name in the message."""
    if fault := _fault(value, DEEPEST):
        raise InvalidInput(what + (fault if len(fault) < 300 else f"[...]{fault[-200:]}"))


def _fault(value: Any, levels: int) -> str | None:
    """Where it is no JSON, and why; None if it is."""
    kind = type(value)
    if kind in _ATOMS:
        return None
    if kind is float:
        return None if isfinite(value) else f" is {value}, and no JSON number"
    if kind is not dict and kind is not list:
        return f" is of type {kind.__qualname__}, and no JSON"
    if levels == 0:
        return f": nested deeper than {DEEPEST} levels"
    for key, inside in value.items() if kind is dict else enumerate(value):
        if kind is dict and type(key) is not str:
            return f" has the key {key!r:.100}, and JSON has only texts as keys"
        if type(inside) not in _ATOMS and (fault := _fault(inside, levels - 1)):
            return f"[{key!r}]{fault}"
    return None
