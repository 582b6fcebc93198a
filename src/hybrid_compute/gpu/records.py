"""The bytes of a uniform: a struct of WGSL, filled from numbers by name.

Where each member lies follows from the same rules as in `layouts.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.errors import InvalidShader
from hybrid_compute.gpu.layouts import numbers_of
from hybrid_compute.gpu.wgsl import Field

_SCALARS = {"f32": ("f", 4), "i32": ("i", 4), "u32": ("I", 4), "f16": ("e", 2)}


@dataclass(frozen=True, slots=True)
class Member:
    """One member: where it lies, and how it is packed."""

    name: str
    type: str
    offset: int
    count: int
    format: str


@dataclass(frozen=True, slots=True)
class Record:
    """A struct that is sent as a uniform."""

    name: str
    members: tuple[Member, ...]
    size: int

    @classmethod
    def of(cls, name: str, fields: Sequence[Field]) -> Record:
        """The layout of a struct with these members. Raises `InvalidShader` for types that are not numbers."""
        members: list[Member] = []
        end = largest = 0
        for field in fields:
            count, scalar = _parts(name, field)
            code, width = _SCALARS[scalar]
            alignment, size = _room(name, field, width * (4 if count == 3 else count), width * count)
            offset = -(-end // alignment) * alignment
            members.append(Member(field.name, field.type, offset, count, f"<{count}{code}"))
            end, largest = offset + size, max(largest, alignment)
        alignment = max(largest, 16)
        return cls(name, tuple(members), -(-end // alignment) * alignment)

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """The bytes for these values. Raises `InvalidInput` for what does not fit its member."""
        packed = bytearray(self.size)
        for member in self.members:
            value = values[member.name]
            try:
                struct.pack_into(member.format, packed, member.offset, *(value if member.count > 1 else (value,)))
            except (struct.error, TypeError, OverflowError) as error:
                raise InvalidInput(f"{member.name} is a {member.type}, and {value!r} is none ({error})") from None
        return bytes(packed)


def _room(record: str, field: Field, alignment: int, size: int) -> tuple[int, int]:
    """The alignment and the bytes of a member: those of its type, or what is said with it."""
    where = f"{record}.{field.name}"
    for text in (field.align, field.size):
        if text and not text.isdigit():
            raise InvalidShader(
                f"line {field.line}: {where}: {text} is not understood: it may have whole numbers, consts of the "
                f"module, + - * / % and brackets",
                line=field.line,
            )
    said, bytes_said = int(field.align or alignment), int(field.size or size)
    if said < alignment or said & (said - 1):
        raise InvalidShader(f"{where}: @align({said}) must be a power of two, and a {field.type} needs {alignment}")
    if bytes_said < size:
        raise InvalidShader(f"{where}: @size({bytes_said}) is too little: a {field.type} has {size} bytes")
    return said, bytes_said


def _parts(record: str, field: Field) -> tuple[int, str]:
    """How many numbers, and of which kind."""
    found = numbers_of(field.type)
    if found is None or found[0] > 1:
        raise InvalidShader(f"{record}.{field.name} is a {field.type}: a uniform may have numbers, and vectors of them")
    _, rows, scalar = found
    return rows, scalar
