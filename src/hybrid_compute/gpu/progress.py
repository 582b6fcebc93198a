"""What a device has to do, and what it is at: noted by its thread, and asked by those who watch it.

    waiting ──> launched, launched ──> ended

The thread may be stuck in the driver for ever. So all works stand here, where others find them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hybrid_compute.gpu.frame import Frame
    from hybrid_compute.gpu.work import Work

PATIENCE = 60.0
"""Seconds that a driver may take to open a device, or to compile a shader."""
TOGETHER = 16
"""A frame may take as long as its calls one after the other, but not longer than so many of them."""


@dataclass(eq=False, slots=True)
class Launched:
    """A frame that is with the device."""

    frame: Frame
    works: Sequence[Work]
    since: float
    """When the device could begin with it, by `monotonic`: the frame before it had ended."""

    def time(self, limit: float) -> float:
        """Seconds that it may take, where each call has so many."""
        return limit * min(sum(work.reply.calls for work in self.works), TOGETHER)


class At(NamedTuple):
    """Something that the thread does and nobody can interrupt."""

    what: str
    work: Work | None
    """For which it is done, if it is for one."""
    since: float


class Stuck(NamedTuple):
    """What a device leaves that was given up."""

    guilty: Sequence[Work]
    """With the device when it did not come to an end: one of them is to blame."""
    others: Sequence[Work]
    """Those that it had not begun."""


class Progress:
    """The works of a device, in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Work, None] = {}
        self._launched: deque[Launched] = deque()
        self._at: At | None = None
        self._is_over = False

    def leave(self) -> None:
        """This is a forked child, which has no thread that could still give the lock back."""
        self._lock = threading.Lock()

    def add(self, works: Iterable[Work]) -> bool:
        """These are to be done. False if nothing is done here any more."""
        with self._lock:
            if not self._is_over:
                self._waiting.update(dict.fromkeys(works))
            return not self._is_over

    # What the thread does. Once all was given up it gets nothing more: whoever was told so is not told twice.

    @contextmanager
    def doing(self, what: str, work: Work | None = None) -> Generator[None]:
        """In this block it is at something that may take the driver long; `what` completes 'it did not ...'."""
        self._at = At(what, work, monotonic())
        try:
            yield
        finally:
            with self._lock:
                self._at = None
            self.begin_anew()  # nobody could hear of the end of a frame

    def take(self, work: Work) -> bool:
        """Somebody will be told what became of it. False if it is not ours any more."""
        with self._lock:
            return self._waiting.pop(work, self) is not self

    def launch(self, frame: Frame, works: Sequence[Work]) -> bool:
        """They are with the device. False if they are not ours any more."""
        with self._lock:
            if not self._is_over:
                for work in works:
                    del self._waiting[work]
                self._launched.append(Launched(frame, works, monotonic()))
            return not self._is_over

    @property
    def first(self) -> Launched | None:
        """What the device is at."""
        return self._launched[0] if self._launched else None

    def end(self) -> Sequence[Work]:
        """The device has done with what it was at. The works that were in it, if they are still ours."""
        with self._lock:
            if self._is_over:
                return ()
            works = self._launched.popleft().works
            if self._launched:
                self._launched[0].since = monotonic()
            return works

    # What others ask.

    @property
    def is_over(self) -> bool:
        """Whether nothing is done here any more."""
        return self._is_over

    def time_left(self, limit: float) -> float | None:
        """Seconds until it has been at the same for too long, with `limit` for each call; None if there is nothing."""
        with self._lock:
            if self._at is not None:
                return self._at.since + PATIENCE - monotonic()
            if self._launched:
                return self._launched[0].since + self._launched[0].time(limit) - monotonic()
            return limit if self._waiting else None

    def begin_anew(self) -> None:
        """The time of what it is at begins now: it was held up."""
        with self._lock:
            self._at = self._at and self._at._replace(since=monotonic())
            if self._launched:
                self._launched[0].since = monotonic()

    def delay(self, limit: float) -> str:
        """What it is too late with: completes 'it did not ...'."""
        if (at := self._at) is not None:
            return f"{at.what} within {PATIENCE:g} s"
        return f"end within {limit:g} s for each call that it was at (GpuBackend(time_limit=...))"

    def finish(self) -> Stuck:
        """Nothing is done here any more. What had begun, and all that had not."""
        with self._lock:
            self._is_over = True
            at, self._at = self._at, None
            launched = [each.works for each in self._launched]
            waiting = list(self._waiting)
            self._launched.clear()
            self._waiting.clear()
        guilty = launched.pop(0) if launched and at is None else [at.work] if at is not None and at.work else []
        others = [work for works in (*launched, waiting) for work in works if at is None or work is not at.work]
        return Stuck(guilty, others)
