"""A pool of worker processes on this machine."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.batch import Batch
from hybrid_compute.backends.crew import Lifetime, Nursery
from hybrid_compute.backends.functions import Functions, define
from hybrid_compute.backends.pool import Pool, PoolStats
from hybrid_compute.backends.queue import QueueLimits
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendClosed, BackendUnavailable, LimitExceeded, NotTransferable
from hybrid_compute.links.arena import Arena, NoMemory
from hybrid_compute.links.arguments import ArgumentCannotCross
from hybrid_compute.links.codec import HUGE, are_atoms, dumps, encode
from hybrid_compute.links.frames import CALL, KEYWORDS, SETUP, frame
from hybrid_compute.links.ticket import Answer, Ticket
from hybrid_compute.tasks import AnyTask, Task, as_task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_QUEUE = QueueLimits()
_LIFETIME = Lifetime()

_OTHER_LOOP = "this backend was opened in another event loop: make one for each, or use BlockingRuntime from threads"

WINDOW = 32
"""Items of a stream that may wait for their reader."""


class WorkerBackend(Backend):
    """Runs tasks in up to `size` worker processes (by default one per core), each isolated from this one.

    Workers start with the first call that needs them; `warm_up` starts them ahead. `queue` bounds what waits,
    `lifetime` says how long workers stay. `preload` names modules that every worker starts with; `initializer` is
    run in each before its first call. Large arrays cross through shared memory, of which `memory` bytes may be used.

    A call that runs out of time, or whose caller goes away, is stopped by killing its worker, which is replaced.
    """

    name = "worker"
    rank = 0
    provides = frozenset({"cpu", "process"})
    isolates = True
    batches = True

    def __init__(
        self,
        size: int | None = None,
        *,
        queue: QueueLimits = _QUEUE,
        lifetime: Lifetime = _LIFETIME,
        preload: Iterable[str] = (),
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        memory: int | None = None,
        portable: bool = False,
    ) -> None:
        if size is not None and size < 1:
            raise ValueError(f"a pool needs at least one worker, not {size}")
        self.size = size or usable_cores()
        self._limits = queue
        self._lifetime = lifetime
        self._preload = list(preload)
        self._initializer = (initializer, initargs) if initializer is not None else None
        self._portable = portable or not has_fast_path()
        self._memory = memory
        self._arena = self._make_arena(memory)
        self._pool: Pool | None = None
        self._functions = Functions(self._forget)
        self._closed = ""
        self._leases = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._create_future: Callable[[], asyncio.Future[Any]] = _no_loop
        _alive.add(self)

    # A backend.

    def can_run(self, task: AnyTask, /) -> bool:
        return not self._closed and not self._elsewhere

    def why_not(self, task: AnyTask, /) -> str:
        return self._closed or (_OTHER_LOOP if self._elsewhere else super().why_not(task))

    @property
    def _elsewhere(self) -> bool:
        """Whether another event loop turns here than the one this was opened in."""
        return self._loop is not None and asyncio._get_running_loop() not in (None, self._loop)

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self.run_call(Call(task, args, kwargs))

    async def run_call(self, call: Call, /) -> Any:
        if call.task.streams:
            async with self.stream_call(call) as items:
                return [item async for item in items]
        pool = self._here()
        future = self._create_future()
        ticket = self._prepare(Ticket.of(call), future)
        try:
            await self._submit(pool, ticket, future)
            pool.wait_here(ticket)
            return await future
        except BaseException:
            pool.withdraw(ticket)
            raise
        finally:
            ticket.report()

    @asynccontextmanager
    async def _stream(self, call: Call) -> AsyncGenerator[AsyncIterator[Any]]:
        pool = self._here()
        future = self._create_future()
        ticket = self._prepare(Ticket.of(call), future)
        reader = _Reader(pool, ticket, future)
        try:
            await self._submit(pool, ticket, future)
            yield reader
        finally:
            reader.leave()
            if not future.done():
                pool.withdraw(ticket)
            elif not future.cancelled():
                future.exception()  # seen: the reader may have left before it came
            ticket.report()

    def stream_call(self, call: Call, /) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        return self._stream(call)

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        pool = self._here()
        function = self._functions.of(call.task)
        return await Batch(pool, self._arena, call, function, inputs, limit).run()

    async def aclose(self) -> None:
        if not self._closed and self._loop is not None and not self._loop.is_closed():
            self._here()  # raises where another loop turns: nobody closes it under that one
        self.closed = True
        self._closed = self._closed or "the worker backend is closed"
        if self._pool is not None:
            await self._pool.aclose(self._closed)
        self._arena.close()

    # Its own.

    async def warm_up(self, count: int | None = None) -> None:
        """Start `count` workers (all by default) and wait until each has answered."""
        pool = self._here()
        await pool.warm_up(self.size if count is None else count)

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = float) -> np.ndarray[Any, np.dtype[Any]]:
        """A new array in shared memory, uninitialised: as an argument it reaches a worker without a copy.

        Workers see it read-only. Raises `LimitExceeded` when shared memory is short, `BackendClosed` after the end.
        """
        import numpy as np

        if self._closed:
            raise BackendClosed(self._closed, backend=self.name)
        wanted = np.dtype(dtype)
        count = int(np.prod(shape))
        try:
            memory, _ = self._arena.allocate(max(1, count * wanted.itemsize))
        except NoMemory as error:
            raise LimitExceeded(str(error), backend=self.name) from error
        return np.frombuffer(memory, wanted, count).reshape(shape)

    def stats(self) -> PoolStats:
        """Counts of the moment; all zero before the first call."""
        return self._pool.stats() if self._pool is not None else PoolStats(0, 0, 0, 0, 0, 0, 0)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are known to run."""
        links = list(self._pool.links.values()) if self._pool is not None else []
        return [link.pid for link in links if link.pid is not None]

    def allow_leases(self) -> None:
        """Let threads other than the loop's take idle workers for themselves. To be said before the first call."""
        self._leases = not self._portable  # there the replies have a reader already, which cannot be put off

    def direct(self, call: Call) -> Callable[[tuple[Any, ...]], Any] | None:
        """A way to run calls of one plain function in the calling thread, with no event loop in between.

        It takes the arguments and gives the result, or `NO_WORKER` when the call must go the ordinary way. After each
        call, `call` holds what was measured. None while there is no such way.
        """
        if self._pool is None or not self._leases:
            return None
        function = self._functions.of(call.task)
        return self._pool.leases.leaser(call, function) if function.constant else None

    def begin(self, ticket: Ticket, answer: Answer, loop: asyncio.AbstractEventLoop) -> Pool | None:
        """Put a fresh ticket in line, its outcome going to `answer`; None if there is no room in the line now."""
        pool = self._pool if self._pool is not None else self._open()
        if loop is not self._loop:
            raise BackendUnavailable(_OTHER_LOOP, backend=self.name)
        if pool.queue.full:
            return None
        pool.submit(self._prepare(ticket, answer))
        return pool

    @property
    def can_hold(self) -> bool:
        """Whether replies may be waited for here, while the event loop is held up."""
        return self._pool is not None and self._pool.can_hold

    def submit(self, call: Call, answer: Answer, claim: Callable[[], bool]) -> None:
        """Put a call in line; `answer` gets the outcome. `claim` is asked right before it is sent, if still wanted."""
        pool = self._pool if self._pool is not None else self._open()
        ticket = self._prepare(Ticket.of(call), answer)
        ticket.claim = claim
        pool.submit(ticket)

    # Within.

    def _prepare(self, ticket: Ticket, answer: Answer) -> Ticket:
        """All that a ticket needs to be submitted."""
        if self._closed:
            raise BackendClosed(self._closed, backend=self.name)
        ticket.future = answer
        function = ticket.function = self._functions.of(ticket.task)
        if not function.plain:
            ticket.concurrent = True
        args, kwargs = ticket.args, ticket.kwargs
        if not kwargs and are_atoms(args):
            body = pickle.dumps(args, 5)
            if len(body) < HUGE:
                ticket.flags, ticket.body = CALL, body
                return ticket
        try:
            if kwargs:
                flags, body, loans = encode((args, kwargs), self._arena)
                flags |= KEYWORDS
            else:
                flags, body, loans = encode(args, self._arena)
        except NotTransferable as error:
            reason = f"an argument of task {ticket.task.name!r} cannot go to a worker: {error}"
            raise ArgumentCannotCross(reason) from error
        ticket.flags, ticket.body, ticket.loans = flags | CALL, body, loans
        return ticket

    async def _submit(self, pool: Pool, ticket: Ticket, future: asyncio.Future[Any]) -> None:
        if not pool.queue.full:
            pool.submit(ticket)
        elif self._limits.when_full == "wait":
            await pool.submit_when_there_is_room(ticket, future)
        else:
            waiting = f"{len(pool.queue)} calls and {pool.queue.bytes} bytes wait already"
            raise LimitExceeded(f"the queue of the worker backend is full: {waiting}", backend=self.name)

    def _here(self) -> Pool:
        if self._pool is None:
            return self._open()
        if asyncio.get_running_loop() is not self._loop:
            raise BackendUnavailable(_OTHER_LOOP, backend=self.name)
        return self._pool

    def _open(self) -> Pool:
        if self._closed:
            raise BackendClosed(self._closed, backend=self.name)
        self._loop = asyncio.get_running_loop()
        self._create_future = self._loop.create_future
        self._pool = Pool(
            self.name,
            self.size,
            self._make_nursery(self._loop),
            self._arena,
            clock=self.clock,
            hooks=self.hooks,
            limits=self._limits,
            lifetime=self._lifetime,
            ping=lambda answer: self._prepare(Ticket(_PING), answer),
            setup=self._setup(),
            lazy_watch=self._leases,
        )
        return self._pool

    def _make_arena(self, memory: int | None) -> Arena:
        if self._portable:
            from hybrid_compute.links.named import NamedArena

            return NamedArena(limit=memory)
        return Arena(limit=memory)

    def _make_nursery(self, loop: asyncio.AbstractEventLoop) -> Nursery:
        if self._portable:
            from hybrid_compute.links.named import NamedArena
            from hybrid_compute.links.spawned import SpawnedNursery

            assert isinstance(self._arena, NamedArena)
            return SpawnedNursery(loop, self._arena, self._exited, self._preload, self.size)
        from hybrid_compute.links.pipe import PipeNursery

        return PipeNursery(loop, self._arena, self._exited, self._preload, self.size)

    def _setup(self) -> bytes:
        """The frame that runs the initializer in a fresh worker."""
        if self._initializer is None:
            return b""
        fn, args = self._initializer
        definition, _ = define(as_task(fn))
        return frame(SETUP, body=dumps((definition, args), None))

    def _exited(self, link: Any, code: int | None) -> None:
        assert self._pool is not None
        self._pool.exited(link, code)

    def _forget(self, number: int) -> None:
        if self._pool is not None:
            self._pool.forget(number)

    def after_fork(self) -> None:
        """In a forked copy of the process: refuse to work, and let go of what belongs to the original."""
        self._arena = self._make_arena(self._memory)  # the other one's memory is the original's, and is shared with it
        if self._pool is not None:
            self._pool.abandon()
            self._closed = self._pool.closed = (
                f"this backend was opened by process {os.getppid()}; a forked copy cannot use it: make a new one"
            )


