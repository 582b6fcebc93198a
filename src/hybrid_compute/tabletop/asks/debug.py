"""An action that does nothing, to see that actions are done."""

from __future__ import annotations

from typing import Any

from hybrid_compute.engine.actions import Ask


def log(payload: dict[str, Any] | None = None) -> Ask[dict[str, Any]]:
    """What it was given."""
    return Ask("debug:log", payload or {})
