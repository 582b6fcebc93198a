"""The state that the token actions work on: one document of plain JSON, and what its stack and source were made of.

    gameLoop      {turn, running, activeAgentIndex, phase, maxTurns}
    stack         {stack: [token], drawn: [token], discards: [token]}          the last of `stack` is the top
    source        {stackIds, tokens: [token], burned: [token], seed, reshufflePolicy: {threshold, mode}}
    zones         {name: [placement]}                                          once something was placed
    agents        {name: {id, name, meta, active, resources, inventory: [token]}}
    transactions  [{type, from, to, ..., timestamp}]
    gameState     {started, startTime, ..., anything}
    rules         {fired: {rule: time}}
    anything else, by game:setState

Tokens and placements are never changed where they lie: an action puts a new one in the place of the old. So a copy of
the table is a copy of its lists, and what was handed out stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Token: TypeAlias = dict[str, Any]
Placement: TypeAlias = dict[str, Any]
Payload: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Stack:
    """A pile as it was made: what `stack:reset` and the Source go back to. `seed` is the last that it was given."""

    tokens: list[Token]
    seed: float | None = None


@dataclass(slots=True)
class Table:
    """One table. `space` is False for one that has none."""

    document: dict[str, Any] = field(default_factory=dict)
    stack: Stack | None = None
    stacks: list[Stack] = field(default_factory=list)
    """Those that the source is made of."""
    space: bool = True

    def __deepcopy__(self, memo: object) -> Table:
        """A table of its own, in the time that copying its lists takes."""
        document = {key: _COPIED.get(key, _copied)(value) for key, value in self.document.items()}
        return Table(document, self.stack, list(self.stacks), self.space)


def agent_copied(agent: dict[str, Any]) -> dict[str, Any]:
    """The agent as it is now: what is changed later does not change this."""
    held = {"meta": {**agent["meta"]}, "resources": {**agent["resources"]}, "inventory": [*agent["inventory"]]}
    return {**agent, **held}


def _agents_copied(agents: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: agent_copied(agent) for name, agent in agents.items()}


def _lists_copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lists_copied(each) for name, each in value.items()}
    return list(value) if isinstance(value, list) else value


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


_COPIED: dict[str, Callable[[Any], Any]] = {
    "agents": _agents_copied,
    **dict.fromkeys(("stack", "source", "zones", "transactions"), _lists_copied),
}
"""How parts are copied whose lists hold what is never changed where it lies."""
