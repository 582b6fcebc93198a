"""Game state: whether it runs, its phase and turn, who won, and what else a game keeps.

All but `game:setState` is about one object of the document, `gameState`, which is there once something is in it. It is
never changed where it lies: each action puts a new one in its place.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import emit, now
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.checks import number
from hybrid_compute.tabletop.table import Payload, Table

ACTIONS = ActionRegistry(careful=True)

OWNED: Final = frozenset(["gameLoop", "stack", "source", "zones", "agents", "transactions", "gameState", "rules"])
"""The parts of the document that have actions of their own: `game:setState` leaves them alone."""

DEEPEST: Final = 100
"""Levels of lists and objects in what a game keeps. The document is copied and sent, which has an end at some 400."""


# A game's life. No order is enforced: a game may end before it starts.


@ACTIONS.add("game:start")
def start(table: Table, payload: Payload) -> Payload:
    """A game begins. What an earlier one left (a winner, a phase, a turn) stays."""
    state = _set(table, {"started": True, "startTime": now(), "ended": False, "paused": False, "totalPauseDuration": 0})
    emit("game:started", {"payload": state})
    return state


@ACTIONS.add("game:end")
def end(table: Table, payload: Payload) -> Payload:
    """The game is over; `winner` and `reason` are kept where they say anything."""
    said = {key: payload[key] for key in ("winner", "reason") if payload.get(key) not in _NOTHING}
    state = _set(table, {"ended": True, "endTime": now(), **said})
    emit("game:ended", {"payload": state})
    return state


@ACTIONS.add("game:pause")
def pause(table: Table, payload: Payload) -> Payload:
    state = _set(table, {"paused": True, "pauseTime": now()})
    emit("game:paused", {"payload": state})
    return state


@ACTIONS.add("game:resume")
def resume(table: Table, payload: Payload) -> Payload:
    """The game goes on. `totalPauseDuration` grows by the pause that ends, if one was under way."""
    before = _state(table)
    changes: Payload = {"paused": False, "resumeTime": now()}
    if before.get("paused") and before.get("pauseTime") not in _NOTHING:
        changes["totalPauseDuration"] = _number(before, "totalPauseDuration") + now() - _number(before, "pauseTime")
    state = _set(table, changes)
    emit("game:resumed", {"payload": state})
    return state


@ACTIONS.add("game:nextPhase")
def next_phase(table: Table, payload: Payload) -> Payload:
    """Another phase, which the caller names, and the turn after this one."""
    phase = required(payload, "phase")
    turn = _number(_state(table), "turn") + 1
    state = _set(table, {"phase": phase, "turn": turn})
    emit("game:phaseChanged", {"payload": {"phase": phase, "turn": turn}})
    return state


# Anything else that a game keeps.


@ACTIONS.add("game:getState", reads=True)
def get_state(table: Table, payload: Payload) -> Payload:
    return _state(table)


@ACTIONS.add("game:setProperty")
def set_property(table: Table, payload: Payload) -> Payload:
    """Put `value` under any `key` of the game state."""
    return _set(table, {_key(payload): _plain(required(payload, "value"))})


@ACTIONS.add("game:mergeState")
def merge_state(table: Table, payload: Payload) -> Payload:
    """Put all that is in `state` into the game state; an object in it replaces the one that was there."""
    given = payload.get("state")
    if not isinstance(given, dict):
        raise ActionFailed("state object required")
    return _set(table, _plain(given))


@ACTIONS.add("game:setState")
def set_state(table: Table, payload: Payload) -> Any:
    """Write a part of the document that is the game's own, as a whole or by patches; what is there then.

    An object given as `value` is merged into the one that is there, unless `replace`. A patch says where below the
    key its value goes: {path: [str], value}. What is missing on the way is made.
    """
    key = _key(payload)
    if key in OWNED:
        raise ActionFailed(f"{key!r} has actions of its own: game:setState writes any other key")
    old = table.document.get(key)
    new = _merged(key, old, payload) if _whole(payload) else _patched(key, old, payload)
    table.document[key] = new
    return new


def _whole(payload: Payload) -> bool:
    """Whether there is a value for all of it; otherwise there are patches."""
    if "value" not in payload and "patches" not in payload:
        raise ActionFailed("value or patches required")
    if "value" in payload and "patches" in payload:
        raise ActionFailed("use either value or patches, not both")
    if "patches" in payload and payload.get("replace"):
        raise ActionFailed("replace is only valid with value")
    return "value" in payload


def _merged(key: str, old: Any, payload: Payload) -> Any:
    value = _plain(payload["value"])
    if payload.get("replace") or not isinstance(old, dict):
        return value
    if not isinstance(value, dict):
        raise ActionFailed(
            f"{key!r} is an object, and the value is none to merge into it: pass replace to overwrite it"
        )
    return {**old, **value}


def _patched(key: str, old: Any, payload: Payload) -> Any:
    patches = payload["patches"]
    if not isinstance(patches, list) or not patches:
        raise ActionFailed("patches must be a non-empty array")
    new = {key: old}
    for path, value in [_path_and_value(patch) for patch in patches]:
        new = _put(new, [key, *path], value)
    return new[key]


def _path_and_value(patch: Any) -> tuple[list[str], Any]:
    path = patch.get("path") if isinstance(patch, dict) else None
    if not isinstance(path, list) or not path or not all(isinstance(step, str) for step in path):
        raise ActionFailed("each patch needs a non-empty string path")
    if "value" not in patch:
        raise ActionFailed("patch value required")
    return path, _plain(patch["value"], len(path))


def _put(where: Any, path: list[str], value: Any) -> Any:
    """`where` with a value at the end of the path: new along the path, and as it was beside it."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if where in _NOTHING:
        where = {}
    if isinstance(where, dict):
        return {**where, step: _put(where.get(step), rest, value)}
    if isinstance(where, list):
        index = _index(step, where)
        inside = where[index] if index < len(where) else None
        return [*where[:index], _put(inside, rest, value), *where[index + 1 :]]
    raise ActionFailed(f"a path goes on to {step!r} from {where!r}, which is neither an object nor a list")


