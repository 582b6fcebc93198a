"""Chance that can be repeated: the same seed puts the same tokens in the same order, here and in JavaScript."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from hybrid_compute.engine.turn import chance
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.numbers import is_number, shown

T = TypeVar("T")
LARGEST = sys.float_info.max


def shuffled(items: Iterable[T], seed: Any) -> list[T]:
    """`items` in an order that only `seed` decides; if it is None, in one that the engine's chance has next.

    Any finite number is a seed. Raises `ActionFailed` for anything else.

    Fisher and Yates from the end, with mulberry32 for the dice: a state that grows by a constant, and two rounds that
    mix its bits. All of it is one loop, for a call per item would take longer than the arithmetic. The position is
    the one that JavaScript's floating point finds, up to two million items.
    """
    order = list(items)
    if seed is None:
        chance().shuffle(order)
        return order
    state = uint32(seed)
    left = len(order)
    while left > 1:
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        bits = (state ^ state >> 15) * (state | 1) & 0xFFFFFFFF
        bits ^= bits + (bits ^ bits >> 7) * (bits | 61) & 0xFFFFFFFF
        other = (bits ^ bits >> 14) * left >> 32
        left -= 1
        order[left], order[other] = order[other], order[left]
    return order


def uint32(seed: Any) -> int:
    """A seed as JavaScript takes it where it needs 32 bits: truncated, modulo 2^32; -1 is 4294967295."""
    if not is_number(seed) or not -LARGEST <= seed <= LARGEST:
        raise ActionFailed(f"Invalid seed: {shown(seed)}. Must be a finite number.")
    if abs(seed) > 2**53:
        seed = float(seed)  # JavaScript has no other numbers: of a greater integer it keeps 53 bits
    return int(seed) & 0xFFFFFFFF


def text_seed(text: str) -> int:
    """The seed that a text stands for: a polynomial in 31 of its UTF-16 units, modulo 2^32."""
    units = text.encode("utf-16-le", "surrogatepass")
    seed = 0
    for low, high in zip(units[::2], units[1::2], strict=True):
        seed = (31 * seed + (high << 8 | low)) & 0xFFFFFFFF
    return seed
