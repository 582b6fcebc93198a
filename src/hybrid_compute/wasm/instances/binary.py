"""All state of a module, made visible.

A module may keep a global to itself, and then nobody can say what is in it. `exposed` gives the module again with an
export for each memory and each mutable global that has none. Code is not looked at.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm.encoding import (
    EXPORTS,
    GLOBAL,
    GLOBALS,
    IMPORTS,
    MEMORIES,
    MEMORY,
    PREFIX,
    UNREADABLE,
    Reader,
    export,
    global_type,
    imported,
    sections,
    with_more,
)
from hybrid_compute.wasm.instructions import skip_expression


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
    except UNREADABLE as error:
        return Exposed(source, State((), (), f"its globals cannot be read: {error}"))


def _exposed(source: bytes) -> Exposed:
    parts = {each.id: Reader(source, each.start, each.end) for each in sections(source)}
    counts, mutable = imported(parts.get(IMPORTS))
    memories = counts[MEMORY] + (parts[MEMORIES].count() if MEMORIES in parts else 0)
    if GLOBALS in parts:
        mutable |= _declared(parts[GLOBALS], counts[GLOBAL])
    known = _exported(parts.get(EXPORTS))
    wanted = [(MEMORY, index) for index in range(memories)] + [(GLOBAL, index) for index in mutable]
    missing = [each for each in wanted if each not in known]
    names = known | {(kind, index): f"{PREFIX}{kind}:{index}" for kind, index in missing}
    obstacle = next((f"its global {index} is a reference" for index, type in mutable.items() if type == "ref"), None)
    state = State(
        tuple(names[MEMORY, index] for index in range(memories)),
        tuple((names[GLOBAL, index], type) for index, type in mutable.items()),
        obstacle,
    )
    added = [export(names[each], *each) for each in missing]
    return Exposed(with_more(source, {EXPORTS: added}) if added else source, state)


def _declared(reader: Reader, first: int) -> dict[int, str]:
    """The types of the mutable globals that a module has itself."""
    found: dict[int, str] = {}
    for index in range(first, first + reader.count()):
        type = global_type(reader)
        if type is not None:
            found[index] = type
        skip_expression(reader)
    return found


def _exported(reader: Reader | None) -> dict[tuple[int, int], str]:
    """What is exported: the name by its kind and index."""
    found: dict[tuple[int, int], str] = {}
    if reader is not None:
        for _ in range(reader.count()):
            name = reader.name()
            found.setdefault((reader.byte(), reader.number()), name)
    return found


def refuse(name: str, state: State) -> None:
    """Raise `InvalidInput` for a module whose state cannot be captured."""
    if state.obstacle is not None:
        raise InvalidInput(f"{name}: no snapshot can be taken of it, because {state.obstacle}")
