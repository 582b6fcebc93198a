"""A call on its way through the pool, and the function it calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from hybrid_compute.calls import Call
from hybrid_compute.clock import Timer
from hybrid_compute.errors import NotTransferable
from hybrid_compute.links.codec import NOTHING, Loan

UNKNOWN = 1.0
"""Expected seconds of a function that has never been measured: nothing is put behind it."""

OVERHEAD = 2e-6
"""What a worker spends on any call besides running it."""


OVERHEAD_IN_BATCH = 0.4e-6
"""The same for one call of many in a frame."""


class Function:
    """A function that workers know by number, and what is known about its run time."""

    __slots__ = ("constant", "cost", "definition", "kind", "name", "number", "plain")

    def __init__(self, number: int, name: str, kind: str, definition: bytes, constant: bool) -> None:
        self.number = number
        self.name = name
        self.kind = kind
        self.definition = definition
        self.constant = constant
        self.plain = kind == "function"
        self.cost = UNKNOWN

    def cost_of(self, count: int) -> float:
        """Expected seconds a worker spends on `count` calls that travel in one frame."""
        if count == 1 or self.cost == UNKNOWN:
            return self.cost
        return count * (self.cost - OVERHEAD + OVERHEAD_IN_BATCH)

    def ran(self, seconds: float) -> None:
        """Learn from one measured run: quickly up, so that little waits behind it; slowly down."""
        cost = seconds + OVERHEAD
        if self.cost == UNKNOWN or cost > 4 * self.cost:
            self.cost = cost
        else:
            self.cost += (cost - self.cost) * 0.2


class Sink(Protocol):
    """Where the items of a stream go; it takes `window` items before it must ask for more."""

    window: int

    def item(self, value: Any) -> None: ...


class Answer(Protocol):
    """Where the outcome of a call goes: a future of asyncio, of `concurrent.futures`, or less."""

    def done(self) -> bool: ...

    def cancel(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


class _Over:
    """In place of an answer that has been given while its ticket was still in line."""

    def done(self) -> bool:
        return True

    def cancel(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        raise AssertionError("this call has been answered already")

    def set_exception(self, exception: BaseException, /) -> None:
        raise AssertionError("this call has been answered already")


OVER: Answer = _Over()


class Ticket(Call):
    """A call in the pool, with what the pool notes on it: its bytes, its place in line, who awaits the outcome.

    It is a call itself, and not something beside one, because thousands are made at once and each object counts.
    """

    function: Function
    future: Answer
    flags = 0
    body = b""
    loans: list[Loan] = NOTHING
    concurrent = False  # a coroutine or a generator: it lets others run beside it
    count = 1  # calls in it: more than one in a batch
    id = 0  # its number on the link it was sent on
    link: Any = None
    cost = 0.0
    attempts = 0
    in_line = False  # it waits in the queue, and counts there
    sink: Sink | None = None
    claim: Callable[[], bool] | None = None  # asked before it is sent: is it still wanted?
    timer: Timer | None = None
    patience: Timer | None = None
    asked: Call | None = None  # the call it was made for, if it was made for one

    @classmethod
    def of(cls, call: Call) -> Ticket:
        """A ticket for a call that somebody else has made, and may make again elsewhere."""
        ticket = cls(call.task, call.args, call.kwargs)
        ticket.asked = call
        ticket.timeout, ticket.deadline = call.timeout, call.deadline
        ticket.queue_timeout, ticket.priority = call.queue_timeout, call.priority
        return ticket

    def report(self) -> None:
        """Tell the call it was made for what was measured."""
        asked = self.asked
        if asked is not None:
            asked.ran, asked.queued, asked.sent, asked.received = self.ran, self.queued, self.sent, self.received


def unreadable(function: Function, error: BaseException) -> NotTransferable:
    reason = f"{type(error).__name__}: {error}"
    failure = NotTransferable(f"the result of task {function.name!r} cannot be read here: {reason}")
    failure.__cause__ = error
    return failure
