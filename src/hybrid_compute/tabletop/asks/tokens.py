"""Piles of tokens, looked through. All but `collect` know only what they are given, and give copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.asks.asking import ask
from hybrid_compute.tabletop.table import Token


class Dealt(TypedDict):
    """What was drawn from each deck, the topmost first, and what is left of it."""

    drawn: list[list[Any]]
    decks: list[list[Any]]


def shuffle(decks: Sequence[list[Any]], seed: float | str | None = None) -> Ask[list[list[Any]]]:
    """The decks, each in another order: by `seed` and by its place among them."""
    return ask("tokens:shuffle", decks=list(decks), seed=seed)


def draw(decks: Sequence[list[Any]], counts: Sequence[int]) -> Ask[Dealt]:
    """Take from the top of each deck as many as are asked for, or as there are."""
    return ask("tokens:draw", decks=list(decks), counts=list(counts))


def filter(tokens: Sequence[Any], predicate: str = "reversed") -> Ask[list[Any]]:
    """Those that are "reversed", "normal", "merged" or "split"."""
    return ask("tokens:filter", tokens=list(tokens), predicate=predicate)


def find(tokens: Sequence[Any], predicate: str = "reversed") -> Ask[Any]:
    """The first that the predicate says, as in `filter` or "kind:..." or "group:..."; or None."""
    return ask("tokens:find", tokens=list(tokens), predicate=predicate)


def count(tokens: Sequence[Any], predicate: str = "reversed") -> Ask[int]:
    """How many are what the predicate says, as in `find`."""
    return ask("tokens:count", tokens=list(tokens), predicate=predicate)


def map(tokens: Sequence[Token], operation: str = "flip") -> Ask[list[Token]]:
    """The tokens, each changed: "flip", "merge" or "unmerge"."""
    return ask("tokens:map", tokens=list(tokens), operation=operation)


def for_each(tokens: Sequence[Token], operation: str = "flip") -> Ask[list[Token]]:
    """The same by another name."""
    return ask("tokens:forEach", tokens=list(tokens), operation=operation)


def collect(sources: Sequence[str]) -> Ask[list[Token]]:
    """All tokens of "stack", "drawn", "discards", "source" and zones, one after the other."""
    return ask("tokens:collect", sources=list(sources))