def _no_loop() -> asyncio.Future[Any]:
    raise AssertionError("a ticket was asked for before the pool was opened")


class _Reader:
    """The reading end of a stream: buffered items, and credit for the producer as they are taken."""

    def __init__(self, pool: Pool, ticket: Ticket, future: asyncio.Future[Any]) -> None:
        self.window = WINDOW
        self._future = future
        self._pool = pool
        self._ticket = ticket
        self._items: deque[Any] = deque()
        self._taken = 0
        self._waiter: asyncio.Future[None] | None = None
        ticket.sink = self
        future.add_done_callback(self._wake)

    def leave(self) -> None:
        """Drop what nobody will read: shared memory, perhaps, while this object waits for the garbage collector."""
        self._items.clear()

    def item(self, value: Any) -> None:
        self._items.append(value)
        self._wake()

    def _wake(self, _future: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> Any:
        while not self._items:
            if self._future.done():
                self._future.result()
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._taken += 1
        if self._taken == self.window // 2:
            self._pool.grant(self._ticket, self._taken)
            self._taken = 0
        return self._items.popleft()


_PING: AnyTask = Task(bool, name="ping")
"""The smallest call there is: a builtin, so that workers import nothing for it."""


def has_fast_path() -> bool:
    """Whether this system has what `links/pipe.py` is made of; `links/spawned.py` runs everywhere."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open") and hasattr(os, "memfd_create")


def usable_cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


_alive: weakref.WeakSet[WorkerBackend] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for backend in _alive:
        backend.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
