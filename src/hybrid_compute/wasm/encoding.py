"""The binary format of modules, as far as one must read it here: its sections, and what stands in some of them.

Whoever reads a module so catches `UNREADABLE`, and takes it as it is: if anything is wrong with it, wasmtime says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

_MOST_SECTIONS, _DEEPEST = 20_000, 50
PREFIX = "hybrid_compute:"
"""What the names of our own exports begin with."""
TYPES, IMPORTS, FUNCTIONS, TABLES, MEMORIES, GLOBALS, EXPORTS, CODE = 1, 2, 3, 4, 5, 6, 7, 10
_ORDER = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)
"""How the sections of a module follow each other; 13 are the tags. Those with the number 0 stand anywhere."""
FUNCTION, TABLE, MEMORY, GLOBAL, TAG = range(5)
_NUMBERS = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}


class Unreadable(Exception):
    """It has something that is not known here."""


UNREADABLE = (Unreadable, IndexError, UnicodeDecodeError)
"""What reading a module raises that is none, or one with something new."""


class Endless(Unreadable):
    """It has more sections, or deeper ones, than any compiler makes: to go on reading would take too long."""


class Section(NamedTuple):
    """Its id, and where its head begins, its content begins, and its content ends."""

    id: int
    head: int
    start: int
    end: int


def sections(source: bytes, start: int = 0, end: int | None = None) -> Iterator[Section]:
    """Those of the module, or component, that begins and ends here. Raises `Unreadable`, `Endless` if that is why."""
    at = Reader(source, start + 8, len(source) if end is None else end)
    for _ in range(_MOST_SECTIONS):
        if at.position >= at.end:
            return
        head, id, size = at.position, at.byte(), at.number()
        if id and id not in _ORDER:
            raise Unreadable(f"a section {id}")
        yield Section(id, head, at.position, at.position + size)
        at.position += size
    raise Endless(f"more than {_MOST_SECTIONS:,} sections")


class Reader:
    """Reads the numbers and names of a section one after the other. Raises `IndexError` at its end."""

    def __init__(self, source: bytes, start: int, end: int) -> None:
        self.source = source
        self.position = start
        self.end = min(end, len(source))

    def byte(self) -> int:
        if self.position >= self.end:
            raise IndexError("it ends in the middle")
        self.position += 1
        return self.source[self.position - 1]

    def number(self) -> int:
        """An unsigned integer. Of a signed one it only finds the end."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Unreadable("a number of more than ten bytes")

    def count(self) -> int:
        """How many entries follow, none of which is shorter than a byte."""
        count = self.number()
        if count > self.end - self.position:
            raise Unreadable(f"{count:,} entries in {self.end - self.position:,} bytes")
        return count

    def name(self) -> str:
        size = self.number()
        self.position += size
        return self.source[self.position - size : self.position].decode()

    def skip(self, size: int) -> None:
        self.position += size


def count_of_functions(source: bytes, *, component: bool = False) -> int:
    """How many functions there are in a module, or in all modules of a component; 0 in what cannot be read.

    Raises `Endless`.
    """
    try:
        return _count(source, 0, len(source), component, _DEEPEST)
    except Endless:
        raise
    except UNREADABLE:
        return 0


def _count(source: bytes, start: int, end: int, component: bool, depth: int) -> int:
    if not depth:
        raise Endless(f"components within components, {_DEEPEST} deep")
    count = 0
    for id, _, first, last in sections(source, start, end):
        if component and id in (1, 4):  # a module, another component
            count += _count(source, first, last, id == 4, depth - 1)
        elif not component and id == FUNCTIONS:
            count += Reader(source, first, last).number()
    return count


# What stands in sections.


def imported(reader: Reader | None) -> tuple[list[int], dict[int, str]]:
    """How many of each kind are imported, and the mutable globals among them."""
    counts, mutable = [0] * 5, dict[int, str]()
    if reader is not None:
        for _ in range(reader.count()):
            reader.name()  # of the module
            reader.name()
            kind = reader.byte()
            if kind > TAG:
                raise Unreadable(f"an import of kind {kind}")
            type = _IMPORT[kind](reader)
            if type is not None:
                mutable[counts[GLOBAL]] = type
            counts[kind] += 1
    return counts, mutable


def value_type(reader: Reader) -> str:
    """The type of a value; all references are alike."""
    byte = reader.byte()
    if byte in (0x63, 0x64):
        reader.number()
    return _NUMBERS.get(byte, "ref")


def global_type(reader: Reader) -> str | None:
    """The type of a global, if it is mutable."""
    type = value_type(reader)
    return type if reader.byte() & 1 else None


def limits(reader: Reader) -> int | None:
    """How much there may be of it at most, if that is said."""
    flags = reader.byte()
    reader.number()
    most = reader.number() if flags & 1 else None
    if flags & 8:  # the size of its pages
        reader.number()
    return most


def _limits(reader: Reader) -> None:
    limits(reader)


def _table(reader: Reader) -> None:
    value_type(reader)
    limits(reader)


def _tag(reader: Reader) -> None:
    reader.byte()
    reader.number()


def _function(reader: Reader) -> None:
    reader.number()


_IMPORT: tuple[Callable[[Reader], str | None], ...] = (_function, _table, _limits, global_type, _tag)


# To write it again.


def with_more(source: bytes, more: Mapping[int, Sequence[bytes]]) -> bytes:
    """The module with more entries at the end of some of its sections, by their ids."""
    parts: list[tuple[int, bytes]] = []
    left = {id: list(entries) for id, entries in more.items() if entries}
    for id, head, start, end in sections(source):
        earlier = [each for each in left if id and _ORDER.index(each) < _ORDER.index(id)]
        parts += [(each, _vector(left.pop(each))) for each in sorted(earlier, key=_ORDER.index)]
        if id in left:
            reader = Reader(source, start, end)
            added = left.pop(id)
            parts.append((id, _vector(added, reader.number(), source[reader.position : end])))
        else:
            parts.append((-1, source[head:end]))
    parts += [(id, _vector(left[id])) for id in sorted(left, key=_ORDER.index)]
    return source[:8] + b"".join(content if id < 0 else section(id, content) for id, content in parts)


def _vector(added: Sequence[bytes], count: int = 0, before: bytes = b"") -> bytes:
    return leb(count + len(added)) + before + b"".join(added)


def section(id: int, content: bytes) -> bytes:
    return bytes([id]) + leb(len(content)) + content


def export(name: str, kind: int, index: int) -> bytes:
    encoded = name.encode()
    return leb(len(encoded)) + encoded + bytes([kind]) + leb(index)


def leb(value: int, width: int = 1) -> bytes:
    """An unsigned integer as the format has it, in so many bytes at least."""
    out = bytearray()
    while value > 0x7F or len(out) + 1 < width:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
