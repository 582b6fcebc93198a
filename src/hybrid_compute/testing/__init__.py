"""For tests: a backend that answers as you say, a contract that every backend keeps, and a clock turned by hand.

Only the contract needs pytest, with pytest-asyncio. Each name is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_compute.clock import ManualClock as ManualClock
    from hybrid_compute.testing.contract import BackendContract as BackendContract
    from hybrid_compute.testing.mock import Asked as Asked
    from hybrid_compute.testing.mock import MockBackend as MockBackend
    from hybrid_compute.testing.mock import replay as replay

_WHERE = {
    "Asked": "hybrid_compute.testing.mock",
    "BackendContract": "hybrid_compute.testing.contract",
    "ManualClock": "hybrid_compute.clock",
    "MockBackend": "hybrid_compute.testing.mock",
    "replay": "hybrid_compute.testing.mock",
}

__all__ = ["Asked", "BackendContract", "ManualClock", "MockBackend", "replay"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "BackendContract":
        import pytest

        pytest.register_assert_rewrite(_WHERE[name])  # so that a broken promise shows its values
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value
