"""The pool: a line of tickets, the links to the workers, and the moves between them.

    submit ── idle worker? ── yes ──> sent at once
                  └─ no ─> queue ──> placed once per turn of the event loop, many tickets in one write

    a reply      resolves its ticket; the link takes more, or rests
    a death      each ticket on the link ends exactly once: not begun -> back in line, first; begun -> WorkerLost
    a deadline   in line: dropped.  On a link, not begun: called back.  Running: the worker is killed and replaced

Everything here happens in the event loop's thread, except for leases: a thread that takes an idle link out of `idle`
owns it until it puts it back. Choices are made in `placing.py`; workers come and go in `crew.py`.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from hybrid_compute.backends.crew import Crew, Lifetime, Nursery, exit_text
from hybrid_compute.backends.leases import Leases
from hybrid_compute.backends.placing import PACK, budget, pack_on, read_ahead_on, share_with, should_start
from hybrid_compute.backends.queue import Queue, QueueLimits
from hybrid_compute.clock import Alarms, Clock
from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    BackendUnavailable,
    LimitExceeded,
    NotTransferable,
    TaskTimeout,
    WorkerLost,
)
from hybrid_compute.events import Hooks
from hybrid_compute.links import frames
from hybrid_compute.links.arena import Arena, NoMemory
from hybrid_compute.links.child import LISTENING
from hybrid_compute.links.codec import READING_FAILED, copied_for, decode, decode_failure, descriptors_in, dumps, encode
from hybrid_compute.links.frames import HEADER, KIND, RESULT
from hybrid_compute.links.link import BUSY, Link
from hybrid_compute.links.ticket import OVER, Answer, Ticket, unreadable

GRACE = 0.25
"""Seconds a cancelled coroutine or generator has to wind up before its worker is killed, with all that it shares it
with. On a busy machine it may be a while until a worker so much as hears of it."""

WAIT_HERE = 100e-6
"""Seconds that a caller waits for a quick reply without a turn of the event loop."""

TURNS = 16
"""One call of so many gives the loop its turn all the same."""

MANY_COROUTINES = 100
"""Coroutines and streams that share a worker before another one is looked for."""

LEARN = 7
"""Of replies that come in one read, one in `LEARN + 1` is learned from, besides any that took longer than expected."""

MOST_WORKERS_LOST = 4
"""Workers that one call may lose and still be sent again: bad luck does not strike five times."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment. `lost` counts workers that died or were killed, `started` all there ever were."""

    workers: int
    idle: int
    queued: int
    running: int
    calls: int
    started: int
    lost: int


