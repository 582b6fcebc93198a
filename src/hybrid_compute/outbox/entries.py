"""What an outbox says of the calls it keeps: plain values, which travel between its thread, its loop and the command.

put ──> waiting ──> sent ──> done, failed
           ^          │
           ├──────────┘      the place is away, or was lost: again later
           ├──> expired      its time was up before it could be sent
           └──> dead         given up, and somebody should look at it; `retry` makes it wait again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from hybrid_compute.errors import HybridComputeError
from hybrid_compute.links.told import tell
from hybrid_compute.links.wire import Failure

State: TypeAlias = Literal["waiting", "sent", "done", "failed", "dead", "expired"]
STATES: Final[Sequence[State]] = get_args(State)
GIVEN_UP: Final[Sequence[State]] = ("dead", "expired")
"""The dead letters: these calls stay until somebody retries or drops them."""
AT_ONCE: Final = 0.0
"""When a call is due that need not wait: before any time that a clock may show."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A call as it is put. `input` is MessagePack, empty if the task is given none; `expires` a time of the day."""

    key: str
    task: str
    input: bytes
    priority: int = 0
    tries: int = 10
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """How it stands with one call.

    `tries` counts how often it was sent, up to `most`; a place that could not be reached does not count. `reason` says
    what went wrong last, and `code` what kind of error that was. Times are seconds since 1970: when it was `put`, when
    it `expires`, when it is `due` to be sent next (0: at once), when it `ended`, and when its outcome was first
    `fetched`.
    """

    key: str
    task: str
    state: State
    priority: int
    tries: int
    most: int
    put: float
    due: float
    expires: float | None
    ended: float | None
    fetched: float | None
    code: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A call that this sender, and no other, is to send now. `sent_as` is the key that the place sees."""

    key: str
    sent_as: str
    task: str
    input: bytes
    priority: int
    tries: int
    most: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call: for `done` the result, and else the details of the failure, both MessagePack."""

    state: State
    body: bytes = b""
    code: str | None = None
    reason: str = ""
    fetched: bool = False

    @classmethod
    def of_error(cls, state: State, error: HybridComputeError, reason: str | None = None) -> Outcome:
        """A call that ends with this error, which reads as `reason` if that says more."""
        failure = tell(error, tracebacks=True)  # the file is its owner's own
        details = _writer.encode(failure.details)
        return cls(state, details, failure.code, failure.error if reason is None else reason)

    @property
    def failure(self) -> Failure:
        """The failure as a client would be told of it."""
        details: Mapping[str, object] = msgspec.msgpack.decode(self.body) if self.body else {}
        return Failure(self.reason, self.code or HybridComputeError.code, dict(details))


@dataclass(frozen=True, slots=True)
class Again:
    """A call is to be sent again. `away`: the place is to blame. `counts`: one of the call's tries is used up."""

    away: bool
    counts: bool
    code: str | None
    reason: str


Verdict: TypeAlias = Again | Outcome
DIED: Final = Again(False, True, None, "the program that sent it died before the answer came")


_writer = msgspec.msgpack.Encoder()
