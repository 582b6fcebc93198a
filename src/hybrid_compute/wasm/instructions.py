"""The instructions of WebAssembly, as far as one must know them to come from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hybrid_compute.wasm.encoding import Reader, Unreadable, value_type

_OPENING = frozenset({0x02, 0x03, 0x04, 0x1F})
_END, _MORE, _VECTOR = 0x0B, 0xFC, 0xFD
_Step = Callable[[Reader], object]


def skip_expression(reader: Reader) -> None:
    """Go to the end of an expression. Raises `Unreadable` for instructions that are not known here."""
    for _ in instructions(reader):
        pass


def instructions(reader: Reader) -> Iterator[tuple[int, int, int]]:
    """Those of one expression, up to its end: the code, for codes of two parts also the second, and where it begins."""
    depth = 0
    while depth >= 0:
        start, code = reader.position, reader.byte()
        second = reader.number() if code in (_MORE, _VECTOR) else 0
        yield code, second, start
        _skip(reader, code, second)
        depth += (code in _OPENING) - (code == _END)


def _skip(reader: Reader, code: int, second: int) -> None:
    """Go over what follows the code of an instruction."""
    if code == _MORE:
        step = _MORE_STEPS.get(second)
    elif code == _VECTOR:
        step = _VECTOR_STEPS.get(second, _nothing)
    else:
        step = _STEPS.get(code)
    if step is None:
        raise Unreadable(f"an instruction 0x{code:02x} {second}")
    step(reader)


def _nothing(_reader: Reader) -> None:
    pass


def _numbers(count: int) -> _Step:
    def step(reader: Reader) -> None:
        for _ in range(count):
            reader.number()

    return step


def _sized(size: int) -> _Step:
    return lambda reader: reader.skip(size)


def _block(reader: Reader) -> None:
    """The type of a block: none, that of a value, or the number of one. All are like numbers, but for references."""
    if reader.source[reader.position] in (0x63, 0x64):
        reader.skip(1)
    reader.number()


def _table_of_labels(reader: Reader) -> None:
    _numbers(reader.count() + 1)(reader)


def _types(reader: Reader) -> None:
    for _ in range(reader.count()):
        value_type(reader)


def _catching(reader: Reader) -> None:
    _block(reader)
    for _ in range(reader.count()):
        _numbers(2 if reader.byte() < 2 else 1)(reader)


def _memory(reader: Reader) -> None:
    """Where a load or a store reaches: its alignment, in which a bit says whether a memory is named, and its offset."""
    if reader.number() & 0x40:
        reader.number()
    reader.number()


def _lane_in_memory(reader: Reader) -> None:
    _memory(reader)
    reader.skip(1)


_one, _two = _numbers(1), _numbers(2)
_STEPS: dict[int, _Step] = {
    **dict.fromkeys((0x00, 0x01, 0x05, 0x0A, 0x0B, 0x0F, 0x1A, 0x1B, 0xD1, 0xD3, 0xD4, *range(0x45, 0xC5)), _nothing),
    **dict.fromkeys((0x08, 0x0C, 0x0D, 0x10, 0x12, 0x14, 0x15, *range(0x20, 0x27), 0x3F, 0x40, 0x41, 0x42), _one),
    **dict.fromkeys((0xD0, 0xD2, 0xD5, 0xD6), _one),
    **dict.fromkeys((0x11, 0x13), _two),
    **dict.fromkeys((0x02, 0x03, 0x04), _block),
    **dict.fromkeys(range(0x28, 0x3F), _memory),
    0x0E: _table_of_labels,
    0x1C: _types,
    0x1F: _catching,
    0x43: _sized(4),
    0x44: _sized(8),
}
_MORE_STEPS: dict[int, _Step] = {
    **dict.fromkeys((*range(8), *range(19, 23)), _nothing),
    **dict.fromkeys((9, 11, 13, 15, 16, 17), _one),
    **dict.fromkeys((8, 10, 12, 14), _two),
}
_VECTOR_STEPS: dict[int, _Step] = {
    **dict.fromkeys((*range(12), 92, 93), _memory),
    **dict.fromkeys((12, 13), _sized(16)),
    **dict.fromkeys(range(21, 35), _sized(1)),
    **dict.fromkeys(range(84, 92), _lane_in_memory),
}
