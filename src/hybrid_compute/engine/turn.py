"""One action under way: its time, its randomness, and what it tells.

    @actions.add("counter:add")
    def add(counter: dict[str, int], payload: dict[str, int]) -> int:
        counter["total"] += payload["by"]
        emit("counter:added", {"total": counter["total"], "at": now()})
        return counter["total"]

An action that asks here for the time, for ids and for chance does the same when it is replayed: the engine keeps the
time of each action with it, and draws the rest from a generator whose state belongs to the engine's.
"""

from __future__ import annotations

from contextvars import ContextVar
from hashlib import blake2b
from random import Random
from typing import Any, Final, NamedTuple

from hybrid_compute.errors import EngineError


class Told(NamedTuple):
    """An event as an action tells it. `source` is the part of the state that it is about; "engine" for the whole."""

    type: str
    payload: Any
    source: str


class Turn:
    """What the action of this `serial` number has besides state and payload.

    All chance in it follows from the engine's seed and that number: there is nothing to remember between actions.
    """

    __slots__ = ("_drawn", "_random", "_seed", "_serial", "now", "told")

    def __init__(self, seed: int, serial: int, now: int) -> None:
        self.now = now
        self.told: list[Told] = []
        self._seed = seed
        self._serial = serial
        self._drawn = 0
        self._random: Random | None = None

    @property
    def random(self) -> Random:
        if self._random is None:
            self._random = Random(self.bits())
        return self._random

    def bits(self) -> int:
        """128 bits of chance."""
        return int(self.digits(), 16)

    def digits(self) -> str:
        """The same as 32 hexadecimal digits."""
        self._drawn += 1
        return blake2b(b"%d/%d/%d" % (self._seed, self._serial, self._drawn), digest_size=16).hexdigest()


turn: ContextVar[Turn] = ContextVar("turn")
"""The action that runs in this context."""


def emit(type: str, payload: Any = None, source: str = "engine") -> None:
    """Tell whoever listens to the engine. Nobody is told if the action fails."""
    _turn().told.append(Told(type, payload, source))


def now() -> int:
    """When this action began, in milliseconds since 1970; the same when it is replayed."""
    return _turn().now


def chance() -> Random:
    """The action's own source of chance, which follows from the engine's `seed`."""
    return _turn().random


def new_id() -> str:
    """An id that nothing else has, in the form of a UUID (version 4)."""
    text = _turn().digits()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""The digit of a UUID in which two bits are not free."""


def _turn() -> Turn:
    try:
        return turn.get()
    except LookupError:
        raise EngineError("this is for actions: no action runs here") from None
