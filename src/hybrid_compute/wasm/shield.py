"""Functions of Python's that C calls, and out of which no exception gets lost, wherever it comes from.

CPython lets signals be handled at the first instruction of a function, before any `try` in it has begun: what the
handler raises, `KeyboardInterrupt` above all, leaves a function whose whole body is a `try`. Where C has called, nobody
catches it there, and Ctrl-C is a line on stderr and nothing else. `shielded` has the `try` begin with the function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

POSSIBLE = sys.implementation.name == "cpython" and (3, 11) <= sys.version_info[:2] <= (3, 14)
"""Whether the tables of exceptions are those that are known here. Tests end kernels by signals to make sure of it."""

_FIRST, _MORE = 0x80, 0x40


def shielded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose first `try` covers all that comes before it, too."""
    if POSSIBLE and isinstance(function, FunctionType):
        code = function.__code__
        function.__code__ = code.replace(co_exceptiontable=extended(code.co_exceptiontable))
    return function


def extended(table: bytes) -> bytes:
    """A table of exceptions with one more entry in front: from the beginning to where the first one begins.

    An entry is (start, length, target, depth), in numbers of six bits a byte. See InternalDocs/exception_handling.md in
    the sources of CPython.
    """
    numbers = _numbers(table)
    start, _, target, depth = (next(numbers) for _ in range(4))
    entry = b"".join(map(_packed, (0, start, target, depth)))
    return bytes([entry[0] | _FIRST]) + entry[1:] + table


def _numbers(table: bytes) -> Iterator[int]:
    number = 0
    for byte in table:
        number = number << 6 | byte & 0x3F
        if not byte & _MORE:
            yield number
            number = 0


def _packed(number: int) -> bytes:
    packed = [number & 0x3F]
    while number := number >> 6:
        packed.insert(0, number & 0x3F | _MORE)
    return bytes(packed)
