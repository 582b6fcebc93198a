"""The desk: where a call is taken in, run by the runtime, and its outcome written. All doors lead here.

    guest, request, encoding ── answer ────> the result, written
                             ── outcomes ──> the items and the result, written, as they come

What can go wrong is raised; each door says it in its own way. The desk also knows how many calls are under way, so
that a server that is told to stop can finish them first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from time import perf_counter
from typing import Any

from hybrid_compute.clock import Clock
from hybrid_compute.errors import BackendClosed, ProtocolError
from hybrid_compute.links.wire import Encoding, Failure, Outcome, Pieces, Request
from hybrid_compute.reporting import Reporter, heard_by
from hybrid_compute.server.counting import Counter
from hybrid_compute.server.feed import Ended, Feed
from hybrid_compute.server.guests import Guest
from hybrid_compute.server.ids import id_of, usable
from hybrid_compute.server.limits import Limits, Turnstile
from hybrid_compute.server.memory import WITHDRAWN, WITHDRAWN_CALL, Memory, digest
from hybrid_compute.server.refusals import Refused, failure_for, is_expected
from hybrid_compute.tasks import AnyTask
from hybrid_compute.tracing import in_trace

_log = logging.getLogger("hybrid_compute.server")

CANCELLED = "cancelled"

_GIVEN_UP = "given up"
"""What is cancelled with when the server can wait no longer."""

_AT_ONCE = 256
"""Calls of one batch that are under way at once."""


class Desk:
    """Runs calls for guests."""

    def __init__(self, limits: Limits, feed: Feed, memory: Memory, clock: Clock, *, tracebacks: bool) -> None:
        self.limits = limits
        self.feed = feed
        self.memory = memory
        self.closing = False
        self._tracebacks = tracebacks
        self._turnstile = Turnstile("this server", clock, at_once=limits.calls, rate=None, burst=None)
        self._idle = asyncio.Event()
        self._counter = Counter(limits.batch)
        self._working: set[asyncio.Task[Any] | None] = set()

    @property
    def under_way(self) -> int:
        """Calls that are not yet answered."""
        return self._turnstile.inside

    def read(self, data: Any, encoding: Encoding) -> Request | list[Request]:
        """What a body or a frame asks for. Raises `RemoteProtocolError`, and `Refused` if that is too much."""
        self._counter.insist_on_few(data, encoding)
        return encoding.read_requests(data)

    def ids_of_batch(self, data: Any, encoding: Encoding) -> list[bytes]:
        """The ids in a batch that is not read: at most as many as it may have calls. None if it is no batch."""
        return usable(self._counter.first_ids(data, encoding), encoding)

    async def answer(self, guest: Guest, request: Request, encoding: Encoding, answer_in: Encoding) -> Pieces:
        """The result of a call, written. Raises what went wrong."""
        task = guest.find(request.task)
        if request.key is None:
            return await self._run(guest, task, request, encoding, answer_in)
        key = (guest.tenant.name, request.key)
        run = partial(self._run, guest, task, request, encoding, answer_in)
        return await self.memory.once(key, digest(request, encoding, answer_in), run, pure=task.pure)

    def answer_at_once(self, guest: Guest, request: Request, encoding: Encoding, answer_in: Encoding) -> Pieces | None:
        """The result of a call that is over before anybody could wait for it; None for all others.

        Raises what went wrong. Calls of tasks that promise to be trivial end here: to make a task of the event loop for
        each would cost more than they do.
        """
        if request.key is not None or request.timeout is not None or request.traceparent is not None:
            return None
        task = guest.find(request.task)
        if not guest.answers_at_once(task):
            return None
        self._let_in(guest)
        began = perf_counter()
        code: str | None = CANCELLED
        try:
            args, kwargs = encoding.bind(task, request.input)
            written = answer_in.write_value(guest.run_at_once(task, args, kwargs))
            code = None
            return written
        except Exception as error:
            code = self.tell(error).code
            raise
        finally:
            self._let_out(guest, task, began, code)

    async def answer_all(
        self,
        guest: Guest,
        requests: Sequence[Request],
        encoding: Encoding,
        answer_in: Encoding,
        batch: Batch | None = None,
    ) -> list[Pieces]:
        """The answers to many calls, in their order. Each goes well or badly, or is withdrawn, by itself."""
        if len(requests) > self.limits.batch:
            raise Refused("too_large", f"a batch may have {self.limits.batch:,} calls, not {len(requests):,}")
        answers: list[Pieces] = [[]] * len(requests)
        batch = batch or Batch()
        todo = iter(enumerate(requests))

        async def work() -> None:
            for index, request in todo:
                try:
                    id = id_of(request, encoding, answer_in)
                except ProtocolError as error:
                    answers[index] = answer_in.write_failure(answer_in.null, self.report(error))
                    continue
                with batch.work_on(index) as wanted:
                    if wanted:
                        answers[index] = await self.reply(guest, request, id, encoding, answer_in)
                if batch.is_withdrawn(index):
                    answers[index] = answers[index] or answer_in.write_failure(id, WITHDRAWN_CALL)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(requests), self._room(guest))):
                group.create_task(work())
        return answers

    async def reply(
        self, guest: Guest, request: Request, id: bytes | None, encoding: Encoding, answer_in: Encoding
    ) -> Pieces:
        """The whole reply to a call, with its id, whatever comes of it."""
        try:
            if request.fault is not None:
                raise ProtocolError(request.fault)
            if request.stream:
                raise ProtocolError("a call in a batch is answered as a whole: ask for a stream by itself")
            value = await self.answer(guest, request, encoding, answer_in)
        except Exception as error:
            return answer_in.write_failure(id, self.report(error))
        return answer_in.write_outcome(id, "result", value)

    def _room(self, guest: Guest) -> int:
        """How many calls of a batch may be under way at once: as many as would not be turned away, and one at least."""
        rooms = (guest.turnstile.room, self._turnstile.room, _AT_ONCE)
        return max(1, min(room for room in rooms if room is not None))

    async def _run(
        self, guest: Guest, task: AnyTask, request: Request, encoding: Encoding, answer_in: Encoding
    ) -> Pieces:
        with self.counted(guest, task):
            args, kwargs = encoding.bind(task, request.input)
            with in_trace(request.traceparent):
                result = await guest.verbs(task, request.timeout).run(task, *args, **kwargs)
            return answer_in.write_value(result)

    @asynccontextmanager
    async def outcomes(
        self, guest: Guest, request: Request, encoding: Encoding, answer_in: Encoding, hear: Reporter
    ) -> AsyncGenerator[AsyncIterator[tuple[Outcome, Pieces]]]:
        """What comes of a call, piece by piece, while the block is open; leaving it stops the task.

        That is a chunk for each item of a generator, and the result last. `hear` is told how far the task is.
        """
        task = guest.find(request.task)
        with heard_by(hear):
            if not task.streams:
                yield _at_the_end(self.answer(guest, request, encoding, answer_in))
                return
            if request.key is not None:
                raise ProtocolError("a stream cannot be remembered by a key: ask without `key`, or without `stream`")
            async with self._items(guest, task, request, encoding, answer_in) as items:
                yield items

    @asynccontextmanager
    async def _items(
        self, guest: Guest, task: AnyTask, request: Request, encoding: Encoding, answer_in: Encoding
    ) -> AsyncGenerator[AsyncIterator[tuple[Outcome, Pieces]]]:
        with self.counted(guest, task):
            args, kwargs = encoding.bind(task, request.input)
            with in_trace(request.traceparent):
                async with guest.verbs(task, request.timeout).stream(task, *args, **kwargs) as items:
                    yield _item_by_item(items, answer_in)

    @contextmanager
    def counted(self, guest: Guest, task: AnyTask) -> Generator[None]:
        """Lets a call in, which is under way while the block is open. Raises why it may not come in."""
        self._let_in(guest)
        self._working.add(worker := asyncio.current_task())
        began = perf_counter()
        code: str | None = CANCELLED
        try:
            yield
            code = None
        except asyncio.CancelledError as error:
            raise _reason_of(error) from None
        except Exception as error:
            code = self.tell(error).code
            raise
        finally:
            self._working.discard(worker)
            self._let_out(guest, task, began, code)

    def tell(self, error: BaseException) -> Failure:
        """What a client is told of an error."""
        return failure_for(error, tracebacks=self._tracebacks)

    def report(self, error: BaseException) -> Failure:
        """The same, for an error that ends here: one that nobody expects is logged with its traceback."""
        if not is_expected(error):
            _log.error("a call could not be answered", exc_info=error)
        return self.tell(error)

    async def drain(self) -> None:
        """Take no more calls, and wait until those under way are answered."""
        self.closing = True
        while self.under_way:
            self._idle.clear()
            await self._idle.wait()

    def give_up(self) -> None:
        """End the calls under way, which are answered with `backend_closed`."""
        self.closing = True
        for worker in list(self._working):
            if worker is not None:
                worker.cancel(_GIVEN_UP)

    def _let_in(self, guest: Guest) -> None:
        if self.closing:
            raise BackendClosed("this server is shutting down")
        self._turnstile.enter()
        try:
            guest.turnstile.enter()
        except Refused:
            self._turnstile.leave()
            raise

    def _let_out(self, guest: Guest, task: AnyTask, began: float, code: str | None) -> None:
        seconds = perf_counter() - began
        guest.turnstile.leave()
        self._turnstile.leave()
        guest.meter(task).count(seconds, code)
        if self.feed:
            self.feed.tell(Ended(guest.tenant.name, task.name, seconds, code))
        if self.closing:
            self._idle.set()


def _reason_of(error: asyncio.CancelledError) -> BaseException:
    """Why a call was cancelled: to its client, the end of the server is an error like others."""
    worker = asyncio.current_task()
    if _GIVEN_UP not in error.args or worker is None:
        return error
    worker.uncancel()
    return BackendClosed("this server is shutting down, and could wait no longer", started=True)


class Batch:
    """Which calls of a batch are withdrawn, and who is at work on the others."""

    def __init__(self) -> None:
        self._withdrawn: set[int] = set()
        self._workers: dict[int, asyncio.Task[Any]] = {}

    def withdraw(self, index: int) -> None:
        """Stop this call, or see to it that it never begins."""
        if index not in self._withdrawn:
            self._withdrawn.add(index)
            if worker := self._workers.get(index):
                worker.cancel(WITHDRAWN)

    def is_withdrawn(self, index: int) -> bool:
        return index in self._withdrawn

    @contextmanager
    def work_on(self, index: int) -> Generator[bool]:
        """Whether the call is wanted; it is worked on while the block is open, which ends if it is withdrawn."""
        worker = asyncio.current_task()
        assert worker is not None
        self._workers[index] = worker
        try:
            yield index not in self._withdrawn
        except asyncio.CancelledError as error:
            if WITHDRAWN not in error.args:
                raise
            worker.uncancel()
        finally:
            del self._workers[index]


async def _item_by_item(items: AsyncIterator[Any], answer_in: Encoding) -> AsyncGenerator[tuple[Outcome, Pieces]]:
    async for item in items:
        yield "chunk", answer_in.write_value(item)
    yield "result", answer_in.write_value(None)


async def _at_the_end(answer: Awaitable[Pieces]) -> AsyncGenerator[tuple[Outcome, Pieces]]:
    yield "result", await answer
