"""What the annotations of a kernel mean: five scalars, and arrays of them.

    annotation          in the kernel          elements in memory
    int, i64            64 bits, wraps         8 bytes
    i32                 32 bits, wraps         4
    u8                  only in arrays         1, read as an int, stored modulo 256
    float, f64          double                 8
    f32                 single                 4
    bool                True or False          -

For a type checker `i32` is `int` and `f32` is `float`; outside a kernel `i32(x)` and `f32(x)` round as a kernel does.
Who looks for the type of what to send finds `int` or `float` in `__supertype__`, as in a `NewType`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, get_args, get_origin

from hybrid_compute.hints import unaliased

T = TypeVar("T")

i64: TypeAlias = int
f64: TypeAlias = float

if TYPE_CHECKING:
    i32: TypeAlias = int
    u8: TypeAlias = int
    f32: TypeAlias = float
else:

    class i32(int):  # noqa: N801  # named as in every language that has it
        """An integer of 32 bits."""

        __supertype__ = int

        def __new__(cls, value=0):
            return (int(value) + 2**31) % 2**32 - 2**31

    class u8(int):  # noqa: N801
        """A byte: the elements of an array may be such."""

        __supertype__ = int

        def __new__(cls, value=0):
            return int(value) % 2**8

    class f32(float):  # noqa: N801
        """A number in single precision."""

        __supertype__ = float

        def __new__(cls, value=0.0):
            try:
                return struct.unpack("f", struct.pack("f", value))[0]
            except OverflowError:  # a number too large for it is infinite there
                return float("inf") if value > 0 else float("-inf")


class Array(Protocol[T]):
    """An array with one axis: of numpy, `array.array`, or anything else with a buffer of these elements."""

    def __getitem__(self, index: int, /) -> T: ...
    def __setitem__(self, index: int, value: T, /) -> None: ...
    def __len__(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class Array2(Protocol[T]):
    """An array with two axes, row by row: `a[i, j]`."""

    def __getitem__(self, index: tuple[int, int], /) -> T: ...
    def __setitem__(self, index: tuple[int, int], value: T, /) -> None: ...
    def __len__(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class Scalar(Enum):
    """The type of a value within a kernel. The value is how a reader of Python calls it."""

    BOOL = "bool"
    I32 = "i32"
    INT = "int"
    F32 = "f32"
    FLOAT = "float"

    @property
    def wasm(self) -> str:
        """The type that carries it there."""
        return {"bool": "i32", "i32": "i32", "int": "i64", "f32": "f32", "float": "f64"}[self.value]

    @property
    def bits(self) -> int:
        return int(self.wasm[1:])

    @property
    def is_float(self) -> bool:
        return self in (Scalar.F32, Scalar.FLOAT)

    @property
    def is_integer(self) -> bool:
        return self in (Scalar.I32, Scalar.INT)


@dataclass(frozen=True, slots=True)
class Element:
    """How a value lies in an array."""

    name: str
    scalar: Scalar
    shift: int
    """The logarithm of its size."""
    load: str
    store: str
    formats: str
    """The letters that the buffer protocol has for it."""

    @property
    def size(self) -> int:
        return 1 << self.shift


ELEMENTS: dict[Any, Element] = {
    u8: Element("u8", Scalar.INT, 0, "i64.load8_u", "i64.store8", "B"),
    i32: Element("i32", Scalar.I32, 2, "i32.load", "i32.store", "il" if struct.calcsize("l") == 4 else "i"),
    int: Element("int", Scalar.INT, 3, "i64.load", "i64.store", "ql" if struct.calcsize("l") == 8 else "q"),
    f32: Element("f32", Scalar.F32, 2, "f32.load", "f32.store", "f"),
    float: Element("float", Scalar.FLOAT, 3, "f64.load", "f64.store", "d"),
}

AXES: dict[Any, int] = {Array: 1, Array2: 2}
SCALARS: dict[Any, Scalar] = {bool: Scalar.BOOL, i32: Scalar.I32, int: Scalar.INT, f32: Scalar.F32, float: Scalar.FLOAT}


@dataclass(frozen=True, slots=True)
class ArrayType:
    """The type of an array parameter."""

    element: Element
    axes: int

    @property
    def value(self) -> str:
        return f"{'Array' if self.axes == 1 else 'Array2'}[{self.element.name}]"


Type: TypeAlias = Scalar | ArrayType


def read_annotation(annotation: Any) -> Type | None:
    """The type that an annotation stands for; None if it is none of a kernel."""
    annotation = unaliased(annotation)
    try:
        if annotation in SCALARS:
            return SCALARS[annotation]
    except TypeError:  # not hashable
        return None
    origin: Any = get_origin(annotation)
    elements = [unaliased(each) for each in get_args(annotation)]
    if origin in AXES and elements and elements[0] in ELEMENTS:
        return ArrayType(ELEMENTS[elements[0]], AXES[origin])
    return None
