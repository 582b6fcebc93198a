"""What the other modules here are made with."""

from __future__ import annotations

from typing import Any

from hybrid_compute.engine.actions import Ask


def ask(type: str, /, **fields: Any) -> Ask[Any]:
    """An action with those fields of its payload that are not None."""
    return Ask(type, {name: value for name, value in fields.items() if value is not None})
