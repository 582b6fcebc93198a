"""What holds a guest that runs: any thread can tell it to stop, and why."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

NEVER = float("inf")


class Leash:
    """What holds one call: why it is to stop, if it is; until when it may run; and how to make it look.

    Any thread may `stop` it, before it begins, while it runs, or after: then nothing happens.
    """

    __slots__ = ("_deadline", "_passed", "error", "late", "thread", "tick", "until")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._deadline = NEVER
        self._passed: Callable[[], BaseException] = _impossible
        self.until = NEVER  # of what runs now
        self.late = _impossible
        self.tick: Callable[[], object] | None = None
        self.thread = 0  # in which it runs: in the main thread, signals are handled

    def limit(self, deadline: float, passed: Callable[[], BaseException]) -> None:
        """Have it end with this error at `deadline`, by `time.monotonic`, however often it begins."""
        self._deadline, self._passed = deadline, passed

    def begin(self, until: float, late: Callable[[], BaseException]) -> None:
        """A guest begins that may run `until` then, and no longer than the deadline."""
        if self._deadline <= until:
            until, late = self._deadline, self._passed
        self.until, self.late = until, late

    def stop(self, error: BaseException) -> None:
        """Have the guest end with this error, if it has not ended yet."""
        self.fail(error)
        if self.tick is not None:
            self.tick()

    def fail(self, error: BaseException) -> None:
        """It ends anyway: with this error, if there is none yet."""
        if self.error is None:
            self.error = error

    def taken(self) -> BaseException | None:
        """The error, which is raised now and never again."""
        error, self.error = self.error, None
        return error

    def may_go_on(self) -> bool:
        """Whether the guest that asks may continue; if not, `error` says why."""
        if self.error is None and monotonic() >= self.until:
            self.error = self.late()
        return self.error is None


def _impossible() -> BaseException:
    return AssertionError("the end of time has come")
