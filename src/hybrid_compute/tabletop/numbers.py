"""Numbers of a JSON document: 2.0 is 2, true is no number, and messages print them as JavaScript does."""

from __future__ import annotations

from decimal import Decimal
from math import isinf, isnan
from typing import Any

from hybrid_compute.errors import ActionFailed


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(value: object) -> int | None:
    """The integer that `value` is; None if it is none."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def positive(operation: str, value: Any) -> int:
    """How many tokens to draw or to burn. Raises `ActionFailed`."""
    count = whole(value)
    if count is None or count < 1:
        raise ActionFailed(f"Invalid {operation} count: {shown(value)}. Must be a positive integer.")
    return count


def shown(value: Any) -> str:
    """`value` in the words of a message: `null`, `true`, `1.5`, `NaN`, a text as it is."""
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return _printed(value)
        case _:
            return "a list" if isinstance(value, list) else "an object"


def _printed(number: float) -> str:
    """The shortest digits that mean this number; with an exponent only below 1e-6 and from 1e21 on."""
    if isinstance(number, int) and abs(number) <= 2**53:
        return str(number)
    try:
        number = float(number)
    except OverflowError:
        return "Infinity" if number > 0 else "-Infinity"
    if isnan(number):
        return "NaN"
    if isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    digits = repr(number)
    if 1e-6 <= abs(number) < 1e21:
        return f"{Decimal(digits):f}".removesuffix(".0")
    return digits.replace("e-0", "e-")
