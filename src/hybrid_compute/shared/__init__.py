"""Memory shared by all places: arrays that several processes, sandboxes and a gpu work on, and who may when.

    block     a piece of memory, found again from any process; words about it, then the data
    words     numbers that all who see them agree on, without a lock
    claims    turns with it, which the system takes back from who dies
    array     `SharedArray`: an array in a block, for one writer or many readers at a time
    frames    who of a triple buffer uses which slot
    triple    `TripleBuffer`: the newest frame of a producer, for consumers that nobody waits for

The rules are in `docs/topics/shared-memory.md`. Importing this loads no numpy. It is for Linux; elsewhere whoever makes
such an array gets `BackendUnavailable`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_compute.shared.array import SharedArray as SharedArray
    from hybrid_compute.shared.triple import Frame as Frame
    from hybrid_compute.shared.triple import TripleBuffer as TripleBuffer

_WHERE = {"Frame": "triple", "SharedArray": "array", "TripleBuffer": "triple"}

__all__ = ["Frame", "SharedArray", "TripleBuffer"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
