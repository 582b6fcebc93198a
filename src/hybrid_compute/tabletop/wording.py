"""Answers of this engine in the words of the original. What ours has no word for is as it always was recorded."""

from __future__ import annotations

from typing import Any, Final

from hybrid_compute.engine.listeners import Event
from hybrid_compute.engine.turn import Told
from hybrid_compute.errors import ActionFailed, ActionNotFound
from hybrid_compute.tabletop.space import LOCK

CODES: Final = {"UNKNOWN_ACTION": ActionNotFound, "ACTION_HANDLER_ERROR": ActionFailed}


def event(heard: Event) -> Told:
    """What was heard, as the original tells it: it wraps what the engine itself and its listeners tell."""
    match heard:
        case Event("engine:error", {"action": action, "phase": phase, "error": error}):
            what = {"action": {"type": action}, "err": error, "phase": phase, "policy": {}, "postCommit": True}
        case Event("engine:error", {"action": action, "error": error}) if error.startswith("Unknown action: "):
            what = {"action": {"type": action}, "msg": "Unknown action"}
        case Event("engine:error", {"action": action, "error": error}):
            what = {"action": {"type": action}, "err": error}
        case Event("error", {"error": error, "source": source}):
            what = {"error": str(error), "source": source}
        case Event("policy:triggered" | "rule:triggered", payload):
            what = payload
        case Event(type, payload, source):
            return Told(type, payload, source)
    return Told(heard.type, {"payload": what}, heard.source)


def envelope(heard: Event) -> dict[str, Any]:
    """What a listener gets."""
    return {"type": heard.type, "keys": sorted(heard._fields), "payloadKeys": sorted(heard.payload)}


def rejected(error: Exception, **more: Any) -> dict[str, Any]:
    """What `dispatch` rejects with."""
    code = next(code for code, kind in CODES.items() if isinstance(error, kind))
    return {"name": "DispatchError", "code": code, "message": str(error), **more}


def described(document: dict[str, Any]) -> dict[str, Any]:
    """What is on a table."""
    stack, source, zones = document["stack"], document["source"], document["zones"]
    placements = {name: lying for name, lying in zones.items() if not name.startswith(LOCK)}
    return {
        "version": "0.4.0",
        "turn": None,
        "agents": [_agent(agent) for agent in document["agents"].values()],
        "stack": {"remaining": len(stack["stack"]), "drawn": len(stack["drawn"])},
        "space": {"zones": list(placements), "totalPlacements": sum(map(len, placements.values()))},
        "source": {
            "remaining": len(source["tokens"]),
            "burned": len(source["burned"]),
            "policy": source["reshufflePolicy"],
        },
    }


def _agent(agent: dict[str, Any]) -> dict[str, Any]:
    counts = {"inventoryCount": len(agent["inventory"]), "discardCount": 0, "turns": 0}
    return {"name": agent["name"], "active": agent["active"], **counts}
