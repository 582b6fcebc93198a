"""All the token actions, by name."""

from __future__ import annotations

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.tabletop import agents, game, loop, piles, source, space, tokens

ACTIONS = ActionRegistry(
    piles.ACTIONS,
    space.ACTIONS,
    source.ACTIONS,
    agents.ACTIONS,
    game.ACTIONS,
    loop.ACTIONS,
    tokens.ACTIONS,
)