class Pool:
    """Workers of one backend, in one event loop."""

    def __init__(
        self,
        name: str,
        size: int,
        nursery: Nursery,
        arena: Arena,
        *,
        clock: Clock,
        hooks: Hooks,
        limits: QueueLimits,
        lifetime: Lifetime,
        ping: Callable[[Answer], Ticket],
        setup: bytes,
        lazy_watch: bool,
    ) -> None:
        self.name = name
        self.size = size
        self.arena = arena
        self.hooks = hooks
        self.queue = Queue(limits)
        self.closed = ""
        self.calls = 0
        self.crew = Crew(
            name,
            nursery,
            clock=clock,
            hooks=hooks,
            lifetime=lifetime,
            setup=setup,
            received=self._received,
            lazy_watch=lazy_watch,
        )
        self.links, self.idle, self.most_calls = self.crew.links, self.crew.idle, self.crew.most_calls
        self.leases = Leases(self)
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._alarms = Alarms(clock)
        self._ping = ping
        self._lazy_watch = lazy_watch  # an idle link is read by nobody
        self._active = 0
        self._flush_due = False
        self._forgotten: deque[int] = deque()
        # What the loop would run next; asyncio lets it be seen, uvloop does not.
        self._others_ready: Any = getattr(self._loop, "_ready", None)
        self._last_to_wait: asyncio.Task[Any] | None = None
        self._waited_here = 0
        self._handing_over = False

    # Asking.

    def submit(self, ticket: Ticket) -> None:
        """Take a ticket in; its future is resolved exactly once, whatever happens. Raises `BackendClosed`."""
        if self.closed:
            raise BackendClosed(self.closed, backend=self.name)
        if ticket.deadline is not None and ticket.timer is None:
            ticket.timer = self._alarms.call_at(ticket.deadline, partial(self._late, ticket))
        if (
            self.idle
            and not self.queue.length
            and ticket.claim is None
            and (not self._active or ticket.function.cost > 2 * PACK)
        ):
            try:
                link = self.idle.pop()
            except IndexError:  # leased by a thread in this very moment
                pass
            else:
                self._write(link, self._frames(link, ticket))
                return
        if ticket.queue_timeout is not None and ticket.patience is None:
            self._be_patient(ticket, ticket.queue_timeout)
        ticket.queued = True
        self.queue.push(ticket)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    async def submit_when_there_is_room(self, ticket: Ticket, future: asyncio.Future[Any]) -> None:
        """`submit` where the line is full. The time of a call, and its patience, count while it waits for room."""
        if ticket.deadline is not None:
            ticket.timer = self._alarms.call_at(ticket.deadline, partial(self._late, ticket))
        if ticket.queue_timeout is not None:
            self._be_patient(ticket, ticket.queue_timeout)
        async with self.queue.room(unless=future):
            if not future.done():
                self.submit(ticket)

    def _be_patient(self, ticket: Ticket, seconds: float) -> None:
        ticket.patience = self._alarms.call_at(self._clock.time() + seconds, partial(self._impatient, ticket))

    def wait_here(self, ticket: Ticket) -> None:
        """Wait a moment for a quick reply, if the event loop would only wait as well.

        It saves a turn of the loop, which costs as much as the pipe itself. Now and then the loop gets its turn all
        the same, so that other descriptors are seen.
        """
        link: Link | None = ticket.link
        if link is None or self._active > 1 or len(link.sent) != 1 or ticket.function.cost > PACK:
            return
        if self._others_ready is None:
            # This loop does not show what it would run next. One task that makes call after call waits alone.
            task, self._last_to_wait = self._last_to_wait, asyncio.current_task()
            if task is not self._last_to_wait:
                return
        elif self._others_ready:
            return
        self._waited_here += 1
        if self._waited_here % TURNS:
            link.wait(WAIT_HERE)

    @property
    def can_hold(self) -> bool:
        """Whether replies may be waited for here: not while some are handed over, which come before them."""
        return not self._handing_over

    def hold(self, ticket: Ticket, seconds: float) -> None:
        """Wait for an answer in the thread of the event loop, and hold that up; or until only the loop could help."""
        end = time.monotonic() + seconds
        self._flush()
        while not ticket.future.done() and (left := end - time.monotonic()) > 0:
            link = ticket.link or next((each for each in self.links.values() if each.sent), None)
            if link is None or not link.in_service:
                return
            link.hold(left)
        if ticket.deadline is not None and ticket.deadline <= self._clock.time():
            self._late(ticket)

    def step(self, ticket: Ticket) -> int:
        """Which part of its work a call has begun, counted from 1; 0 if it has not begun."""
        return 0 if ticket.link is None else ticket.link.step_of(ticket.id)

    def expire(self, ticket: Ticket, seconds: float) -> None:
        """Its time is up, after so many seconds: whoever set it no deadline has looked at the clock instead."""
        ticket.timeout = seconds
        self._late(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """Its asker has gone. A running call is stopped; one not begun never begins."""
        ticket.future.cancel()
        stop = partial(self._stop, ticket, "its call was cancelled")
        if self.here:
            stop()
            return
        try:
            self._loop.call_soon(stop)  # `asyncio.run` cancels what is left between two turns of the loop
        except RuntimeError:  # it is closed: the workers have gone, or go with the pool
            pass

    def grant(self, ticket: Ticket, credit: int) -> None:
        """The reader of a stream takes `credit` more items."""
        link: Link | None = ticket.link
        if link is not None and ticket.id in link.sent:
            more = frames.frame(frames.CREDIT, ticket.id, credit)
            link.send(link.loans.take_returns() + more if link.loans.due else more)

    def forget(self, number: int) -> None:
        """A function has gone: workers need not remember it. Called from finalisers, hence only noted here."""
        self._forgotten.append(number)

    async def warm_up(self, count: int) -> None:
        """Start workers until there are `count`, and wait until each has answered. Raises `BackendClosed`."""
        if self.closed:
            raise BackendClosed(self.closed, backend=self.name)
        while len(self.links) < min(count, self.size):
            self.crew.rest(self.crew.start())
        fresh = [link for link in self.links.values() if not link.served]
        await asyncio.gather(*(answer for link in fresh if (answer := self._greet(link)) is not None))
        # One may have answered before the template could say which process it is; that is on its way.
        while any(link.pid is None for link in self.links.values() if link.in_service):  # noqa: ASYNC110
            await asyncio.sleep(0)

    def _greet(self, link: Link) -> asyncio.Future[Any] | None:
        try:
            self.idle.remove(link)
        except ValueError:  # at work, perhaps for a thread
            return None
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._write(link, self._frames(link, self._ping(answer)))
        return answer

    def stats(self) -> PoolStats:
        crew, running = self.crew, sum(len(link.sent) for link in list(self.links.values()))  # from any thread
        return PoolStats(len(crew.links), len(crew.idle), len(self.queue), running, self.calls, crew.started, crew.lost)

    @property
    def here(self) -> bool:
        """Whether this is the thread of the event loop."""
        return asyncio._get_running_loop() is self._loop

    def post(self, link: Link, serial: int, *, spoiled: bool) -> None:
        """From a thread whose lease has ended: see to the link, or to the line, in the loop."""
        try:
            self._loop.call_soon_threadsafe(partial(self._end_lease, link, serial, spoiled=spoiled))
        except RuntimeError:  # the loop is closed, and the link with it
            pass

    # Placing.

    def _flush(self) -> None:
        """Give waiting tickets to workers until the line is empty or every worker has enough."""
        self._flush_due = False
        while (ticket := self.queue.head()) is not None and (link := self._place(ticket)) is not None:
            self._fill(link, ticket)

    def _place(self, ticket: Ticket) -> Link | None:
        cost = ticket.function.cost_of(ticket.count)
        links = self.links.values()
        if not ticket.concurrent and (link := pack_on(links, cost)) is not None:
            return link
        if self.idle:
            try:
                return self.idle.pop()
            except IndexError:
                pass
        behind = None if ticket.concurrent else read_ahead_on(links, cost)
        workers = self.crew.in_service
        if should_start(cost, len(self.queue), workers, self.size) or (behind is None and workers < self.size):
            fresh = self._start()
            if fresh is not None or not self.queue.length:
                return fresh
        return behind or share_with(links, MANY_COROUTINES)

    def _fill(self, link: Link, ticket: Ticket) -> None:
        """Send the ticket at the head of the line, and those behind it that fit the link's budget, in one write."""
        parts: list[bytes] = []
        most = budget(link, ticket.function.cost_of(ticket.count))
        advance = self.queue.advance
        while True:
            following = advance()
            if ticket.claim is None or self._claim(ticket):
                parts.append(self._frames(link, ticket))
            if following is None or following.concurrent or ticket.concurrent:
                break
            ticket = following
            if (
                link.load + (ticket.function.cost if ticket.count == 1 else ticket.function.cost_of(ticket.count))
                > most
            ):
                break
        if parts:
            self._write(link, b"".join(parts))
        elif not link.sent:
            self.idle.append(link)

    def _claim(self, ticket: Ticket) -> bool:
        """Whether the ticket may still be sent; from then on its asker can no longer take it back."""
        claim, ticket.claim = ticket.claim, None
        return claim is None or claim()

    def _write(self, link: Link, data: bytes) -> None:
        if not link.active:
            link.active = True
            self._active += 1
        if self._lazy_watch and not link.watched:
            link.watch(self._received)
        link.send(data)

    def _frames(self, link: Link, ticket: Ticket) -> bytes:
        """The frames of one ticket, entered in the books of the link that they are for."""
        function = ticket.function
        prefix = link.loans.take_returns() if link.loans.due else b""
        if not link.sent and self._forgotten:
            self._forget_functions()
        if function.number not in link.known:
            link.known.add(function.number)
            prefix += frames.frame(frames.DEFINE, 0, function.number, function.definition)
        if ticket.loans:
            try:
                link.loans.hold(ticket.loans)
            except NoMemory:
                self._send_in_band(ticket)
            ticket.sent = copied_for(ticket.loans)
        number = ticket.id = link.last_call + 1
        link.last_call += ticket.count
        ticket.link = link
        link.sent[number] = ticket
        body = ticket.body
        ticket.sent += len(body)
        if ticket.patience is not None:
            ticket.patience.cancel()
        data = HEADER.pack(len(body) | ticket.flags << 56, number, function.number) + body
        if ticket.concurrent:
            link.concurrent += 1
            if ticket.sink is not None:
                data += frames.frame(frames.CREDIT, number, ticket.sink.window)
        else:
            ticket.cost = function.cost if ticket.count == 1 else function.cost_of(ticket.count)
            link.load += ticket.cost
        if link.last_call >= self.most_calls:
            link.load = BUSY  # it takes no more
        return prefix + data if prefix else data

    def _send_in_band(self, ticket: Ticket) -> None:
        """The worker cannot take in another segment: send the call again without shared memory."""
        ticket.flags &= ~frames.BUFFERS
        ticket.body, ticket.loans = dumps(_arguments(ticket), None), []

    def _forget_functions(self) -> None:
        while self._forgotten:
            number = self._forgotten.popleft()
            for link in self.links.values():
                if number in link.known and link.in_service:
                    link.known.discard(number)
                    link.send(frames.frame(frames.FORGET, 0, number))

    def _start(self) -> Link | None:
        """One more worker, or None: then the others have to do. Where none can, nobody in line gets any."""
        hopeless = self.crew.starts_fail
        try:
            return self.crew.start()
        except BackendUnavailable as error:
            if hopeless or not self.crew.in_service:
                self._refuse_all(error)
            return None

    # Replies.

    def _received(self, link: Link, data: bytes) -> None:
        if not data:
            self.crew.out_of_service(link)
            return
        self._handing_over = True
        try:
            answered = self._hand_over(link, data)
        finally:
            self._handing_over = False
        if answered:
            link.served += answered
            self.calls += answered
            if not link.sent:
                link.active = False
                self._active -= 1
                if link.in_service:
                    self.crew.rest(link)
            if self.queue.length:
                self._flush()

    def _hand_over(self, link: Link, data: bytes) -> int:
        """Give the outcomes in these bytes to those who wait for them; how many calls have ended."""
        sent, answered, loads = link.sent, 0, pickle.loads
        for kind, number, ran, body in link.frames.feed(data):
            if kind != RESULT:
                answered += self.other_reply(link, kind, number, ran, body)
                continue
            ticket = sent.pop(number)
            if ticket.concurrent:
                link.concurrent -= 1
            else:
                link.load -= ticket.cost
                if not answered & LEARN or ran > ticket.function.cost:
                    ticket.function.ran(ran / ticket.count)
            answered += 1
            ticket.ran, ticket.received = ran, len(body)
            if ticket.timer is not None:
                ticket.timer.cancel()
            future = ticket.future
            if not future.done():
                try:
                    future.set_result(loads(body))
                except READING_FAILED as error:
                    future.set_exception(unreadable(ticket.function, error))
        return answered

    def other_reply(self, link: Link, kind: int, number: int, ran: float, body: bytes) -> int:
        """Any frame that is not a plain result. Returns how many calls it ends."""
        base = kind & KIND
        if base == frames.RELEASE:
            link.loans.returned(body)
            return 0
        if base == frames.DROP:
            link.loans.dropped(body)
            return 0
        ticket = link.sent.get(number)
        if ticket is None and number == 0 and base == frames.FAILURE:
            self._setup_failed(link, body)
        if ticket is None:
            return 0  # progress of a call that has just been given up
        if base == frames.ITEM:
            self._item(link, ticket, kind, body)
            return 0
        if base == frames.PROGRESS:
            call = ticket.asked or ticket
            if self.hooks or call.listener is not None:
                self.hooks.report(call, *pickle.loads(body))
            return 0
        del link.sent[number]
        link.load -= ticket.cost
        if ticket.concurrent:
            link.concurrent -= 1
        ticket.ran, ticket.received = ran, len(body)
        if ticket.timer is not None:
            ticket.timer.cancel()
        if ticket.future.done():
            self._discard(link, kind, body)
        elif base == RESULT:
            if not ticket.concurrent:
                ticket.function.ran(ran / ticket.count)
            try:
                ticket.future.set_result(self._decode(link, ticket, kind, body))
            except READING_FAILED as error:
                ticket.future.set_exception(unreadable(ticket.function, error))
        elif base == frames.FAILURE:
            ticket.future.set_exception(decode_failure(body, ticket.function.name))
        else:
            ticket.future.cancel()
        return 1

    def _setup_failed(self, link: Link, body: bytes) -> None:
        """The initializer raised: no call will get anywhere until the user has mended it."""
        link.setup_failure = decode_failure(body, "initializer")
        link.why_stopped = "its initializer failed"
        self.crew.out_of_service(link)
        self._refuse_all(BackendUnavailable(str(link.setup_failure)))

    def _item(self, link: Link, ticket: Ticket, kind: int, body: bytes) -> None:
        if ticket.future.done() or ticket.sink is None:
            self._discard(link, kind, body)
            return
        ticket.received += len(body)
        try:
            ticket.sink.item(self._decode(link, ticket, kind, body))
        except READING_FAILED as error:
            ticket.future.set_exception(unreadable(ticket.function, error))
            self._stop(ticket, "an item of its stream could not be read")

    def _decode(self, link: Link, ticket: Ticket, kind: int, body: bytes) -> Any:
        before = link.loans.copied
        value = decode(kind, body, link.loans.borrow)
        ticket.received += link.loans.copied - before
        return value

    def _discard(self, link: Link, kind: int, body: bytes) -> None:
        """Nobody waits for this value any more; the memory it names must be given back all the same."""
        link.loans.decline(descriptors_in(kind, body))

    def _end_lease(self, link: Link, serial: int, *, spoiled: bool) -> None:
        """In the loop: deal with what a lease has left behind, be it a dead worker or a line that has formed."""
        if link.leased == serial:
            link.leased = 0
            if spoiled:
                link.ignore()
                self._kill(link, "the thread that had leased it was interrupted")
            elif link.sent:  # the thread has seen the end of its replies
                self.crew.out_of_service(link)
                link.kill()
            if link.exit is not None:
                self.exited(link, link.exit[0])
                self._settle(link, link.exit[0])  # where it was struck off before the thread came to it
            elif link.in_service:
                self.crew.rest(link)
        if self.queue.length:
            self._flush()

    # Time and loss.

    def _late(self, ticket: Ticket) -> None:
        if ticket.future.done():
            return
        begun = self.has_begun(ticket)
        what = "was stopped" if begun else "had not begun"
        seconds = f"{ticket.timeout:g} s" if ticket.timeout is not None else "its deadline"
        error = TaskTimeout(f"task {ticket.task.name!r} {what} after {seconds}")
        error.started = ticket.link is not None  # it may begin in this very moment
        ticket.future.set_exception(error)
        self._stop(ticket, f"its call of {ticket.task.name!r} ran out of time")

    def _impatient(self, ticket: Ticket) -> None:
        if ticket.link is None and not ticket.future.done():
            message = f"no worker was free for {ticket.task.name!r} within {ticket.queue_timeout:g} s"
            self.queue.give_up(ticket)
            if ticket.timer is not None:
                ticket.timer.cancel()
            answer, ticket.future = ticket.future, OVER
            answer.set_exception(LimitExceeded(message, backend=self.name))

    def has_begun(self, ticket: Ticket) -> bool:
        return ticket.link is not None and ticket.link.started >= ticket.id

    def _stop(self, ticket: Ticket, why: str) -> None:
        """See to it that a ticket whose future is done costs no more work."""
        if ticket.timer is not None:
            ticket.timer.cancel()
        if ticket.patience is not None:
            ticket.patience.cancel()
        self.queue.give_up(ticket)
        link: Link | None = ticket.link
        if link is None or ticket.id not in link.sent:
            return
        if not ticket.concurrent and link.started == ticket.id:
            self._kill(link, why)
            return
        # Not begun, or able to end by itself: ask first. The call behind the bell may begin in this very moment,
        # and a generator may be deep in the user's code, so look again after a while.
        link.send(frames.frame(frames.CANCEL, ticket.id))
        link.ring()
        self._clock.call_at(self._clock.time() + GRACE, partial(self._look_again, ticket, why))

    def _look_again(self, ticket: Ticket, why: str) -> None:
        link: Link = ticket.link
        if ticket.id not in link.sent or not link.in_service:
            return
        running = link.sent.get(link.started)
        if running is ticket or (ticket.concurrent and link.started >= ticket.id and _lets_others_run(running)):
            self._kill(link, why)
        else:
            self._clock.call_at(self._clock.time() + GRACE, partial(self._look_again, ticket, why))

    def _kill(self, link: Link, why: str) -> None:
        if link.in_service:
            self.crew.dismiss(link, why)
            self._replace()

    def _replace(self) -> None:
        """See to it that a worker that has gone is followed by another, unless those that follow it die as well."""
        crew = self.crew
        if self.closed or crew.in_service >= self.size or crew.starts_fail:
            return
        if (link := self._start()) is not None:
            crew.rest(link)
            if self.queue.length:
                self._flush()

    def exited(self, link: Link, code: int | None) -> None:
        """The worker is gone for certain: read its last words, then settle what it leaves."""
        if self.leases.holds(link, code) or link.number not in self.links:
            return
        link.drain()
        unexpected = self.crew.gone(link, code)
        if link.active:
            link.active = False
            self._active -= 1
        self._settle(link, code)
        if unexpected:
            self._replace()
        if self.queue.length:
            self._flush()

    def _settle(self, link: Link, code: int | None) -> None:
        """End each ticket of a dead link exactly once: back in line if it never began, `WorkerLost` if it did."""
        started = link.started
        for ticket in reversed(link.sent.values()):
            if ticket.future.done():
                continue
            if link.setup_failure is not None:
                ticket.future.set_exception(BackendUnavailable(str(link.setup_failure), backend=self.name))
                continue
            begun = ticket.id <= started
            # It ran, or was about to, and may be what killed the worker; one that never listened, nothing of ours has.
            if ticket.id <= started + 1 and link.stage >= LISTENING:
                ticket.attempts += 1
            again = not begun or (ticket.task.pure and ticket.sink is None)
            if again and not self.closed and ticket.attempts <= MOST_WORKERS_LOST:
                ticket.link = None
                if not begun or self._renew(ticket):
                    self.queue.push(ticket, front=True)
            else:
                ticket.future.set_exception(self._lost_error(link, ticket, begun, code))
                self._stop_timers(ticket)
        link.sent.clear()

    def _renew(self, ticket: Ticket) -> bool:
        """The worker that died may have changed the arrays that were copied for it: the next one gets new copies."""
        if not copied_for(ticket.loans):
            return True
        try:
            flags, ticket.body, ticket.loans = encode(_arguments(ticket), self.arena)
        except NotTransferable as error:  # its owner has put something into it meanwhile
            ticket.future.set_exception(error)
            self._stop_timers(ticket)
            return False
        ticket.flags = ticket.flags & ~frames.BUFFERS | flags
        return True

    def _lost_error(self, link: Link, ticket: Ticket, begun: bool, code: int | None) -> BackendError:
        if self.closed:
            return BackendClosed(self.closed, backend=self.name, started=begun)
        how = f"{exit_text(code)}" if link.why_stopped == "it died" else f"was stopped because {link.why_stopped}"
        message = f"worker {link.number} {how} while it had task {ticket.function.name!r}"
        return WorkerLost(message, backend=self.name, started=begun, exit_code=code)

    def _stop_timers(self, ticket: Ticket) -> None:
        for timer in (ticket.timer, ticket.patience):
            if timer is not None:
                timer.cancel()

    def _refuse_all(self, error: BackendUnavailable) -> None:
        for ticket in self.queue.take_all():
            if not ticket.future.done():
                ticket.future.set_exception(BackendUnavailable(str(error), backend=self.name))
                self._stop_timers(ticket)

    # The end.

    def abandon(self) -> None:
        """In a forked copy of the process: let go of what belongs to the original."""
        self.crew.abandon()

    async def aclose(self, why: str = "the backend is closed") -> None:
        """Answer every pending call with `BackendClosed`, stop every worker, and wait until they are gone."""
        if self.closed:
            return
        self.closed = why
        if self._loop.is_closed():  # whoever waited there waits no more
            self.crew.close()
            return
        for ticket in self.queue.take_all():
            if not ticket.future.done():
                ticket.future.set_exception(BackendClosed(why, backend=self.name))
            self._stop_timers(ticket)
        await self.crew.aclose(why)


def _lets_others_run(running: Ticket | None) -> bool:
    """Whether a worker at this ticket reads its frames; at a plain call, it is at nothing else until that ends."""
    return running is None or running.concurrent


def _arguments(ticket: Ticket) -> Any:
    """What the body of a call is made of."""
    return (ticket.args, ticket.kwargs) if ticket.kwargs else ticket.args
