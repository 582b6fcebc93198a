"""Leases: a thread that waits for its call anyway uses an idle worker itself, with no event loop in between.

The thread takes the link out of the pool's idle ones, writes the call, and waits for the reply in `read`. What takes
microseconds here is the interpreter, not the pipe: hence `leaser` makes one flat closure per function, in which all
that is the same for each call has been looked up before. Whatever is not one small result in one read leaves it for
the functions below, and anything to do with death goes back to the event loop.
"""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from hybrid_compute.backends.queue import Queue
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendClosed, NotTransferable
from hybrid_compute.links.arena import Arena, NoMemory
from hybrid_compute.links.codec import NOTHING, READING_FAILED, Loan, copied_for, encode
from hybrid_compute.links.frames import CALL, HEADER, READ_SIZE, REPLY, RESULT, SIZE
from hybrid_compute.links.layouts import ATOMS
from hybrid_compute.links.link import BUSY, Link
from hybrid_compute.links.ticket import Function, Ticket, unreadable

NO_WORKER = object()
"""In place of a result: no idle worker, or not a call for a lease; go the ordinary way."""

PLAIN_CALL = CALL << 56
PLAIN_RESULT = RESULT << 56
LONGEST = 1 << 15
"""Bytes of a call: an idle pipe takes as much in one write, without blocking."""


class Pool(Protocol):
    """What leases need of the pool that they are on."""

    name: str
    closed: str
    idle: deque[Link]
    queue: Queue
    most_calls: int
    calls: int
    arena: Arena

    @property
    def here(self) -> bool: ...

    def other_reply(self, link: Link, kind: int, number: int, ran: float, body: bytes) -> int: ...

    def post(self, link: Link, serial: int, *, spoiled: bool) -> None: ...


