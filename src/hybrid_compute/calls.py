"""One call: what was asked, and what was measured while it was answered."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from hybrid_compute.reporting import Reporter
from hybrid_compute.tasks import AnyTask

abandoned: ContextVar[Callable[[], bool] | None] = ContextVar("abandoned", default=None)
"""Asked by what runs in a thread, and could stop: whether nobody waits for it any more. Set by who started it there."""

_numbers = itertools.count(1)
_NONE: dict[str, Any] = {}


class Call:
    """One execution of a task.

    The asker fills in the first half; the place that runs it fills in the second: `ran` is the seconds spent in
    the task's own code (no queueing, no transport), `sent` and `received` the bytes that crossed to the place and
    back, `queued` whether it had to wait for a free one. They stay None and 0 where a place cannot tell.
    """

    # Defaults live on the class: most calls never set them, and making a call must cost next to nothing.
    timeout: float | None = None
    deadline: float | None = None  # the same limit as a time of the clock, so that it holds across places
    queue_timeout: float | None = None
    priority: int = 0
    key: str | None = None  # calls of one key are one call: a place that remembers keys runs it once
    listener: Reporter | None = None  # who wants to hear how far it is
    ran: float | None = None
    queued: bool = False
    sent: int = 0
    received: int = 0

    def __init__(self, task: AnyTask, args: tuple[Any, ...] = (), kwargs: dict[str, Any] = _NONE) -> None:
        self.task = task
        self.args = args
        self.kwargs = kwargs

    @functools.cached_property
    def number(self) -> int:
        """Unique in this process; given when somebody first asks."""
        return next(_numbers)

    def __repr__(self) -> str:
        return f"<Call {self.number} of {self.task.name!r}>"
