"""The stack: a pile to draw from, whose last token is the top, and beside it what was drawn and what was discarded."""

from __future__ import annotations

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.asks.asking import ask
from hybrid_compute.tabletop.table import Token


def draw(count: int = 1) -> Ask[list[Token]]:
    """Take tokens from the top, as many as there are; the list begins with the topmost."""
    return ask("stack:draw", count=count)


def peek(count: int = 1) -> Ask[list[Token]]:
    """Look at tokens from the top down, and leave them."""
    return ask("stack:peek", count=count)


def shuffle(seed: float | None = None) -> Ask[None]:
    """Put the stack in another order, by `seed` or else by the last one that there was."""
    return ask("stack:shuffle", seed=seed)


def burn(count: int = 1) -> Ask[list[Token]]:
    """Discard tokens from the top. The list has them as they lay: the topmost is the last."""
    return ask("stack:burn", count=count)


def reset() -> Ask[None]:
    """Lay the stack as it was made; nothing is drawn or discarded then. Agents and zones keep what they have."""
    return ask("stack:reset")


def cut(position: int = 0) -> Ask[None]:
    """Put the lowest `position` tokens on top."""
    return ask("stack:cut", position=position)


def insert_at(card: Token, position: int = 0) -> Ask[None]:
    """Put a card at `position`: 0 is the bottom, the size of the stack is the top."""
    return ask("stack:insertAt", card=card, position=position)


def remove_at(position: int = 0) -> Ask[Token]:
    """Take the token at `position` out: 0 is the bottom."""
    return ask("stack:removeAt", position=position)


def swap(i: int, j: int) -> Ask[None]:
    """Let the tokens at `i` and at `j` change places."""
    return ask("stack:swap", i=i, j=j)


def reverse() -> Ask[None]:
    """Turn the order of the stack around."""
    return ask("stack:reverse")


def discard(card: Token) -> Ask[Token]:
    """Lay a card on the discards. It is taken from nowhere: who has it loses it by another action."""
    return ask("stack:discard", card=card)
