"""The game loop, which counts turns and says whose it is, and the memory of the rules.

What changed in the loop is told after each action, as found by comparing it before and after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.turn import Told, now, turn
from hybrid_compute.errors import ActionFailed
from hybrid_compute.tabletop.checks import text
from hybrid_compute.tabletop.game import required
from hybrid_compute.tabletop.numbers import is_number, shown, whole
from hybrid_compute.tabletop.table import Payload, Table

ACTIONS = ActionRegistry(careful=True)


# The loop. Nothing stops it by itself: neither `running` nor `maxTurns` is looked at.


@ACTIONS.add("game:loopInit")
def init(table: Table, payload: Payload) -> None:
    """A loop as it is before the first turn."""
    given: Any = payload.get("maxTurns")
    limit = given if is_number(given) and math.isfinite(given) else 100
    fresh = {"turn": 0, "running": False, "activeAgentIndex": -1, "phase": "setup", "maxTurns": limit}
    _put(table, table.document.get("gameLoop", fresh), fresh)


@ACTIONS.add("game:loopStart")
def start(table: Table, payload: Payload) -> None:
    """The loop runs, from turn 0 and the first agent on."""
    _set(table, running=True, turn=0, phase="play", activeAgentIndex=0)


@ACTIONS.add("game:loopStop")
def stop(table: Table, payload: Payload) -> None:
    _set(table, running=False, phase=payload.get("phase", "stopped"))


@ACTIONS.add("game:nextTurn")
def next_turn(table: Table, payload: Payload) -> None:
    """The turn of the next of `agentCount` agents, the first one after the last."""
    loop = table.document.get("gameLoop")
    count = _integer(payload.get("agentCount") or 0, "agentCount")
    if loop:
        index = (loop["activeAgentIndex"] + 1) % count if count > 0 else 0
        _set(table, turn=loop["turn"] + 1, activeAgentIndex=index)


@ACTIONS.add("game:setPhase")
def set_phase(table: Table, payload: Payload) -> None:
    _set(table, phase=required(payload, "phase"))


@ACTIONS.add("game:setMaxTurns")
def set_max_turns(table: Table, payload: Payload) -> None:
    _set(table, maxTurns=required(payload, "maxTurns"))


@ACTIONS.add("game:setActiveAgent")
def set_active_agent(table: Table, payload: Payload) -> None:
    """It is the turn of the agent of this index, whether or not there is one."""
    _set(table, activeAgentIndex=_integer(required(payload, "index"), "index"))


def loop_events(before: Payload, after: Payload, agents: Iterable[str]) -> Iterator[Told]:
    """What is told when the loop has changed, in order. `agents` are the names, in the order of creation."""
    if before["running"] and not after["running"]:
        yield _told("loop:stop", reason="state_change", phase=after["phase"], turn=after["turn"])
    if after["running"] and not before["running"]:
        yield _told("loop:start", turn=after["turn"])
    if (before["turn"], before["activeAgentIndex"]) != (after["turn"], after["activeAgentIndex"]):
        yield _told("turn:changed", turn=after["turn"], agent=_name_at(after["activeAgentIndex"], agents))


def _told(type: str, **payload: Any) -> Told:
    return Told(type, {"payload": payload}, "loop")


def _name_at(index: int, agents: Iterable[str]) -> str:
    names = list(agents)
    return names[index] if 0 <= index < len(names) else "unknown"


def _set(table: Table, **changes: Any) -> None:
    """Change the loop, if there is one."""
    loop = table.document.get("gameLoop")
    if loop:
        _put(table, loop, {**loop, **changes})


def _put(table: Table, before: Payload, after: Payload) -> None:
    events = list(loop_events(before, after, table.document.get("agents", ())))
    table.document["gameLoop"] = after
    turn.get().told += events


def _integer(value: Any, name: str) -> int:
    number = whole(value)
    if number is None:
        raise ActionFailed(f"{name} must be an integer, not {shown(value)}")
    return number


# The memory of the rules.


@ACTIONS.add("rule:initRules")
def init_rules(table: Table, payload: Payload) -> None:
    """No rule has fired."""
    table.document["rules"] = {"fired": {}}


@ACTIONS.add("rule:markFired")
def mark_fired(table: Table, payload: Payload) -> None:
    """A rule has fired, at `timestamp` or now. Nothing is noted where no rules were initialized."""
    name, time = text(payload, "name"), payload.get("timestamp")
    rules = table.document.get("rules")
    if rules:
        table.document["rules"] = {**rules, "fired": {**rules["fired"], name: now() if time is None else time}}
