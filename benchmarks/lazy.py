"""The libraries in the comparison, each imported at its first use.

A contender's process thus carries only what the contender uses: forks stay as small, and starts as quick, as
they would be in a program of its own. A library that is missing fails its contender, nobody else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["aiohttp", "anyio", "anyio_process", "hc", "joblib", "loky", "msgspec", "numpy", "psutil", "uvloop"]


class Lazy:
    """Stands for a module until something is asked of it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import hybrid_compute as hc  # ours keeps its types: a benchmark of a call that is gone fails the check
else:
    hc = Lazy("hybrid_compute")

aiohttp = Lazy("aiohttp")
anyio = Lazy("anyio")
anyio_process = Lazy("anyio.to_process")
joblib = Lazy("joblib")
loky = Lazy("loky")
msgspec = Lazy("msgspec")
numpy = Lazy("numpy")
psutil = Lazy("psutil")
uvloop = Lazy("uvloop")
