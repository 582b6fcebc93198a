"""What time it is in a sandbox, and where its chance comes from."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from hybrid_compute.wasm.worlds import Clock, Fixed, Real, chance

START = 946_684_800
"""When a deterministic clock begins: 1 January 2000, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class World:
    """Clock and chance, as one program finds them."""

    seed: int
    clock: Clock
    random: Callable[[int], bytes]


def fixed(seed: int) -> World:
    """The same for every program with the same seed."""
    return World(seed, Fixed(START), chance(seed))


def real() -> World:
    """Those of this machine."""
    return World(int.from_bytes(os.urandom(8)), Real(), chance(None))
