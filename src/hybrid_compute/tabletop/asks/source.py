"""The source: the tokens of several stacks in one pile. What is drawn from it is kept nowhere."""

from __future__ import annotations

from typing import Any

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.asks.asking import ask
from hybrid_compute.tabletop.table import Token


def draw() -> Ask[Token]:
    """Take the token on top. If so few are left that the source's policy says so, it is shuffled again."""
    return ask("source:draw")


def draw_many(count: int) -> Ask[list[Token]]:
    """Take tokens from the top; the list begins with the topmost. It is an error if there are fewer."""
    return ask("source:draw", count=count, asList=True)


def shuffle(seed: float | None = None) -> Ask[None]:
    """Put the source in another order, by `seed` or else by the one that it has from the last time."""
    return ask("source:shuffle", seed=seed)


def burn(count: int = 1) -> Ask[list[Token]]:
    """Lay tokens from the top aside. The list has them as they lay: the topmost is the last."""
    return ask("source:burn", count=count)


def add_stack(stack: list[Token]) -> Ask[None]:
    """Put the tokens of a stack on top. Its id is one that no other here has."""
    return ask("source:addStack", stack=stack)


def remove_stack(stack: list[Token]) -> Ask[None]:
    """Take a stack out: the first here that is made of the same tokens, and as many of these as are left to draw."""
    return ask("source:removeStack", stack=stack)


def reset() -> Ask[None]:
    """Lay the source as its stacks were made, with nothing burned. The seed stays."""
    return ask("source:reset")


def inspect() -> Ask[dict[str, Any]]:
    """All of the source, and under `stacks` how many it is made of."""
    return ask("source:inspect")
