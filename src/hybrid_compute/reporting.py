"""`progress(done, total, note)`: a running task says how far it is, wherever it runs.

The place that runs tasks installs `reporter`; where nobody listens, saying so costs one test and goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeAlias

Reporter: TypeAlias = Callable[[float, float | None, str], None]

reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)
"""Who listens in this context: set around a task by the place that runs it."""


def progress(done: float, total: float | None = None, note: str = "") -> None:
    """Report that `done` of `total` units are finished. Reaches the runtime's hooks as a `Progress` event."""
    listener = reporter.get()
    if listener is not None:
        listener(done, total, note)
