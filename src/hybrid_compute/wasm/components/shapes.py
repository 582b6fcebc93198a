"""Values that cross into a component and back: what a type hint and a type of WIT say together.

    bool, int, float, str         bool; s8 to u64; f32, f64; string, char
    bytes                         list<u8>
    list[T], tuple[A, B]          list<t>, tuple<a, b>
    T | None                      option<t>
    a dataclass, a msgspec.Struct record: its fields have the same names, with - for _
    Literal["a", "b"], an Enum    enum: the values of the Enum are the names, with _ or -
    set[str]                      flags

A function of a component that gives `result<t, e>` has the hint of `t`; what it gives as `e` is raised.

`put` writes a value to a place of wasmtime's; `take` reads one. Each place is cleared before it is written to, so that
whatever is left behind after an error can be deleted.
"""

from __future__ import annotations

import ctypes
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from ctypes import byref
from itertools import repeat
from typing import Any, NoReturn

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm.components import api
from hybrid_compute.wasm.components.api import OFFSET, SIZE
from hybrid_compute.wasm.preview1.files import Allowance

Place = Any
"""A `wasmtime_component_val_t`."""


_CHAR, _STRING, _LIST, _U8 = map(api.kind, ("char", "string", "list", "u8"))


class Shape(ABC):
    """How values of one type cross."""

    name: str

    @abstractmethod
    def put(self, value: Any, place: Place, path: str) -> None:
        """Raises `InvalidInput` for a value that is of another type; `path` says which it is."""

    @abstractmethod
    def take(self, place: Place, allowance: Allowance) -> Any:
        """The value. Raises `LimitExceeded` if it is larger than may be."""

    def refuse(self, value: Any, path: str) -> NoReturn:
        text = repr(value)
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise InvalidInput(f"{path} must be {self.name}, not {shown} of type {type(value).__name__}")


class Scalar(Shape):
    """A bool, an int or a float."""

    def __init__(self, name: str, field: str, letter: str, type: type[bool] | type[int] | type[float]) -> None:
        self.name = name
        self.type = type
        self.kind = api.kind(name)
        self._field = field
        self._form = struct.Struct("<" + letter)
        padded = struct.Struct(f"<B{OFFSET - 1}x{letter}{SIZE - OFFSET - self._form.size}x")
        self.pack, self.unpack = padded.pack, padded.iter_unpack

    def fits(self, value: Any) -> bool:
        if self.type is bool or isinstance(value, bool):
            return self.type is bool and isinstance(value, bool)
        return isinstance(value, int | float if self.type is float else int)

    def put(self, value: Any, place: Place, path: str) -> None:
        if not self.fits(value):
            self.refuse(value, path)
        try:
            self._form.pack(value)  # which looks at the range, unlike ctypes
        except (struct.error, OverflowError):
            self.refuse(value, path)
        place.kind = self.kind
        setattr(place.of, self._field, value)

    def take(self, place: Place, allowance: Allowance) -> Any:
        return self.type(getattr(place.of, self._field))


class Char(Shape):
    name = "char"

    def put(self, value: Any, place: Place, path: str) -> None:
        if not isinstance(value, str) or len(value) != 1 or 0xD800 <= ord(value) < 0xE000:
            self.refuse(value, path)
        place.kind, place.of.character = _CHAR, ord(value)

    def take(self, place: Place, allowance: Allowance) -> str:
        return chr(place.of.character)


class Text(Shape):
    name = "string"

    def put(self, value: Any, place: Place, path: str) -> None:
        if not isinstance(value, str):
            self.refuse(value, path)
        try:
            put_text(place.of.string, value)
        except UnicodeEncodeError:
            self.refuse(value, path)
        place.kind = _STRING

    def take(self, place: Place, allowance: Allowance) -> str:
        allowance.take(place.of.string.size)
        return text(place.of.string)


class Octets(Shape):
    """A list of u8, as bytes. One by one they would take a microsecond each."""

    name = "list<u8>"

    def put(self, value: Any, place: Place, path: str) -> None:
        if not isinstance(value, bytes | bytearray | memoryview):
            self.refuse(value, path)
        data = bytes(value)
        values = bytearray(bytes([_U8]).ljust(SIZE, b"\0") * len(data))
        values[OFFSET::SIZE] = data
        make_list(place, len(data))
        ctypes.memmove(place.of.list.data, (ctypes.c_char * len(values)).from_buffer(values), len(values))

    def take(self, place: Place, allowance: Allowance) -> bytes:
        size = place.of.list.size
        allowance.take(size)
        return ctypes.string_at(place.of.list.data, size * SIZE)[OFFSET::SIZE] if size else b""


class Scalars(Shape):
    """A list of numbers, in one go."""

    def __init__(self, element: Scalar) -> None:
        self.name = f"list<{element.name}>"
        self._element = element

    def put(self, value: Any, place: Place, path: str) -> None:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            self.refuse(value, path)
        element = self._element
        for index, each in enumerate(value):
            if not element.fits(each):
                element.refuse(each, f"{path}[{index}]")
        try:
            values = b"".join(map(element.pack, repeat(element.kind), value))
        except (struct.error, OverflowError):
            self.refuse(value, path)
        make_list(place, len(value))
        ctypes.memmove(place.of.list.data, values, len(values))

    def take(self, place: Place, allowance: Allowance) -> list[Any]:
        size = place.of.list.size
        allowance.take(8 * size)
        data = ctypes.string_at(place.of.list.data, size * SIZE) if size else b""
        return [self._element.type(value) for _, value in self._element.unpack(data)]


def make_list(place: Place, size: int) -> None:
    api.list_new(byref(place.of.list), size)
    ctypes.memset(place.of.list.data, 0, size * SIZE)
    place.kind = _LIST


def put_text(place: Any, value: str) -> None:
    data = value.encode()
    api.bytes_new(byref(place), len(data), api.octets(data))


def text(place: Any) -> str:
    return ctypes.string_at(place.data, place.size).decode() if place.size else ""
