"""The memory of the rules: see `tabletop/rules.py`, which keeps it."""

from __future__ import annotations

from hybrid_compute.engine.actions import Ask
from hybrid_compute.tabletop.asks.asking import ask


def init() -> Ask[None]:
    """No rule has fired."""
    return ask("rule:initRules")


def mark_fired(name: str, timestamp: int | None = None) -> Ask[None]:
    """A rule has fired, at a time in milliseconds since 1970, or now."""
    return ask("rule:markFired", name=name, timestamp=timestamp)
