"""Values that cross into a component and back, and are made of others: lists, tuples, records, options, results."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import byref
from typing import Any

from hybrid_compute.wasm.components import api
from hybrid_compute.wasm.components.api import SIZE
from hybrid_compute.wasm.components.shapes import Place, Shape, make_list, put_text, text
from hybrid_compute.wasm.preview1.files import Allowance
from hybrid_compute.wasm.trap import GuestError

_TUPLE, _RECORD, _ENUM, _FLAGS, _OPTION, _RESULT = map(
    api.kind, ("tuple", "record", "enum", "flags", "option", "result")
)


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
        api.tuple_new(byref(place.of.tuple), len(value))
        ctypes.memset(place.of.tuple.data, 0, len(value) * SIZE)
        place.kind = _TUPLE
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
        api.record_new(byref(record), size)
        ctypes.memset(record.data, 0, size * ctypes.sizeof(api.Entry))
        place.kind = _RECORD
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
        place.kind = _ENUM

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
        api.flags_new(byref(flags), len(value))
        ctypes.memset(flags.data, 0, len(value) * ctypes.sizeof(api.Name))
        place.kind = _FLAGS
        for index, each in enumerate(sorted(value)):
            put_text(flags.data[index], each)

    def take(self, place: Place, allowance: Allowance) -> set[str]:
        return {text(place.of.flags.data[index]) for index in range(place.of.flags.size)}


class Optional(Shape):
    def __init__(self, some: Shape) -> None:
        self.name = f"option<{some.name}>"
        self._some = some

    def put(self, value: Any, place: Place, path: str) -> None:
        place.kind = _OPTION
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
        place.kind, place.of.result.is_ok = _RESULT, not failed
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
    return api.val_new(byref(api.Value()))
