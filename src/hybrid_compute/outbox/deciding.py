"""What to do after a call was sent, and whether the place can be reached: decisions, and nothing that acts on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    BackendUnavailable,
    ConnectionLost,
    HybridComputeError,
    LimitExceeded,
    NoBackendAvailable,
    OutcomeUnknown,
    PolicyRefused,
    ProtocolError,
)
from hybrid_compute.outbox.entries import DIED, Again, Claimed, Outcome, Verdict

AWAY: Final = (BackendUnavailable, ConnectionLost, BackendClosed)
"""Errors of a place that cannot be reached: other calls need not try it now."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between tries, in seconds: `first`, twice that, and so on up to `most`.

    Each is up to a `jitter`th part longer or shorter, so that many programs do not come back at the same moment.
    """

    first: float = 1.0
    most: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.most or not 0 <= self.jitter < 1:
            raise ValueError(f"pauses grow from a positive first to the most, with a jitter below 1: not {self}")

    def pause(self, failures: int, chance: float) -> float:
        """The pause after so many failures in a row; `chance` is between 0 and 1.

        >>> [Backoff(jitter=0).pause(failures, 0.5) for failures in (1, 2, 3, 9)]
        [1.0, 2.0, 4.0, 30.0]
        """
        pause = min(self.most, self.first * 2.0 ** min(failures - 1, 60))
        return pause * (1 + self.jitter * (2 * chance - 1))


def judge(error: BaseException, call: Claimed, *, repeatable: bool) -> Verdict:
    """What becomes of a call that ended with this error. `repeatable`: it may be sent again though it has begun.

    Four cases. The place did not begin: again, which uses up no try if the place was away or full. It may have begun:
    again if it is repeatable, else nobody knows. Something is in the way that time will not heal: somebody should look.
    The task itself failed: that is its outcome.
    """
    match error:
        case OutcomeUnknown() | PolicyRefused() | ProtocolError():
            return Outcome.of_error("dead", error)
        case BackendError(started=True) if not repeatable:
            return nobody_knows(str(error))
        case BackendError(started=False) if isinstance(error, (*AWAY, LimitExceeded)):
            return _again(error, call, counts=False)
        case BackendError():
            return _again(error, call, counts=True)
        case NoBackendAvailable():  # of a runtime, which does not ask a place that it knows to be away
            return Again(True, False, error.code, str(error))
        case HybridComputeError():
            return Outcome.of_error("failed", error)
        case _:
            bug = f"the place failed in a way of its own: {type(error).__name__}: {error}"
            return Outcome.of_error("dead", BackendError(bug, started=True))


def _again(error: HybridComputeError, call: Claimed, *, counts: bool) -> Verdict:
    if counts and call.tries >= call.most:
        return Outcome.of_error("dead", error, f"given up after {call.tries} tries: {error}")
    return Again(isinstance(error, AWAY), counts, error.code, str(error))


def orphaned(call: Claimed, *, repeatable: bool) -> Verdict:
    """What becomes of a call whose sender died."""
    if not repeatable:
        return nobody_knows(DIED.reason)
    if call.tries >= call.most:
        lost = ConnectionLost(started=True)
        return Outcome.of_error("dead", lost, f"given up after {call.tries} tries: each time its sender died")
    return DIED


def nobody_knows(why: str) -> Outcome:
    """The end of a call that may have been done, and may not be sent again."""
    reason = f"{why}; the call may have been done, and it is neither pure nor sent to a place that remembers keys"
    return Outcome.of_error("dead", OutcomeUnknown(reason, started=True))


@dataclass(slots=True)
class Reach:
    """Whether the place can be reached, as far as its last answers tell.

    While it is there, calls go to it up to the limit. While it is away they go one at a time, each after a longer
    pause; the first that is answered opens the door for all.
    """

    backoff: Backoff
    failures: int = 0
    opens: float = 0.0

    def answered(self) -> bool:
        """The place has answered a call; whether that is news."""
        news = self.failures > 0
        self.failures = 0
        return news

    def failed(self, now: float, chance: float, *, probe: bool) -> None:
        """A call found the place away. What was sent while it was thought to be there fails together, as one."""
        if probe or not self.failures:
            self.failures += 1
            self.opens = now + self.backoff.pause(self.failures, chance)

    def probing(self, now: float, chance: float) -> None:
        """A call goes out to see whether the place is back. The next one waits, but not until this one ends."""
        self.opens = now + self.backoff.pause(self.failures, chance)

    def room(self, now: float, under_way: int, limit: int) -> int:
        """How many calls may be sent now."""
        if not self.failures:
            return max(0, limit - under_way)
        return int(now >= self.opens and under_way < limit)
