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
