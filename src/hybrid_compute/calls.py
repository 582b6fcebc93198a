"""One call: what was asked, and what was measured while it was answered."""

from __future__ import annotations

import itertools
from typing import Any

from hybrid_compute.tasks import AnyTask

_numbers = itertools.count(1)


class Call:
    """One execution of a task.

    The asker fills in the first half; the place that runs it fills in the second: `ran` is the seconds spent in
    the task's own code (no queueing, no transport), `sent` and `received` the bytes that crossed to the place and
    back, `queued` whether it had to wait for a free one. They stay None and 0 where a place cannot tell.
    """

    __slots__ = (
        "args",
        "deadline",
        "kwargs",
        "number",
        "priority",
        "queue_timeout",
        "queued",
        "ran",
        "received",
        "sent",
        "task",
        "timeout",
    )

    def __init__(
        self,
        task: AnyTask,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        queue_timeout: float | None = None,
        priority: int = 0,
    ) -> None:
        self.number = next(_numbers)
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}
        self.timeout = timeout
        self.deadline = deadline  # the same limit as a time of the clock, so that it holds across places
        self.queue_timeout = queue_timeout
        self.priority = priority
        self.ran: float | None = None
        self.queued = False
        self.sent = 0
        self.received = 0

    def __repr__(self) -> str:
        return f"<Call {self.number} of {self.task.name!r}>"
