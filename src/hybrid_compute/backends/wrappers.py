"""Backends around backends: what a place does not do by itself is put around it.

    Runtime([Retrying(Limited(remote, calls=8), times=3), LocalBackend()])

A wrapper stands where the place it wraps stands, under the same name. It cannot say otherwise: a private task never
leaves this machine because something was put around the door.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hybrid_compute.backends.base import Backend
from hybrid_compute.calls import Call
from hybrid_compute.clock import Clock, Timer
from hybrid_compute.errors import BackendClosed, BackendError, LimitExceeded
from hybrid_compute.events import Hooks
from hybrid_compute.tasks import AnyTask

T = TypeVar("T")


class _Delegated:
    """An attribute that is the inner backend's: read there, and written there if that is allowed."""

    def __init__(self, *, writable: bool = False) -> None:
        self._writable = writable

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, wrapper: Wrapper | None, owner: type) -> Any:
        return self if wrapper is None else getattr(wrapper.inner, self._name)

    def __set__(self, wrapper: Wrapper, value: Any) -> None:
        if not self._writable:
            raise AttributeError(f"{self._name} of {wrapper!r} is that of the backend it wraps, and cannot be set")
        setattr(wrapper.inner, self._name, value)


def _delegated(*, writable: bool = False) -> Any:  # Any, for the type of the attribute it stands for
    return _Delegated(writable=writable)


class Wrapper(Backend):
    """A backend that hands everything to the one it wraps. Override what shall be different.

    A map reaches a wrapper as one `run_call` for each item, so that nothing goes past what it does to a call. A
    wrapper that knows what to do with a batch says `batches = delegated` and overrides `run_batch`.

        >>> class Shouting(Wrapper):
        ...     async def run_call(self, call, /):
        ...         print(f"{call.task.name} goes to {self.name}")
        ...         return await super().run_call(call)
    """

    name: str = _delegated()
    provides: frozenset[str] = _delegated()
    on_this_machine: bool = _delegated()
    isolates: bool = _delegated()
    remembers_keys: bool = _delegated()
    rank: int = _delegated()
    closed: bool = _delegated()
    hooks: Hooks = _delegated(writable=True)
    clock: Clock = _delegated(writable=True)
    batches: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "on_this_machine" in vars(cls):
            raise TypeError(f"{cls.__name__} is a wrapper: it is on this machine if what it wraps is")

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    @property
    def inner(self) -> Backend:
        """The backend that is wrapped."""
        return self._inner

    def can_run(self, task: AnyTask, /) -> bool:
        return self.inner.can_run(task)

    def why_not(self, task: AnyTask, /) -> str:
        return self.inner.why_not(task)

    async def start(self) -> None:
        await self.inner.start()

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self.run_call(Call(task, args, kwargs))

    async def run_call(self, call: Call, /) -> Any:
        return await self.inner.run_call(call)

    def stream_call(self, call: Call, /) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        return self.inner.stream_call(call)

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        return await self.inner.run_batch(call, inputs, limit)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} around {self.inner!r}>"


class Retrying(Wrapper):
    """Tries a call up to `times` more when the place fails it, after `delay` seconds, twice that, and so on.

    Only where it may run again: it never began, or its task is `pure`. A closed place is not asked again, and a call
    whose deadline would pass during the pause is given up at once, so that another place can still be in time. A
    stream is begun anew only while it has delivered nothing. Time is the `clock`'s, by default the runtime's.
    """

    batches: bool = _delegated()

    def __init__(self, inner: Backend, *, times: int = 3, delay: float = 0.1, clock: Clock | None = None) -> None:
        if times < 0 or delay < 0:
            raise ValueError(f"times and delay must not be negative, but are {times} and {delay}")
        super().__init__(inner)
        self._times = times
        self._delay = delay
        self._own_clock = clock

    async def run_call(self, call: Call, /) -> Any:
        return await self._insist(call, lambda: self.inner.run_call(call))

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        return await self._insist(call, lambda: self.inner.run_batch(call, inputs, limit))

    @asynccontextmanager
    async def stream_call(self, call: Call, /) -> AsyncGenerator[AsyncIterator[Any]]:
        async with aclosing(self._items(call)) as items:
            yield items

    async def _insist(self, call: Call, ask: Callable[[], Awaitable[T]]) -> T:
        for tried in range(self._times):
            try:
                return await ask()
            except BackendError as error:
                await self._pause(call, error, tried)
        return await ask()

    async def _items(self, call: Call) -> AsyncGenerator[Any]:
        for tried in range(self._times + 1):
            delivered = False
            try:
                async with self.inner.stream_call(call) as items:
                    async for item in items:
                        delivered = True
                        yield item
                return
            except BackendError as error:
                if delivered or tried == self._times:
                    raise
                await self._pause(call, error, tried)

    async def _pause(self, call: Call, error: BackendError, tried: int) -> None:
        """Wait before the next try; raise the error if there shall be none."""
        pause, left = self._delay * 2**tried, self.time_left(call)
        if not may_run_again(error, call.task) or (left is not None and pause >= left):
            raise error
        await (self._own_clock or self.clock).sleep(pause)


