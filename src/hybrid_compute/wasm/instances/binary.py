"""The binary format of modules, as far as one must read it to have all state of a module exported.

A module may keep a global to itself, and then nobody can say what is in it. `exposed` gives the module again with an
export for each memory and each mutable global that has none. Code is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from hybrid_compute.errors import InvalidInput

PREFIX = "hybrid_compute:"
"""What the names of our own exports begin with."""
_IMPORTS, _MEMORIES, _GLOBALS, _EXPORTS = 2, 5, 6, 7
_FUNCTION, _TABLE, _MEMORY, _GLOBAL, _TAG = range(5)
_EARLIER = frozenset({0, 1, 2, 3, 4, 5, 6, 13})
"""Sections that may stand before the exports; 0 is anything, 13 the tags."""
_NUMBERS = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}
_SIZED = {0x43: 4, 0x44: 8}
_ARITHMETIC = frozenset({0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E})


class State(NamedTuple):
    """What there is to a module's state: the names of its memories, the names and types of its mutable globals."""

    memories: tuple[str, ...]
    globals: tuple[tuple[str, str], ...]
    obstacle: str | None = None
    """Why there is more, which cannot be captured."""


class Exposed(NamedTuple):
    source: bytes
    state: State


@lru_cache(maxsize=32)
def exposed(source: bytes) -> Exposed:
    """The module with all its state exported. One that cannot be read so is given as it is, with the obstacle."""
    try:
        return _exposed(source)
    except (
        _Unreadable,
        IndexError,
        UnicodeDecodeError,
    ) as error:  # what is wrong, if anything, wasmtime says
        return Exposed(source, State((), (), f"its globals cannot be read: {error}"))


def _exposed(source: bytes) -> Exposed:
    parts = {each.id: Reader(source, each.start, each.end) for each in sections(source)}
    counts, mutable = _imported(parts.get(_IMPORTS))
    memories = counts[_MEMORY] + (parts[_MEMORIES].number() if _MEMORIES in parts else 0)
    if _GLOBALS in parts:
        mutable |= _declared(parts[_GLOBALS], counts[_GLOBAL])
    known = _exported(parts.get(_EXPORTS))
    wanted = [(_MEMORY, index) for index in range(memories)] + [(_GLOBAL, index) for index in mutable]
    missing = [each for each in wanted if each not in known]
    names = known | {(kind, index): f"{PREFIX}{kind}:{index}" for kind, index in missing}
    obstacle = next((f"its global {index} is a reference" for index, type in mutable.items() if type == "ref"), None)
    state = State(
        tuple(names[_MEMORY, index] for index in range(memories)),
        tuple((names[_GLOBAL, index], type) for index, type in mutable.items()),
        obstacle,
    )
    added = [(names[each], *each) for each in missing]
    return Exposed(_with_exports(source, added) if added else source, state)


class Section(NamedTuple):
    """Its id, and where its head begins, its content begins, and its content ends."""

    id: int
    head: int
    start: int
    end: int


def sections(source: bytes) -> Iterator[Section]:
    at = Reader(source, 8, len(source))
    while at.position < at.end:
        head, id, size = at.position, at.byte(), at.number()
        yield Section(id, head, at.position, at.position + size)
        at.position += size


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
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def name(self) -> str:
        size = self.number()
        self.position += size
        return self.source[self.position - size : self.position].decode()

    def skip(self, size: int) -> None:
        self.position += size


class _Unreadable(Exception):
    """It has something that this reader does not know."""


def _imported(reader: Reader | None) -> tuple[list[int], dict[int, str]]:
    """How many of each kind are imported, and the mutable globals among them."""
    counts, mutable = [0] * 5, dict[int, str]()
    if reader is not None:
        for _ in range(reader.number()):
            reader.name()  # of the module
            reader.name()
            kind = reader.byte()
            if kind > _TAG:
                raise _Unreadable(f"an import of kind {kind}")
            type = _IMPORT[kind](reader)
            if type is not None:
                mutable[counts[_GLOBAL]] = type
            counts[kind] += 1
    return counts, mutable


def _declared(reader: Reader, first: int) -> dict[int, str]:
    """The types of the mutable globals that a module has itself."""
    found: dict[int, str] = {}
    for index in range(first, first + reader.number()):
        type = _global(reader)
        if type is not None:
            found[index] = type
        _skip_value(reader)
    return found


def _exported(reader: Reader | None) -> dict[tuple[int, int], str]:
    """What is exported: the name by its kind and index."""
    found: dict[tuple[int, int], str] = {}
    if reader is not None:
        for _ in range(reader.number()):
            name = reader.name()
            found.setdefault((reader.byte(), reader.number()), name)
    return found


def _type(reader: Reader) -> str:
    """The type of a value; all references are alike."""
    byte = reader.byte()
    if byte in (0x63, 0x64):
        reader.number()
    return _NUMBERS.get(byte, "ref")


def _global(reader: Reader) -> str | None:
    """The type of a global, if it is mutable."""
    type = _type(reader)
    return type if reader.byte() & 1 else None


def _limits(reader: Reader) -> None:
    flags = reader.byte()
    reader.number()
    if flags & 1:
        reader.number()
    if flags & 8:  # the size of its pages
        reader.number()


def _table(reader: Reader) -> None:
    _type(reader)
    _limits(reader)


def _tag(reader: Reader) -> None:
    reader.byte()
    reader.number()


def _function(reader: Reader) -> None:
    reader.number()


_IMPORT: tuple[Callable[[Reader], str | None], ...] = (_function, _table, _limits, _global, _tag)


def _skip_value(reader: Reader) -> None:
    """Go to the end of an expression that says with what a global begins."""
    while (code := reader.byte()) != 0x0B:
        if code in (0x41, 0x42, 0x23, 0xD0, 0xD2):  # i32.const, i64.const, global.get, ref.null, ref.func
            reader.number()
        elif code in _SIZED:
            reader.skip(_SIZED[code])
        elif code == 0xFD and reader.number() == 12:  # v128.const
            reader.skip(16)
        elif code not in _ARITHMETIC:
            raise _Unreadable(f"a global begins with instruction 0x{code:02x}")


def _with_exports(source: bytes, added: list[tuple[str, int, int]]) -> bytes:
    """The module with more exports, each a name, a kind and an index."""
    entries = b"".join(_text(name) + bytes([kind]) + leb(index) for name, kind, index in added)
    for id, head, start, end in sections(source):
        if id == _EXPORTS:
            reader = Reader(source, start, end)
            count = reader.number()
            content = leb(count + len(added)) + source[reader.position : end] + entries
            return source[:head] + _section(content) + source[end:]
        if id not in _EARLIER:
            return source[:head] + _section(leb(len(added)) + entries) + source[head:]
    return source + _section(leb(len(added)) + entries)


def _section(content: bytes) -> bytes:
    return bytes([_EXPORTS]) + leb(len(content)) + content


def _text(name: str) -> bytes:
    encoded = name.encode()
    return leb(len(encoded)) + encoded


def leb(value: int) -> bytes:
    """An unsigned integer as the format has it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def refuse(name: str, state: State) -> None:
    """Raise `InvalidInput` for a module whose state cannot be captured."""
    if state.obstacle is not None:
        raise InvalidInput(f"{name}: no snapshot can be taken of it, because {state.obstacle}")
