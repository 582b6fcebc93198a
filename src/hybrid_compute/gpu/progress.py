"""What a device has to do, and what it is at: noted by its thread, and asked by those who watch it.

    waiting ──> launched, launched ──> ended

The thread may be stuck in the driver for ever. So all works stand here, where others find them.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
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
    works: Sequence[Work]
    """For which it is done."""
    since: float
    alone: bool
    """Whether nobody hears meanwhile that a frame has come to its end."""


class Stuck(NamedTuple):
    """What a device leaves that was given up."""

    guilty: Sequence[Work]
    """With the device when it did not come to an end: one of them is to blame."""
    others: Sequence[Work]
    """Those that it had not begun."""
    why: str
    """What it did not do: completes 'it did not ...'."""


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
    def doing(self, what: str, works: Sequence[Work] = (), *, alone: bool = True) -> Generator[None]:
        """In this block it is at something that may take the driver long; `what` completes 'it did not ...'."""
        with self._lock:
            self._at = At(what, works, monotonic(), alone)
        try:
            yield
        finally:
            with self._lock:
                self._at = None
            if alone:
                self.begin_anew()

    def replace(self, work: Work, parts: Iterable[Work]) -> bool:
        """It is done in parts. False if it is not ours any more."""
        with self._lock:
            is_ours = self._waiting.pop(work, self) is not self
            if is_ours:
                self._waiting = {**dict.fromkeys(parts), **self._waiting}
            return is_ours

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
            times = [until - monotonic() for until, _, _ in self._ends(limit)]
            return min(times, default=limit if self._waiting else None)

    def _ends(self, limit: float) -> Iterator[tuple[float, Sequence[Work], str]]:
        """What it is at: until when it may be, for which works, and what it did not do if it still is by then."""
        at = self._at
        if at is not None and (at.alone or not self._launched):
            yield at.since + PATIENCE, at.works, f"{at.what} within {PATIENCE:g} s"
        elif self._launched:
            first = self._launched[0]  # what the thread is at may wait for the end of it, or keep it from being heard
            why = f"end within {limit:g} s for each call that it was at (GpuBackend(time_limit=...))"
            yield first.since + first.time(limit), [*first.works, *(at.works if at is not None else ())], why

    def begin_anew(self) -> None:
        """The time of what it is at begins now: it was held up."""
        with self._lock:
            self._at = self._at and self._at._replace(since=monotonic())
            if self._launched:
                self._launched[0].since = monotonic()

    def give_up(self, limit: float | None = None) -> Stuck | None:
        """Nothing is done here any more. What had begun, and all that had not; with a limit, only if that is over."""
        with self._lock:
            ends = list(self._ends(limit or 0.0))
            late, guilty, why = min(ends, key=lambda end: end[0], default=(math.inf, (), ""))
            if self._is_over or (limit is not None and late > monotonic()):
                return None
            self._is_over = True
            launched = [work for each in self._launched for work in each.works]
            blamed = set(guilty)
            others = [work for work in (*launched, *self._waiting) if work not in blamed]
            self._at = None
            self._launched.clear()
            self._waiting.clear()
            return Stuck(guilty, others, why)
