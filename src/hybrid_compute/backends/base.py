"""What a place must be able to do. Two methods make a backend; the rest has defaults."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import cached_property
from time import perf_counter
from typing import Any

from hybrid_compute.calls import Call
from hybrid_compute.clock import Clock, SystemClock
from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    BackendUnavailable,
    HybridComputeError,
    LimitExceeded,
    TaskTimeout,
)
from hybrid_compute.events import Hooks
from hybrid_compute.links.codec import OF_THE_TASK, failure_of
from hybrid_compute.tasks import AnyTask


class LimitOfRule(LimitExceeded):
    """A limit that `rule` sets: to a runtime that has it among its policies, the place is forbidden."""

    def __init__(self, message: str = "", *, backend: str = "", started: bool = False, rule: object = None) -> None:
        super().__init__(message, backend=backend, started=started)
        self.rule = rule


class Backend(ABC):
    """A place that runs tasks.

    Implement `can_run` and `run_task`. Raise what the task raises as it is, and an error of `errors.py` when the
    place itself fails; the rest wraps, times, refuses what comes after `aclose`, and falls back.

        >>> class Here(Backend):
        ...     name = "here"
        ...
        ...     def can_run(self, task, /):
        ...         return not task.streams
        ...
        ...     async def run_task(self, task, /, *args, **kwargs):
        ...         return task.fn(*args, **kwargs)
    """

    name: str = "backend"
    provides: frozenset[str] = frozenset({"cpu"})
    """What tasks may ask for in `needs`."""
    on_this_machine: bool = True
    """False where arguments leave this machine: private tasks never go there."""
    isolates: bool = False
    """Whether a task that crashes its process leaves this one unharmed."""

    batches: bool = False
    """Whether `run_batch` is better here than one `run_call` after the other."""

    hooks: Hooks = Hooks()
    clock: Clock = SystemClock()
    rank: int = 1
    """Where `auto` tries this place: workers 0, other places on this machine 1, in-process 2, remote 3, an outbox 4."""
    remembers_keys: bool = False
    """Whether a call that is sent again under its `key` is not run again, though it may have begun the first time."""
    closed: bool = False
    """Whether it was closed: it takes no calls any more."""

    @abstractmethod
    def can_run(self, task: AnyTask, /) -> bool:
        """Whether this place could run the task. Quick, without I/O: it is asked before every call."""

    @abstractmethod
    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        """Run the task and return its result."""

    def why_not(self, task: AnyTask, /) -> str:
        """One reason why `can_run` says no, for the person who reads the error."""
        return f"it cannot run {task.kind} tasks" if task.streams else "it cannot run this task"

    async def start(self) -> None:  # noqa: B027  # optional, not abstract
        """Called when a runtime that holds this backend is entered. Nothing is opened before."""

    async def aclose(self) -> None:
        """Release everything; answer every pending call. Harmless when repeated.

        The default ends the calls that are `within_limits` and refuses new ones; extend it, do not replace it.
        """
        self.closed = True
        now = asyncio.get_running_loop().time()
        for limit in self._pending:
            limit.reschedule(now)

    async def run_call(self, call: Call, /) -> Any:
        """Run one call within its limits. The default runs `run_task` until its time is up, or the place is closed."""
        async with self.within_limits(call):
            began = perf_counter()
            try:
                return await self.run_task(call.task, *call.args, **call.kwargs)
            except HybridComputeError as error:
                if isinstance(error, BackendError) and error.backend not in ("", self.name):
                    raise failure_of(error, call.task.name) from error  # of a place that the task itself has asked
                raise
            except OF_THE_TASK as error:
                raise failure_of(error, call.task.name) from error
            finally:
                if call.ran is None:
                    call.ran = perf_counter() - began

    def stream_call(self, call: Call, /) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """The items of a generator task, while the block is open; leaving it stops the task."""
        raise BackendUnavailable(f"backend {self.name!r} cannot stream {call.task.name!r}", backend=self.name)

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        """Run the task of `call` on many inputs; results in order, or the first failure.

        Only asked of places that say `batches`: those that can send many calls together.
        """
        raise NotImplementedError(f"backend {self.name!r} does not send batches")

    @asynccontextmanager
    async def within_limits(self, call: Call) -> AsyncGenerator[None]:
        """Ends what runs inside when its time is up, or when the place is closed."""
        self.check_open()
        if self.time_left(call) == 0:  # a step of a stream may be too short for a timer to come in between
            raise self.too_late(call)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._pending.add(limit)
                try:
                    with self.expiring(limit, call):
                        yield
                finally:
                    self._pending.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            if self.closed:
                raise BackendClosed(self._is_closed, backend=self.name, started=True) from None
            raise self.too_late(call) from None

    def check_open(self) -> None:
        """Raise `BackendClosed` if the place was closed."""
        if self.closed:
            raise BackendClosed(self._is_closed, backend=self.name)

    @contextmanager
    def expiring(self, limit: asyncio.Timeout, call: Call) -> Generator[None]:
        """Within the block, `limit` expires at the call's deadline, by the clock of this place."""
        if call.deadline is None:
            yield
            return
        loop = asyncio.get_running_loop()
        timer = self.clock.call_at(call.deadline, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()

    def time_left(self, call: Call) -> float | None:
        """Seconds until the call's deadline, None without one."""
        return None if call.deadline is None else max(0.0, call.deadline - self.clock.time())

    def too_late(self, call: Call) -> TaskTimeout:
        seconds = f"{call.timeout:g} s" if call.timeout is not None else "its deadline"
        return TaskTimeout(f"task {call.task.name!r} was not done after {seconds}")

    @cached_property
    def _pending(self) -> set[asyncio.Timeout]:  # made when first asked for: a subclass need not call our `__init__`
        return set()

    @property
    def _is_closed(self) -> str:
        return f"the {self.name} backend is closed"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def run_function(task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
    """Run a plain function in the calling thread, for backends that have threads; what it raises becomes `TaskFailed`.

    As it is, not all of that would come back from a thread: no future carries a `StopIteration`, and a `SystemExit`
    ends the program it arrives in.
    """
    try:
        return task.fn(*args, **kwargs)
    except (*OF_THE_TASK, KeyboardInterrupt) as error:  # nobody types an interrupt in a thread: it is the task's own
        raise failure_of(error, task.name) from error
