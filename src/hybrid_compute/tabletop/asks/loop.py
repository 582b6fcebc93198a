"""The game loop, which counts turns and says whose it is."""

from __future__ import annotations

from typing import Any

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.asks.asking import ask


def init(max_turns: float = 100) -> Ask[None]:
    """A loop as it is before the first turn."""
    return ask("game:loopInit", maxTurns=max_turns)


def start() -> Ask[None]:
    """The loop runs, from turn 0 and the first agent on."""
    return ask("game:loopStart")


def stop(phase: Any = "stopped") -> Ask[None]:
    """The loop does not run any more."""
    return Ask("game:loopStop", {"phase": phase})


def next_turn(agent_count: int = 0) -> Ask[None]:
    """The turn of the next of so many agents, the first one after the last."""
    return ask("game:nextTurn", agentCount=agent_count)


def set_phase(phase: Any) -> Ask[None]:
    """Say what phase it is."""
    return Ask("game:setPhase", {"phase": phase})


def set_max_turns(max_turns: Any) -> Ask[None]:
    """Say how many turns there are to be. The loop does not look at it."""
    return Ask("game:setMaxTurns", {"maxTurns": max_turns})


def set_active_agent(index: int) -> Ask[None]:
    """It is the turn of the agent of this index, whether or not there is one."""
    return ask("game:setActiveAgent", index=index)
