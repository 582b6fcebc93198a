"""Many calls of one function in few frames: what `map` is made of.

The inputs go out in chunks of about `CHUNK` seconds of expected work, a few chunks per worker at a time, and one
future stands for all of them. Chunks start at one call and grow as the function gets known.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

from hybrid_compute.backends.pool import Pool
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendError
from hybrid_compute.links.arena import LARGE, Arena
from hybrid_compute.links.codec import NOTHING, encode
from hybrid_compute.links.frames import CALL, MANY, PICKLES
from hybrid_compute.links.layouts import ATOMS
from hybrid_compute.links.ticket import UNKNOWN, Function, Ticket

CHUNK = 0.4e-3
LARGEST = 1000
PER_WORKER = 3


class Batch:
    """One `map` in progress."""

    def __init__(
        self,
        pool: Pool,
        arena: Arena,
        call: Call,
        function: Function,
        inputs: Sequence[tuple[Any, ...]],
        limit: int | None,
    ) -> None:
        self._pool = pool
        self._arena = arena
        self._call = call
        self._function = function
        self._inputs = inputs
        self._limit = limit or len(inputs)
        self._results: list[Any] = [None] * len(inputs)
        self._next = 0
        self._done = 0
        self._tickets: set[Ticket] = set()
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> list[Any]:
        """All results in order, or the first failure; nothing is left running either way."""
        if not self._inputs:
            return []
        try:
            self._feed()
            await self._finished
        finally:
            for ticket in list(self._tickets):
                self._pool.withdraw(ticket)
        return self._results

    def _feed(self) -> None:
        """Send chunks until enough are on their way."""
        while self._next < len(self._inputs) and len(self._tickets) < PER_WORKER * self._pool.size:
            on_their_way = self._next - self._done
            room = self._limit - on_their_way
            if room <= 0:
                return
            remaining = len(self._inputs) - self._next
            count = min(room, chunk_size(self._function, remaining, self._pool.size), self._pool.most_calls)
            self._send(self._next, count)

    def _send(self, start: int, count: int) -> None:
        kind, body, loans, count = pack(self._inputs[start : start + count], self._arena)
        call = self._call
        future: asyncio.Future[Any] = self._finished.get_loop().create_future()
        ticket = Ticket(call.task)
        ticket.timeout, ticket.deadline, ticket.priority = call.timeout, call.deadline, call.priority
        ticket.function, ticket.future, ticket.count = self._function, future, count
        if count == 1:
            ticket.args = self._inputs[start]  # it may have to be sent in another way
        ticket.flags, ticket.body, ticket.loans = kind, body, loans
        self._next = start + count
        self._tickets.add(ticket)
        future.add_done_callback(partial(self._received, ticket, start, kind & MANY == MANY))
        self._pool.submit(ticket)

    def _received(self, ticket: Ticket, start: int, many: bool, future: asyncio.Future[Any]) -> None:
        self._tickets.discard(ticket)
        if future.cancelled():
            return
        error = future.exception()
        if self._finished.done():
            return
        if error is not None:
            self._fail(error)
            return
        self._results[start : start + ticket.count] = future.result() if many else [future.result()]
        self._call.sent += ticket.sent
        self._call.received += ticket.received
        self._done += ticket.count
        if self._done == len(self._inputs):
            self._finished.set_result(None)
            return
        try:
            self._feed()
        except Exception as refused:
            if not self._finished.done():
                self._fail(refused)

    def _fail(self, error: BaseException) -> None:
        """One chunk's error is the error of all, and has begun if any of them has: nothing may run twice."""
        if isinstance(error, BackendError) and (self._done or any(map(self._pool.has_begun, self._tickets))):
            error.started = True
        self._finished.set_exception(error)


def chunk_size(function: Function, remaining: int, workers: int) -> int:
    """How many calls to put in the next frame: about `CHUNK` seconds of work; at the end a share for each."""
    if function.cost == UNKNOWN:
        return 1
    wanted = int(CHUNK / function.cost_of(2) * 2)
    share = -(-remaining // (2 * workers))
    return max(1, min(wanted, share, LARGEST))


def pack(inputs: Sequence[tuple[Any, ...]], arena: Arena | None) -> tuple[int, bytes, list[Any], int]:
    """`(kind, body, loans, how many inputs it holds)`.

    Values without references share one pickle; others get one each, so that no two calls see the same object. An
    input with a large buffer travels alone, by shared memory.
    """
    if len(inputs) > 1 and set(map(type, chain.from_iterable(inputs))) <= ATOMS:
        return MANY, pickle.dumps(inputs, 5), NOTHING, len(inputs)
    pickles: list[bytes] = []
    for each in inputs:
        flags, body, loans = encode(each, arena)
        if flags or len(body) >= LARGE:
            if not pickles:
                return CALL | flags, body, loans, 1
            break
        pickles.append(body)
    if len(pickles) == 1:
        return CALL, pickles[0], NOTHING, 1
    return MANY | PICKLES, pickle.dumps(pickles, 5), NOTHING, len(pickles)
