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

# What wasmtime keeps to itself is used here.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import ctypes
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from ctypes import byref
from itertools import repeat
from typing import Any, NoReturn

from wasmtime import _ffi as c

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm.files import Allowance
from hybrid_compute.wasm.trap import GuestError

Place = Any
"""A `wasmtime_component_val_t`."""
SIZE = ctypes.sizeof(c.wasmtime_component_val_t)
OFFSET: int = c.wasmtime_component_val_t.of.offset


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
        self.kind: int = getattr(c, f"WASMTIME_COMPONENT_{name.upper()}").value
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
        place.kind, place.of.character = c.WASMTIME_COMPONENT_CHAR.value, ord(value)

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
        place.kind = c.WASMTIME_COMPONENT_STRING.value

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
        values = bytearray(bytes([c.WASMTIME_COMPONENT_U8.value]).ljust(SIZE, b"\0") * len(data))
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


class Listed(Shape):
    def __init__(self, element: Shape) -> None:
        self.name = f"list<{element.name}>"
        self._element = element

    def put(self, value: Any, place: Place, path: str) -> None:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            self.refuse(value, path)
        make_list(place, len(value))
        for index, each in enumerate(value):
            self._element.put(each, place.of.list.data[index], f"{path}[{index}]")

    def take(self, place: Place, allowance: Allowance) -> list[Any]:
        size = place.of.list.size
        allowance.take(8 * size)
        return [self._element.take(place.of.list.data[index], allowance) for index in range(size)]


class Tupled(Shape):
    def __init__(self, elements: Sequence[Shape]) -> None:
        self.name = f"tuple<{', '.join(each.name for each in elements)}>"
        self._elements = elements

    def put(self, value: Any, place: Place, path: str) -> None:
        if not isinstance(value, tuple) or len(value) != len(self._elements):
            self.refuse(value, path)
        c.wasmtime_component_valtuple_new_uninit(byref(place.of.tuple), len(value))
        ctypes.memset(place.of.tuple.data, 0, len(value) * SIZE)
        place.kind = c.WASMTIME_COMPONENT_TUPLE.value
        for index, (shape, each) in enumerate(zip(self._elements, value, strict=True)):
            shape.put(each, place.of.tuple.data[index], f"{path}[{index}]")

    def take(self, place: Place, allowance: Allowance) -> tuple[Any, ...]:
        return tuple(shape.take(place.of.tuple.data[index], allowance) for index, shape in enumerate(self._elements))


class Recorded(Shape):
    """A record, as an object with attributes. `fields` are in the order of WIT: its name there, ours, its shape."""

    def __init__(self, type: Callable[..., Any], name: str, fields: Sequence[tuple[str, str, Shape]]) -> None:
        self.name = name
        self._type = type
        self._fields = fields

    def put(self, value: Any, place: Place, path: str) -> None:
        if not isinstance(value, self._type):  # type: ignore[arg-type]
            self.refuse(value, path)
        record, size = place.of.record, len(self._fields)
        c.wasmtime_component_valrecord_new_uninit(byref(record), size)
        ctypes.memset(record.data, 0, size * ctypes.sizeof(c.wasmtime_component_valrecord_entry_t))
        place.kind = c.WASMTIME_COMPONENT_RECORD.value
        for index, (theirs, ours, shape) in enumerate(self._fields):
            put_text(record.data[index].name, theirs)
            shape.put(getattr(value, ours), record.data[index].val, f"{path}.{ours}")

    def take(self, place: Place, allowance: Allowance) -> Any:
        entries = place.of.record.data
        return self._type(
            **{ours: shape.take(entries[index].val, allowance) for index, (_, ours, shape) in enumerate(self._fields)}
        )


class Chosen(Shape):
    """An enum: its names, and what stands for them here."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.name = f"one of {', '.join(map(repr, values.values()))}"
        self._values = values
        self._names = {value: name for name, value in values.items()}

    def put(self, value: Any, place: Place, path: str) -> None:
        try:
            name = self._names[value]
        except (KeyError, TypeError):
            self.refuse(value, path)
        put_text(place.of.enumeration, name)
        place.kind = c.WASMTIME_COMPONENT_ENUM.value

    def take(self, place: Place, allowance: Allowance) -> Any:
        return self._values[text(place.of.enumeration)]


class Flags(Shape):
    def __init__(self, names: Sequence[str]) -> None:
        self.name = f"a set of some of {', '.join(map(repr, names))}"
        self._known = frozenset(names)

    def put(self, value: Any, place: Place, path: str) -> None:
        if not isinstance(value, set | frozenset) or not value <= self._known:
            self.refuse(value, path)
        flags = place.of.flags
        c.wasmtime_component_valflags_new_uninit(byref(flags), len(value))
        ctypes.memset(flags.data, 0, len(value) * ctypes.sizeof(c.wasm_name_t))
        place.kind = c.WASMTIME_COMPONENT_FLAGS.value
        for index, each in enumerate(sorted(value)):
            put_text(flags.data[index], each)

    def take(self, place: Place, allowance: Allowance) -> set[str]:
        return {text(place.of.flags.data[index]) for index in range(place.of.flags.size)}


class Optional(Shape):
    def __init__(self, some: Shape) -> None:
        self.name = f"option<{some.name}>"
        self._some = some

    def put(self, value: Any, place: Place, path: str) -> None:
        place.kind = c.WASMTIME_COMPONENT_OPTION.value
        if value is not None:
            place.of.option = boxed()
            self._some.put(value, place.of.option.contents, path)

    def take(self, place: Place, allowance: Allowance) -> Any:
        return self._some.take(place.of.option.contents, allowance) if place.of.option else None


class Outcome(Shape):
    """What a function gives as `result<ok, error>`."""

    def __init__(self, ok: Shape | None, error: Shape | None) -> None:
        self.name = f"result<{ok.name if ok else '_'}, {error.name if error else '_'}>"
        self._ok = ok
        self._error = error

    def put(self, value: Any, place: Place, path: str) -> None:
        """The error is given as the `GuestError` that a function of the host has raised."""
        failed = isinstance(value, GuestError)
        shape, value = (self._error, value.value) if failed else (self._ok, value)
        if shape is None and value is not None:
            self.refuse(value, path)
        place.kind, place.of.result.is_ok = c.WASMTIME_COMPONENT_RESULT.value, not failed
        if shape is not None:
            place.of.result.val = boxed()
            shape.put(value, place.of.result.val.contents, path)

    def take(self, place: Place, allowance: Allowance) -> Any:
        result = place.of.result
        shape = self._ok if result.is_ok else self._error
        value = shape.take(result.val.contents, allowance) if shape is not None else None
        if not result.is_ok:
            raise GuestError(value)
        return value


def boxed() -> Any:
    """A place of its own, cleared, which is deleted with that which points to it."""
    return c.wasmtime_component_val_new(byref(c.wasmtime_component_val_t()))


def make_list(place: Place, size: int) -> None:
    c.wasmtime_component_vallist_new_uninit(byref(place.of.list), size)
    ctypes.memset(place.of.list.data, 0, size * SIZE)
    place.kind = c.WASMTIME_COMPONENT_LIST.value


def put_text(place: Any, value: str) -> None:
    data = value.encode()
    c.wasm_byte_vec_new(byref(place), len(data), (c.wasm_byte_t * len(data)).from_buffer_copy(data))


def text(place: Any) -> str:
    return ctypes.string_at(place.data, place.size).decode() if place.size else ""
