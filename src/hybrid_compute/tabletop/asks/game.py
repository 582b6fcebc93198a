"""A game's life, and what it keeps. Each but the last two gives the whole state of the game."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.asks.asking import ask

Game: TypeAlias = dict[str, Any]


class Patch(TypedDict):
    """A value, and the steps below the key that lead to its place."""

    path: list[str]
    value: Any


def start() -> Ask[Game]:
    """A game begins. What an earlier one left (a winner, a phase, a turn) stays."""
    return ask("game:start")


def end(winner: Any = None, reason: Any = None) -> Ask[Game]:
    """The game is over; winner and reason are kept where they say anything."""
    return ask("game:end", winner=winner, reason=reason)


def pause() -> Ask[Game]:
    """The game halts."""
    return ask("game:pause")


def resume() -> Ask[Game]:
    """The game goes on. `totalPauseDuration` grows by the pause that ends, in milliseconds."""
    return ask("game:resume")


def next_phase(phase: Any) -> Ask[Game]:
    """Another phase, and the turn after this one."""
    return Ask("game:nextPhase", {"phase": phase})


def get_state() -> Ask[Game]:
    """The state of the game; empty at first."""
    return ask("game:getState")


def set_property(key: str, value: Any) -> Ask[Game]:
    """Put a value under any key of the game's state."""
    return Ask("game:setProperty", {"key": key, "value": value})


def merge_state(state: dict[str, Any]) -> Ask[Game]:
    """Put all that is in `state` into the game's state; an object in it replaces the one that was there."""
    return ask("game:mergeState", state=state)


def set_state(key: str, value: Any, *, replace: bool = False) -> Ask[Any]:
    """Write a part of the document that is the game's own; what is there then. Objects are merged unless `replace`."""
    return Ask("game:setState", {"key": key, "value": value, "replace": replace})


def patch_state(key: str, patches: Sequence[Patch]) -> Ask[Any]:
    """Write at places below that part, all or none; what is there then."""
    return ask("game:setState", key=key, patches=list(patches))