def may_run_again(error: BackendError, task: AnyTask) -> bool:
    """Whether the same place may be asked again: the task has not begun there, or running it twice is harmless."""
    return not isinstance(error, BackendClosed) and (task.pure or not error.started)


@dataclass(slots=True)
class Recorded:
    """What was asked of a backend, and the answer once there is one: a result, the items of a stream, or an error."""

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    result: Any = None
    error: BaseException | None = None
    answered: bool = False


class Recording(Wrapper):
    """Keeps what was asked and answered in `calls`, in the order of asking: to look at, and to replay in a test.

        >>> place = Recording(LocalBackend())
        >>> async with Runtime([place]) as rt:
        ...     await rt.run(add, 1, 2)
        >>> place.calls
        [Recorded(task='add', args=(1, 2), kwargs={}, result=3, error=None, answered=True)]

    `hybrid_compute.testing.replay` makes a handler of it that answers the same again.
    """

    batches: bool = _delegated()

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.calls: list[Recorded] = []

    async def run_call(self, call: Call, /) -> Any:
        recorded = self._record(call, call.args)
        try:
            recorded.result = await self.inner.run_call(call)
            return recorded.result
        except BaseException as error:
            recorded.error = error
            raise
        finally:
            recorded.answered = True

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        """One record for each input. A batch fails as a whole: the error is then that of all."""
        records = [self._record(call, args) for args in inputs]
        try:
            results = await self.inner.run_batch(call, inputs, limit)
            for recorded, result in zip(records, results, strict=True):
                recorded.result = result
            return results
        except BaseException as error:
            for recorded in records:
                recorded.error = error
            raise
        finally:
            for recorded in records:
                recorded.answered = True

    @asynccontextmanager
    async def stream_call(self, call: Call, /) -> AsyncGenerator[AsyncIterator[Any]]:
        recorded = self._record(call, call.args)
        try:
            async with aclosing(self._items(call, recorded)) as items:
                yield items
        finally:
            recorded.answered = True

    async def _items(self, call: Call, recorded: Recorded) -> AsyncGenerator[Any]:
        recorded.result = []
        try:
            async with self.inner.stream_call(call) as items:
                async for item in items:
                    recorded.result.append(item)
                    yield item
        except (Exception, asyncio.CancelledError) as error:
            recorded.error = error
            raise

    def _record(self, call: Call, args: tuple[Any, ...]) -> Recorded:
        self.calls.append(Recorded(call.task.name, args, call.kwargs))
        return self.calls[-1]


class Limited(Wrapper):
    """At most `calls` calls at a time are with the place. Others wait: higher priority first, then as they came.

    A call that waits beyond its deadline gets `TaskTimeout`, beyond its queue timeout `LimitExceeded`. A stream counts
    as long as its block is open. `running` and `waiting` say how it stands.
    """

    def __init__(self, inner: Backend, *, calls: int) -> None:
        if calls < 1:
            raise ValueError(f"a place that may run {calls} calls at a time would run none")
        super().__init__(inner)
        self.limit = calls
        self.running = 0
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return sum(not turn.done() for _, _, turn in self._line)

    async def run_call(self, call: Call, /) -> Any:
        await self._take_turn(call)
        try:
            return await self.inner.run_call(call)
        finally:
            self._pass_on()

    @asynccontextmanager
    async def stream_call(self, call: Call, /) -> AsyncGenerator[AsyncIterator[Any]]:
        await self._take_turn(call)
        try:
            async with self.inner.stream_call(call) as items:
                yield items
        finally:
            self._pass_on()

    async def aclose(self) -> None:
        self._closed = True
        for _, _, turn in self._line:
            if not turn.done():
                turn.set_exception(BackendClosed(f"backend {self.name!r} was closed", backend=self.name))
        self._line.clear()
        await self.inner.aclose()

    def __repr__(self) -> str:
        return f"<Limited, {self.running} of {self.limit} running, {self.waiting} waiting, around {self.inner!r}>"

    async def _take_turn(self, call: Call) -> None:
        if self._closed:
            raise BackendClosed(f"backend {self.name!r} is closed", backend=self.name)
        if self.running < self.limit:
            self.running += 1
            return
        call.queued = True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (-call.priority, next(self._numbers), turn))
        timers = self._timers(call, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()  # the turn was given and is not used
            raise
        finally:
            for timer in timers:
                timer.cancel()

    def _timers(self, call: Call, turn: asyncio.Future[None]) -> list[Timer]:
        def give_up(error: Exception) -> None:
            if not turn.done():
                turn.set_exception(error)

        timers: list[Timer] = []
        if call.deadline is not None:
            timers.append(self.clock.call_at(call.deadline, lambda: give_up(self.too_late(call))))
        if call.queue_timeout is not None:
            message = f"{call.task.name!r} did not get its turn at {self.name!r} within {call.queue_timeout:g} s"
            until = self.clock.time() + call.queue_timeout
            timers.append(self.clock.call_at(until, lambda: give_up(LimitExceeded(message, backend=self.name))))
        return timers

    def _pass_on(self) -> None:
        """A turn has ended: it is the next one's, or nobody's."""
        while self._line:
            _, _, turn = heapq.heappop(self._line)
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1
