"""What a kernel is called with: checked, and put where it looks for it.

Arrays that lie in the kernels' memory are used where they are. Others are copied in before the call, and those that the
kernel stores into are copied back, whether it succeeds or not. Arrays that share memory share their copy too.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from hybrid_compute.kernels.memory import Memory
from hybrid_compute.kernels.source import KernelError
from hybrid_compute.kernels.tree import Function
from hybrid_compute.kernels.types import ArrayType, Scalar

_LETTERS = {Scalar.BOOL: "?15x", Scalar.I32: "i12x", Scalar.INT: "q8x", Scalar.F32: "f12x", Scalar.FLOAT: "d8x"}
_ALIGNED = 64


class Block(NamedTuple):
    """The bytes of an array."""

    address: int
    size: int
    written: bool


class _PyBuffer(ctypes.Structure):
    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("rest", ctypes.c_char * 128),
    )


class Signature:
    """The parameters of one kernel."""

    def __init__(self, function: Function) -> None:
        self.name = function.name
        self.parameters = list(function.parameters.items())
        self.written = function.written
        self.arrays = [
            (place, name, type) for place, (name, type) in enumerate(self.parameters) if isinstance(type, ArrayType)
        ]
        letters = [
            "I12x" + "q8x" * type.axes if isinstance(type, ArrayType) else _LETTERS[type] for _, type in self.parameters
        ]
        self._struct = struct.Struct("=" + "".join(letters))
        self.slots = sum(1 + type.axes if isinstance(type, ArrayType) else 1 for _, type in self.parameters)
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

    def result(self, slots: Any) -> Any:
        return None if self._result is None else self._result.unpack_from(slots)[0]

    def check(self, arguments: tuple[Any, ...]) -> None:
        """Raise what a call with these would raise, without calling."""
        if len(arguments) != len(self.parameters):
            self.bind(arguments, {})
        views = self.views(arguments)
        numbers = [each for each, (_, type) in zip(arguments, self.parameters, strict=True) if isinstance(type, Scalar)]
        scalars = struct.Struct(
            "=" + "".join(_LETTERS[type] for _, type in self.parameters if isinstance(type, Scalar))
        )
        del views
        try:
            scalars.pack(*numbers)
        except (struct.error, OverflowError, TypeError) as error:
            raise self._misfit(arguments) or KernelError(f"{self.name}: {error}") from None

    def _misfit(self, values: Sequence[Any]) -> KernelError | None:
        """The error for the first value that does not fit. Arrays stand for several values, or for themselves."""
        place = 0
        spread = len(values) == self.slots
        for name, type in self.parameters:
            if isinstance(type, ArrayType):
                place += 1 + type.axes if spread else 1
                continue
            try:
                struct.pack("=" + _LETTERS[type], values[place])
            except (struct.error, OverflowError, TypeError):
                return KernelError(f"{self.name}: {name} is of type {type.value}, which {values[place]!r} is not")
            place += 1
        return None

    # Arrays.

    def views(self, arguments: Sequence[Any]) -> list[memoryview]:
        """The memory of each array, if it is one of the right type."""
        return [self._view(arguments[place], name, type) for place, name, type in self.arrays]

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


class Visit:
    """Arrays, while they are in the memory of kernels."""

    def __init__(self, signature: Signature, memory: Memory, views: list[memoryview]) -> None:
        self._memory = memory
        self._region: int | None = None
        self._back: list[tuple[int, int, int]] = []
        """(to, from, size), in addresses."""
        blocks = [
            Block(address_of(view), view.nbytes, name in signature.written)
            for view, (_, name, _) in zip(views, signature.arrays, strict=True)
        ]
        found = [memory.find(block.address, block.size) if block.size else 0 for block in blocks]
        away = [block for block, offset in zip(blocks, found, strict=True) if offset is None]
        moved = self._move(away) if away else {}
        self.offsets = [moved[block] if offset is None else offset for block, offset in zip(blocks, found, strict=True)]

    def _move(self, blocks: list[Block]) -> dict[Block, int]:
        """Copy them in; where they are then."""
        pieces = union(blocks)
        self._region = start = self._memory.allocate(sum(padded(size) for _, size in pieces))
        base, moved = self._memory.base, {}
        for address, size in pieces:
            ctypes.memmove(base + start, address, size)
            for block in blocks:
                if address <= block.address < address + size:
                    moved[block] = start + block.address - address
                    if block.written:
                        self._back.append((block.address, base + moved[block], block.size))
            start += padded(size)
        return moved

    def end(self) -> None:
        """Copy back what was written, and make room."""
        for to, start, size in self._back:
            ctypes.memmove(to, start, size)
        if self._region is not None:
            self._memory.release(self._region)


def padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def union(blocks: list[Block]) -> list[tuple[int, int]]:
    """The pieces of memory, address and size, in which all these lie, without any overlap."""
    pieces: list[tuple[int, int]] = []
    for address, size, _ in sorted(blocks):
        if pieces and address < sum(pieces[-1]):
            start = pieces[-1][0]
            pieces[-1] = start, max(sum(pieces[-1]), address + size) - start
        else:
            pieces.append((address, size))
    return pieces


def address_of(view: memoryview) -> int:
    """Where in this process the memory of a view begins."""
    if not view.nbytes:
        return 0
    if not view.readonly:
        return ctypes.addressof(ctypes.c_char.from_buffer(view))
    buffer = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    try:
        return int(buffer.buf or 0)
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


def str_of(value: Any, view: memoryview) -> str:
    """What the elements are called by their owner."""
    return str(getattr(value, "dtype", repr(view.format)))