class Leases:
    """The leases on the links of one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()

    def leaser(self, call: Call, function: Function) -> Callable[[tuple[Any, ...]], Any]:
        """A function from arguments to the result of `function` on an idle worker, or to `NO_WORKER`.

        After each call, `call` holds what was measured.
        """
        pool = self._pool
        idle, queue = pool.idle, pool.queue
        dumps, loads, write, read, end = pickle.dumps, pickle.loads, os.write, os.read, self._end
        pack, unpack, atoms, number = HEADER.pack, REPLY.unpack_from, ATOMS, function.number
        next_idle = iter(idle.pop, None)

        def lease(args: tuple[Any, ...]) -> Any:
            if queue.length or not idle:
                return NO_WORKER
            kind, loans = PLAIN_CALL, NOTHING
            for value in args:
                if type(value) not in atoms:
                    try:
                        flags, body, loans = encode(args, pool.arena)
                    except NotTransferable:  # the ordinary way says it in full
                        return NO_WORKER
                    kind |= flags << 56
                    break
            else:
                body = dumps(args, 5)
            size = len(body)
            if size > LONGEST:
                return NO_WORKER
            try:
                # A link that is neither idle nor leased would be lost for good. A step of a `for` and an assignment
                # leave neither an interrupt nor another thread an opening, which a call of `pop` would.
                for link in next_idle:
                    link.leased = serial = link.last_call + 1
                    break
                else:
                    return NO_WORKER
            except IndexError:
                return NO_WORKER
            try:
                if number not in link.known or link.calls < 0 or (loans and not _held(link, loans)):
                    end(link, serial, 0)
                    return NO_WORKER
                link.last_call = serial
                link.load = BUSY  # what is leased is nobody else's to place calls on
                data = pack(size | kind, serial, number) + body
                if link.loans.due:
                    data = link.loans.take_returns() + data
                try:
                    if write(link.calls, data) == len(data):
                        reply = read(link.replies, READ_SIZE)
                    else:
                        reply = b""  # it has not even read what it was told before
                except OSError:
                    reply = b""
                if len(reply) < SIZE or (head := unpack(reply)[0]) != len(reply) - SIZE | PLAIN_RESULT:
                    return self._finish(link, _ticket(call, args, function, kind, body, loans), serial, reply)
                end(link, serial)
                call.ran, call.sent, call.received = unpack(reply)[2], size, head & 0xFFFF
                if loans:
                    call.sent += copied_for(loans)
            except BaseException as error:
                if not isinstance(error, Exception):  # an interrupt: unless it is back, nobody will read that reply
                    pool.post(link, serial, spoiled=link.leased == serial)
                raise
            try:
                return loads(reply[SIZE:])
            except READING_FAILED as error:
                raise unreadable(function, error) from error

        return lease

    def holds(self, link: Link, code: int | None) -> bool:
        """In the loop: the worker of this link has gone. Whether a thread has leased it, and will bring it back."""
        with self._lock:
            link.exit = (code,)
            try:
                self._pool.idle.remove(link)  # from here on no thread leases it
            except ValueError:
                return link.leased != 0
            return False

    def _end(self, link: Link, serial: int, answered: int = 1) -> None:
        """Bring the link back, or have the loop do so if there is more to be done about it."""
        pool = self._pool
        link.load = 0.0
        link.served += answered
        pool.calls += answered
        with self._lock:
            if link.exit is None and serial < pool.most_calls:
                link.leased = 0
                pool.idle.append(link)
                if not pool.queue.length:
                    return
        pool.post(link, serial, spoiled=False)

    def _finish(self, link: Link, ticket: Ticket, serial: int, reply: bytes) -> Any:
        """Go on reading until the call is answered, and give its outcome."""
        slot: Any = ticket.future
        ticket.id, ticket.link = serial, link
        ticket.sent = len(ticket.body) + copied_for(ticket.loans)
        link.sent[serial] = ticket
        while reply and not self._take(link, reply):
            reply = os.read(link.replies, READ_SIZE)
        if not reply:
            return self._lost(link, ticket)
        self._end(link, serial)
        ticket.report()
        if slot.error is not None:
            raise slot.error
        return slot.value

    def _take(self, link: Link, data: bytes) -> bool:
        """Deal with bytes read; True once the call is answered."""
        for kind, number, ran, body in link.frames.feed(data):
            if kind != RESULT:
                self._pool.other_reply(link, kind, number, ran, body)
                continue
            ticket = link.sent.pop(number)
            ticket.ran, ticket.received = ran, len(body)
            ticket.function.ran(ran)
            try:
                ticket.future.set_result(pickle.loads(body))
            except READING_FAILED as error:
                ticket.future.set_exception(unreadable(ticket.function, error))
        return not link.sent

    def _lost(self, link: Link, ticket: Ticket) -> Any:
        """The worker died: the loop settles it as it does for any other call, and this thread takes the verdict."""
        if self._pool.here:
            self._pool.post(link, ticket.id, spoiled=True)
            raise RuntimeError("a blocking call from the runtime's own event loop would wait for itself for ever")
        verdict: concurrent.futures.Future[Any] = concurrent.futures.Future()
        ticket.future = verdict
        self._pool.post(link, ticket.id, spoiled=False)
        while not concurrent.futures.wait([verdict], 1.0).done:
            if self._pool.closed:  # and its loop may have stopped before it got to this
                raise BackendClosed(self._pool.closed, backend=self._pool.name, started=link.started >= ticket.id)
        ticket.report()
        return verdict.result()


def _held(link: Link, loans: list[Loan]) -> bool:
    """Show the worker the memory of a call; False if it cannot be shown now."""
    try:
        link.loans.hold(loans)
    except NoMemory:
        return False
    return True


def _ticket(call: Call, args: tuple[Any, ...], function: Function, kind: int, body: bytes, loans: list[Loan]) -> Ticket:
    """What the lease has done without so far, because it is needed only where something is out of the ordinary."""
    ticket = Ticket(call.task, args)
    ticket.asked = call
    ticket.function, ticket.future = function, _Slot()
    ticket.flags, ticket.body, ticket.loans = kind >> 56, body, loans
    return ticket


class _Slot:
    """The least that can stand for a future: for a thread that waits itself, and is the only one to look."""

    __slots__ = ("error", "value")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.value: Any = None

    def set_result(self, result: Any, /) -> None:
        self.value = result

    def set_exception(self, exception: BaseException, /) -> None:
        self.error = exception

    def done(self) -> bool:
        return False

    def cancel(self) -> bool:
        return False
