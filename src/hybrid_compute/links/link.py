"""The parent's end of one worker: what it was sent, what it knows, how busy it is.

The state here is plain data that the pool decides by; how bytes move is the business of the two kinds of link,
`PipeLink` (Linux) and `SpawnedLink` (everywhere).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from hybrid_compute.links.child import STAGE, STEP, STEP_BITS
from hybrid_compute.links.frames import REPLY, Frames
from hybrid_compute.links.loans import Loans

if TYPE_CHECKING:
    from hybrid_compute.links.ticket import Ticket

BUSY = float("inf")


class Link(ABC):
    """One worker, seen from the parent.

    `load` is the expected work sent and not yet answered, in seconds; `sent` holds its tickets in the order sent.
    `started` is the number of the last call that the worker began, true even after its death.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.frames = Frames(REPLY)
        self.sent: dict[int, Ticket] = {}
        self.known: set[int] = set()
        self.loans: Loans
        self.ledger: memoryview  # words that the worker writes, see `child.py`
        self.load = 0.0
        self.concurrent = 0  # coroutines and streams among the sent: they share the worker with others
        self.last_call = 0
        self.served = 0
        self.in_service = True
        self.watched = False
        self.active = False  # the loop has calls on it
        self.calls = self.replies = -1  # descriptors, where a thread may use them itself
        self.leased = 0  # the call whose reply a thread reads itself
        self.setup_failure: Exception | None = None
        self.exit: tuple[int | None] | None = None  # its exit code, once it has gone
        self.why_stopped = ""

    @property
    @abstractmethod
    def started(self) -> int: ...

    @property
    def stage(self) -> int:
        """How far the worker came: `LISTENING`, then `SET_UP` if there was a set-up. True even after its death."""
        return int(self.ledger[STAGE])

    def step_of(self, call: int) -> int:
        """Which part of its work a call has begun; 0 if it has not said so. True even after the worker's death."""
        of, number = divmod(int(self.ledger[STEP]), 1 << STEP_BITS)
        return number if of == call else 0

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The worker's process id, None until it is known."""

    @abstractmethod
    def watch(self, received: Callable[[Link, bytes], None]) -> None:
        """Call `received` with bytes as they come, and with b"" once the worker's end has closed."""

    def unwatch(self) -> None:  # noqa: B027  # only links that can be leased have a use for it
        """Stop calling, because somebody else reads the replies for a while."""

    def wait(self, seconds: float) -> None:  # noqa: B027  # nothing to gain where replies come by way of a thread
        """Wait for a reply, and hand it over if it comes that soon."""

    @abstractmethod
    def hold(self, seconds: float) -> None:
        """The same for as long as it takes, while the event loop is held up: at most so many seconds."""

    @abstractmethod
    def drain(self) -> None:
        """Hand over whatever the worker wrote before it died."""

    def ignore(self) -> None:
        """Nobody reads what it still says: half of that may be gone, and nobody asks for the rest."""
        self.sent.clear()

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Write, without ever blocking; what the pipe does not take now follows later, in order."""

    @abstractmethod
    def ring(self) -> None:
        """Tell the worker that a CANCEL frame is on its way, ahead of the calls it has read already."""

    @abstractmethod
    def kill(self) -> None:
        """Stop the process at once."""

    @abstractmethod
    def close(self) -> None:
        """Close this end; a worker that is idle leaves by itself. Harmless when repeated."""

    def __repr__(self) -> str:
        state = "in service" if self.in_service else self.why_stopped or "stopped"
        return f"<worker {self.number}: {state}, {len(self.sent)} calls, pid {self.pid}>"
