"""What a kernel is called with, checked: numbers go into the slots of an instance, arrays are views of their memory."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from hybrid_compute.kernels.source import KernelError
from hybrid_compute.kernels.tree import Function
from hybrid_compute.kernels.types import ArrayType, Scalar

_LETTERS = {Scalar.BOOL: "?15x", Scalar.I32: "i12x", Scalar.INT: "q8x", Scalar.F32: "f12x", Scalar.FLOAT: "d8x"}


class Signature:
    """The parameters of one kernel."""

    def __init__(self, function: Function) -> None:
        self.name = function.name
        self.parameters = list(function.parameters.items())
        self.written = function.written
        self.arrays = [
            (place, name, type) for place, (name, type) in enumerate(self.parameters) if isinstance(type, ArrayType)
        ]
        self.stores = [name in function.written for _, name, _ in self.arrays]
        letters = [
            "I12x" + "q8x" * type.axes if isinstance(type, ArrayType) else _LETTERS[type] for _, type in self.parameters
        ]
        self._struct = struct.Struct("=" + "".join(letters))
        widths = [1 + type.axes if isinstance(type, ArrayType) else 1 for _, type in self.parameters]
        self.slots = sum(widths)
        self._bools = [sum(widths[:n]) for n, (_, type) in enumerate(self.parameters) if type is Scalar.BOOL]
        self._result = None if function.result is None else struct.Struct("=" + _LETTERS[function.result][0])

    def bind(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments by position."""
        rest = [name for name, _ in self.parameters[len(arguments) :]]
        if len(arguments) + len(named) != len(self.parameters) or any(name not in named for name in rest):
            wanted = ", ".join(name for name, _ in self.parameters)
            given = ", ".join([*("..." for _ in arguments), *named])
            raise TypeError(f"{self.name} takes ({wanted}), and was given ({given})")
        return (*arguments, *(named[name] for name in rest))

    def pack(self, slots: Any, values: Sequence[Any]) -> None:
        """Write them where the kernel looks for them."""
        try:
            self._struct.pack_into(slots, 0, *values)
        except (struct.error, OverflowError, TypeError) as error:
            raise self._misfit(values) or KernelError(f"{self.name}: {error}") from None
        if self._bools and not all(_is_bool(values[place]) for place in self._bools):  # struct takes anything for one
            raise self._misfit(values) or AssertionError(values)

    def typed(self, values: Sequence[Any]) -> list[Any]:
        """The values as the kernel has them: a number of numpy's is one of Python's, and an f32 is rounded."""
        slots = bytearray(self._struct.size)
        self.pack(slots, values)
        return list(self._struct.unpack(slots))

    def result(self, slots: Any) -> Any:
        return None if self._result is None else self._result.unpack_from(slots)[0]

    def check(self, arguments: tuple[Any, ...]) -> None:
        """Raise what a call with these would raise, without calling."""
        if len(arguments) != len(self.parameters):
            self.bind(arguments, {})
        self.views(arguments)
        if (misfit := self._misfit(arguments)) is not None:
            raise misfit

    def _misfit(self, values: Sequence[Any]) -> KernelError | None:
        """The error for the first value that does not fit. Arrays stand for several values, or for themselves."""
        place = 0
        spread = len(values) == self.slots
        for name, type in self.parameters:
            if isinstance(type, ArrayType):
                place += 1 + type.axes if spread else 1
                continue
            if not _fits(values[place], type):
                return KernelError(f"{self.name}: {name} is of type {type.value}, which {values[place]!r} is not")
            place += 1
        return None

    # Arrays.

    def views(self, arguments: Sequence[Any]) -> list[memoryview]:
        """The memory of each array, if it is one of the right type."""
        return [self._view(arguments[place], name, type) for place, name, type in self.arrays]

    def spread(self, arguments: Sequence[Any], offsets: Sequence[int], views: list[memoryview]) -> Iterator[Any]:
        """The arguments as the kernel has them: for an array where it begins, and its lengths."""
        arrays = iter(zip(offsets, views, strict=True))
        for value, (_, type) in zip(arguments, self.parameters, strict=True):
            if isinstance(type, ArrayType):
                offset, view = next(arrays)
                yield offset
                yield from view.shape or ()
            else:
                yield value

    def _view(self, value: Any, name: str, type: ArrayType) -> memoryview:
        try:
            view = memoryview(value)
        except TypeError:
            raise KernelError(
                f"{self.name}: {name} is an {type.value}, and not a {value.__class__.__name__}: "
                f"an array of numpy will do, or of the module array"
            ) from None
        element = type.element
        if view.format.lstrip("@=<") not in element.formats or view.itemsize != element.size or view.format[0] == ">":
            raise KernelError(
                f"{self.name}: {name} is an {type.value}, and was given elements of type {str_of(value, view)}"
            )
        if view.ndim != type.axes:
            raise KernelError(f"{self.name}: {name} is an {type.value}, and was given an array with {view.ndim} axes")
        if not view.c_contiguous:
            raise KernelError(f"{self.name}: {name} does not lie in one piece: give it a copy of this slice")
        if view.readonly and name in self.written:
            raise KernelError(f"{self.name}: {name} can only be read, and this kernel stores into it")
        return view


def _fits(value: Any, type: Scalar) -> bool:
    if type is Scalar.BOOL:
        return _is_bool(value)
    try:
        struct.pack("=" + _LETTERS[type], value)
    except (struct.error, OverflowError, TypeError):
        return False
    return True


def _is_bool(value: Any) -> bool:
    """One of Python's or of numpy's."""
    numpy = sys.modules.get("numpy")
    return isinstance(value, bool) or (numpy is not None and isinstance(value, numpy.bool_))


def str_of(value: Any, view: memoryview) -> str:
    """What the elements are called by their owner."""
    return str(getattr(value, "dtype", repr(view.format)))