def _index(step: str, items: list[Any]) -> int:
    """The place in a list that a step of a path names; one behind the last is free to be filled."""
    index = int(step) if re.fullmatch(r"0|[1-9][0-9]{0,8}", step) else -1
    if not 0 <= index <= len(items):
        raise ActionFailed(f"index {step!r} is out of bounds: the list has {len(items)} items")
    return index


def _plain(value: Any, above: int = 0) -> Any:
    """The value as the document keeps it, below so many levels: JSON, and nobody else's."""
    try:
        plain = json.loads(json.dumps(value, allow_nan=False))
        levels = above + _levels(plain)
    except (TypeError, ValueError, RecursionError):
        raise ActionFailed("value must be JSON-serializable") from None
    if levels > DEEPEST:
        raise ActionFailed(f"value must not be nested deeper than {DEEPEST} levels: it would be at {levels}")
    return plain


def _levels(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_levels, inside), default=0)


# What was asked, and what is there.

_NOTHING: Final = (None, False, 0, "")
"""What says nothing, in JavaScript's way: an empty list says something."""


def required(payload: Payload, field: str) -> Any:
    """What is under a field that must be there, be it null."""
    if field not in payload:
        raise ActionFailed(f"{field} required")
    return payload[field]


def _key(payload: Payload) -> str:
    key = payload.get("key")
    if not isinstance(key, str) or not key:
        raise ActionFailed("key required")
    return key


def _state(table: Table) -> Payload:
    state: Payload = table.document.get("gameState", {})
    return state


def _set(table: Table, changes: Payload) -> Payload:
    state = table.document["gameState"] = {**_state(table), **changes}
    return state


def _number(state: Payload, key: str) -> float:
    """A number of the game state, 0 if there is none. A game may have put anything there."""
    value = state.get(key)
    return 0 if value in _NOTHING else number(value, f"{key} of the game state")
