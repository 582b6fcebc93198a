"""Where numbers lie that a shader reads as one: vectors, matrices, structs.

The rules are those of https://www.w3.org/TR/WGSL/#alignment-and-size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybrid_compute.gpu.shapes import SIZES
from hybrid_compute.gpu.wgsl import Field

_ARRAY = re.compile(r"array<(.+?)(?:,(\d+))?>")
_NUMBERS = re.compile(r"(?:(?:mat([234])x|vec)([234])<|atomic<)?(f32|f16|i32|u32)>?")
_SHORT = re.compile(r"(mat[234]x[234]|vec[234])([fiuh])")
_SCALARS = {"f": "f32", "i": "i32", "u": "u32", "h": "f16"}

Structs = Mapping[str, Sequence[Field]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The bytes of a type, which begins at a multiple of `align`."""

    align: int
    size: int
    scalar: str = ""
    """What all its numbers are; an empty text where they may be of several kinds."""

    @property
    def stride(self) -> int:
        """The bytes from one to the next in an array."""
        return _up(self.size, self.align)

    @classmethod
    def of(cls, kind: str, structs: Structs) -> Layout | None:
        """That of a type; None for one that only the compiler knows, or that has no fixed size."""
        if kind in structs:
            return cls._of_struct(kind, structs)
        array, numbers = array_of(kind), numbers_of(kind)
        if array is not None:
            element, count = cls.of(array[0], structs), array[1]
            return cls(element.align, element.stride * count, element.scalar) if element and count else None
        if numbers is None:
            return None
        columns, rows, scalar = numbers
        align = SIZES[scalar] * (4 if rows == 3 else rows)
        return cls(align, SIZES[scalar] * rows if columns == 1 else align * columns, scalar)

    @classmethod
    def _of_struct(cls, name: str, structs: Structs) -> Layout | None:
        others = {each: fields for each, fields in structs.items() if each != name}
        end, largest = 0, 1
        for field in structs[name]:
            known = cls.of(field.type, others)
            if known is None or not all(text.isdecimal() for text in (field.align, field.size) if text):
                return None
            align = max(known.align, int(field.align or 0))
            end, largest = _up(end, align) + int(field.size or known.size), max(largest, align)
        return cls(largest, _up(end, largest))


def array_of(kind: str) -> tuple[str, int | None] | None:
    """What an array consists of, and how many there are if that is fixed; None if it is no array."""
    found = _ARRAY.fullmatch(kind)
    return (found[1], int(found[2]) if found[2] else None) if found is not None else None


def numbers_of(kind: str) -> tuple[int, int, str] | None:
    """The columns and rows of a matrix, and what its numbers are; a vector is one column, and a number a vector of one.

    None for anything else.
    """
    found = _NUMBERS.fullmatch(_SHORT.sub(lambda short: f"{short[1]}<{_SCALARS[short[2]]}>", kind))
    return (int(found[1] or 1), int(found[2] or 1), found[3]) if found is not None else None


def _up(nbytes: int, align: int) -> int:
    return -(-nbytes // align) * align
