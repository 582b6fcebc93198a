"""Kinds of values that cross into a guest and back, and how.

WASM has numbers only. Everything else goes through the guest's memory, by a convention that C, Zig, Rust and
AssemblyScript can keep with a few lines (`docs/howto/run-a-plugin.md`):

    int, bool           i32 or i64, as the module has it
    float               f32 or f64
    str, bytes, array   two i32: where it begins, and how many bytes (of an array: elements) it has

The module exports its `memory` and `alloc(size: i32) -> i32`, which says where so many bytes may be written. It gives
back text, bytes or an array as two i32, or as one i64: where it begins in the upper half, how many in the lower.
"""

from __future__ import annotations

import ctypes
import operator
import typing
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import InvalidInput
from hybrid_compute.hints import bare

if TYPE_CHECKING:
    import numpy as np

LETTERS = {"i32": "i", "i64": "q", "f32": "f", "f64": "d"}
"""Of `struct`, for the types of WASM."""
BUFFER = ("i32", "i32")


class Number:
    """What WASM itself knows: an int, a bool or a float."""

    def __init__(self, type: type[int] | type[float] | type[bool]) -> None:
        self.type = type
        self.fitting = ("f32", "f64") if type is float else ("i32", "i64")

    def __str__(self) -> str:
        return self.type.__name__

    def of(self, value: Any) -> int | float | None:
        """The number that the value is; None if it is none of this kind.

        The short ways into a guest leave that to `struct`. So it is a number here what is one there: an int is what can
        be an index, as numpy's integers can, a float is what can be made one. No text can, and no float is an int.
        """
        if self.type is bool:
            return value if isinstance(value, bool) else None
        try:
            if self.type is int:
                return operator.index(value)
            return value if isinstance(value, int | float) else float(value) if _is_number(value) else None
        except Exception:  # of an object that only looks like a number
            return None


def _is_number(value: object) -> bool:
    return hasattr(type(value), "__float__") or hasattr(type(value), "__index__")


class Buffer(ABC):
    """What goes through the memory of the guest."""

    item = 1
    """Bytes of one element."""

    @abstractmethod
    def to_bytes(self, value: Any) -> bytes | memoryview | None:
        """What is to be written to the memory; None if it is no such value."""

    @abstractmethod
    def copied(self, address: int, size: int) -> Any:
        """The value that so many bytes at this address are: a copy of them, of our own."""


class Text(Buffer):
    def __str__(self) -> str:
        return "str"

    def to_bytes(self, value: Any) -> bytes | None:
        return value.encode() if isinstance(value, str) else None

    def copied(self, address: int, size: int) -> str:
        return ctypes.string_at(address, size).decode()


class Bytes(Buffer):
    def __str__(self) -> str:
        return "bytes"

    def to_bytes(self, value: Any) -> bytes | memoryview | None:
        return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None

    def copied(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)


class Array(Buffer):
    """An array of numpy of one dimension, of this type of element."""

    def __init__(self, dtype: Any) -> None:
        import numpy as np

        self.dtype: np.dtype[Any] = np.dtype(dtype).newbyteorder("<")
        self.item = self.dtype.itemsize
        if self.dtype.hasobject:
            raise TypeError(f"an array of {self.dtype} cannot be given to a guest: its elements are objects of Python")

    def __str__(self) -> str:
        return f"NDArray[{self.dtype}]"

    def to_bytes(self, value: Any) -> bytes | memoryview | None:
        import numpy as np

        if not isinstance(value, np.ndarray) or value.dtype != self.dtype:
            return None
        return np.ascontiguousarray(value).data.cast("B") if value.size else b""

    def copied(self, address: int, size: int) -> Any:
        import numpy as np

        array = np.empty(size // self.item, self.dtype)
        ctypes.memmove(array.ctypes.data, address, size)
        return array


Kind = Number | Buffer
NUMBERS = {"i32": Number(int), "i64": Number(int), "f32": Number(float), "f64": Number(float)}
_OF_HINTS: dict[Any, Kind] = {
    int: Number(int), bool: Number(bool), float: Number(float), str: Text(), bytes: Bytes()
}  # fmt: skip


def of_hint(hint: Any, where: str) -> Kind:
    """The kind that a type hint names. Raises `TypeError` for hints that name none."""
    meant = bare(hint)
    known = _OF_HINTS.get(meant)
    if known is not None:
        return known
    dtype = _element(meant)
    if dtype is not None:
        return Array(dtype)
    raise TypeError(
        f"{where} cannot be a {getattr(hint, '__name__', hint)}: a guest takes int, bool, float, str, bytes and "
        f"numpy.typing.NDArray[...]; for records see components"
    )


def _element(hint: Any) -> Any:
    """The type of an array's elements, if the hint is `NDArray[type]`."""
    if getattr(typing.get_origin(hint), "__name__", "") != "ndarray":
        return None
    _, element = typing.get_args(hint)
    dtypes = [bare(each) for each in typing.get_args(bare(element))]
    return dtypes[0] if dtypes and isinstance(dtypes[0], type) else None


def refuse(what: str, name: str, kind: Kind, value: object) -> InvalidInput:
    """An argument that is not of its kind."""
    text = repr(value)
    shown = text if len(text) <= 40 else text[:37] + "..."
    return InvalidInput(f"{what}: argument {name!r} must be {kind}, not {shown} of type {type(value).__name__}")
