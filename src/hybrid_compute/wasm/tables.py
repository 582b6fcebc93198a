"""Modules that are seen to ask for larger tables than they may have.

Of a memory, we are asked before it grows; a table wasmtime grows itself, and tells nobody but the guest, by -1, when it
may not. So a module with `table.grow` is compiled as one that leaves a word: in place of each, it calls a function that
does the same and, if that gives -1 though the table's own type would allow it, writes what was asked for to a global.

    table.grow 0   ->   call $grow0:   (local.tee $before (table.grow 0 (local.get 0) (local.get 1)))
                                       if it is -1:  (global.set $wanted (table.size 0) + (local.get 1))

Where code lies in its function stays as it was, as far as that can be, so that backtraces name the same places.
"""

from __future__ import annotations

from typing import NamedTuple

from hybrid_compute.wasm.encoding import (
    CODE,
    EXPORTS,
    FUNCTION,
    FUNCTIONS,
    GLOBAL,
    GLOBALS,
    IMPORTS,
    PREFIX,
    TABLE,
    TABLES,
    TYPES,
    UNREADABLE,
    Reader,
    Unreadable,
    export,
    imported,
    leb,
    limits,
    section,
    sections,
    value_type,
    with_more,
)
from hybrid_compute.wasm.instructions import instructions, skip_expression

WANTED = f"{PREFIX}wanted"
"""The name of the global, an i64: elements that were asked for in vain, or 0."""
FORM = 1
"""Of the modules that are made here: compiled code of another form is not theirs."""
_GROW = b"\xfc\x0f"
_MOST = 1 << 20
"""Bytes of functions that are looked at, which takes a second; those without `_GROW` are not."""
_ANY = 1 << 33
"""As many as nobody can ask for at once."""


class Table(NamedTuple):
    element: bytes
    """Its type, as it is written."""
    most: int


def telling(source: bytes) -> bytes:
    """The module, as one that tells which tables it was denied. One that cannot be read so is given as it is."""
    try:
        return _telling(source) if _GROW in source else source
    except UNREADABLE:
        return source


def _telling(source: bytes) -> bytes:
    parts = {each.id: Reader(source, each.start, each.end) for each in sections(source) if each.id}
    counts, _ = imported(parts.get(IMPORTS))
    if counts[TABLE] or not parts.keys() >= {TYPES, FUNCTIONS, TABLES, CODE}:
        raise Unreadable("tables that are not its own")
    tables, types = _tables(parts[TABLES]), _count_of_types(parts[TYPES])
    first = counts[FUNCTION] + parts[FUNCTIONS].count()
    wanted = counts[GLOBAL] + (parts[GLOBALS].count() if GLOBALS in parts else 0)
    code = next(each for each in sections(source) if each.id == CODE)
    changed = _changed(Reader(source, code.start, code.end), first)
    if changed is None:
        return source
    more = {
        TYPES: [b"\x60\x02" + table.element + b"\x7f\x01\x7f" for table in tables],
        FUNCTIONS: [leb(types + index) for index in range(len(tables))],
        GLOBALS: [b"\x7e\x01\x42\x00\x0b"],
        EXPORTS: [export(WANTED, GLOBAL, wanted)],
        CODE: [_grow(index, table.most, wanted) for index, table in enumerate(tables)],
    }
    return with_more(source[: code.head] + section(CODE, changed) + source[code.end :], more)


def _tables(reader: Reader) -> list[Table]:
    found: list[Table] = []
    for _ in range(reader.count()):
        initialized = reader.source[reader.position] == 0x40
        if initialized:
            reader.skip(2)
        start = reader.position
        value_type(reader)
        element = reader.source[start : reader.position]
        most = limits(reader)
        found.append(Table(element, _ANY if most is None else most))
        if initialized:
            skip_expression(reader)
    return found


def _count_of_types(reader: Reader) -> int:
    """How many types there are, if all are those of functions; else their numbers would have to be found out."""
    count = reader.count()
    for _ in range(count):
        if reader.byte() != 0x60:
            raise Unreadable("types of something else than functions")
        for _ in range(2):
            for _ in range(reader.count()):
                value_type(reader)
    return count


def _changed(reader: Reader, first: int) -> bytes | None:
    """The code section, with calls from function `first` on in place of `table.grow`; None if there is none."""
    found, read = False, 0
    count = reader.count()
    bodies = [leb(count)]
    for _ in range(count):
        size = reader.number()
        start, end = reader.position, reader.position + size
        body = reader.source[start:end]
        if _GROW in body:
            read += size
            if read > _MOST:
                raise Unreadable("more code than it is worth to read")
            changed = _body(Reader(reader.source, start, end), first)
            found = found or changed != body
            body = changed
        bodies += leb(len(body)), body
        reader.position = end
    return b"".join(bodies) if found else None


def _body(reader: Reader, first: int) -> bytes:
    parts: list[bytes] = []
    kept = reader.position
    for _ in range(reader.count()):  # its locals
        reader.number()
        value_type(reader)
    for code, second, start in instructions(reader):
        if (code, second) == (0xFC, 15):
            table = Reader(reader.source, reader.position, reader.end)
            index = table.number()
            parts += reader.source[kept:start], b"\x10" + leb(first + index, table.position - start - 1)
            kept = table.position
    return b"".join([*parts, reader.source[kept : reader.end]])


def _grow(table: int, most: int, wanted: int) -> bytes:
    """The function that grows this table, and tells if it may not grow though its type would let it."""
    index, told = leb(table), leb(wanted)
    grown = b"\x20\x00\x20\x01\xfc\x0f" + index + b"\x22\x02\x41\x7f\x46"
    asked = b"\xfc\x10" + index + b"\xad\x20\x01\xad\x7c\x22\x03"
    tell = b"\x42" + _signed(most) + b"\x58\x04\x40\x20\x03\x24" + told + b"\x0b"
    body = b"\x02\x01\x7f\x01\x7e" + grown + b"\x04\x40" + asked + tell + b"\x0b\x20\x02\x0b"
    return leb(len(body)) + body


def _signed(value: int) -> bytes:
    """A number from 0 on, as a signed one is written: with one bit more."""
    plain = leb(value)
    return plain if not plain[-1] & 0x40 else leb(value, len(plain) + 1)
