"""What the actions ask of a payload, and how they refuse what does not fit."""

from __future__ import annotations

from typing import Any, cast

from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.numbers import is_number, shown
from hybrid_compute.tabletop.table import Payload

MOST = 1e100
"""No number given to an action is greater: sums and products of such numbers stay finite, so they can be stored."""


def text(payload: Payload, field: str) -> str:
    """A field that must be there, and say something."""
    value = payload.get(field)
    if isinstance(value, str) and value:
        return value
    if not value:
        raise ActionFailed(f"{field} required")
    raise ActionFailed(f"{field} must be a string, not {shown(value)}")


def number(value: Any, what: str, *, least: float = -MOST) -> float:
    """A number within bounds. Neither true nor "3" is one."""
    if is_number(value) and least <= value <= MOST:
        return cast(float, value)
    raise ActionFailed(f"{what} must be a number from {least:g} to {MOST:g}, not {shown(value)}")


def flag(value: Any, what: str) -> bool:
    """True or False itself: 0 and "yes" are neither."""
    if isinstance(value, bool):
        return value
    raise ActionFailed(f"{what} must be true or false, not {shown(value)}")
