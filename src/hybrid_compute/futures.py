"""`WorkerExecutor`: a drop-in `concurrent.futures.Executor` over the same workers.

It keeps the standard contract, with one difference for the better: a worker that dies takes only its own call with
it. That call's future gets a `BrokenProcessPool`; the pool heals, and later submissions work.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor, Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from pickle import PicklingError
from typing import Any, ParamSpec, TypeVar, overload

from hybrid_compute.backends.crew import Lifetime
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendError, NotTransferable, TaskFailed, WorkerLost
from hybrid_compute.portal import Portal
from hybrid_compute.tasks import AnyTask, Task, as_task

P = ParamSpec("P")
T = TypeVar("T")


class BrokenWorker(WorkerLost, BrokenProcessPool):
    """The worker of this call died. Only this call is affected."""


class Unpicklable(NotTransferable, PicklingError):
    """What was submitted, or its result, cannot cross to another process."""


class WorkerExecutor(Executor):
    """Runs functions in worker processes: `submit`, `map`, `shutdown` as every executor has them.

    >>> with WorkerExecutor(2) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
        preload: Iterable[str] = (),
        portable: bool = False,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None and max_tasks_per_child < 1:
            raise ValueError("max_tasks_per_child must be >= 1")
        backend = WorkerBackend(
            max_workers,
            initializer=initializer,
            initargs=initargs,
            lifetime=Lifetime(max_calls=max_tasks_per_child),
            preload=preload,
            portable=portable,
        )
        self._max_workers = backend.size  # libraries look for it under this name
        self._desk = _Desk(backend)
        weakref.finalize(self, self._desk.shutdown, wait=False).atexit = False

    @overload
    def submit(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    @overload
    def submit(
        self, fn: Callable[P, Iterator[T] | AsyncIterator[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[list[T]]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn(*args, **kwargs)` in a worker; its future at once. What a generator yields comes as a list.

        The `timeout` of a task counts from here; of its other facts, only `pure` matters to an executor.
        """
        call = Call(_whole(fn), args, kwargs)
        if isinstance(fn, Task) and fn.timeout is not None:
            call.timeout, call.deadline = fn.timeout, time.monotonic() + fn.timeout
        return self._desk.submit(call)

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """Results of `fn` over the zipped iterables, in order. `chunksize` calls travel together."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(_whole(fn), *iterables, timeout=timeout)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        return _flatten(super().map(_by_the_chunk(fn), chunks, timeout=timeout))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; with `wait`, return once all is done. `cancel_futures` gives up what has not started."""
        self._desk.shutdown(wait=wait, cancel_futures=cancel_futures)


class _Desk:
    """Takes calls in and sees them done. It outlives an executor that is dropped with calls under way."""

    def __init__(self, backend: WorkerBackend) -> None:
        self._backend = backend
        # Re-entrant: the executor may be collected, and shut us down, in the middle of anything that allocates.
        self._lock = threading.RLock()
        self._portal: Portal | None = None
        self._shut_down = False
        self._inbox: deque[tuple[Future[Any], Call]] = deque()
        self._outstanding: set[Future[Any]] = set()

    def submit(self, call: Call) -> Future[Any]:
        future: Future[Any] = Future()
        if self._portal is not None and self._portal.foreign:
            raise RuntimeError("a forked copy of this process cannot use the executor of the original: make a new one")
        with self._lock:
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._portal is None:
                self._portal = Portal("hybrid-compute executor")
                _open.add(self)
            self._outstanding.add(future)
            self._inbox.append((future, call))
            if len(self._inbox) == 1:  # whoever makes the inbox non-empty wakes the loop; the rest ride along
                self._portal.post(self._take_in)
        future.add_done_callback(self._finished)
        return future

    def shutdown(self, *, wait: bool, cancel_futures: bool = False) -> None:
        portal = self._portal
        if portal is not None and portal.foreign:  # a forked copy: what was opened belongs to the original
            return
        with self._lock:
            self._shut_down = True
            waiting = list(self._outstanding) if cancel_futures else []
        for future in waiting:
            future.cancel()
        with self._lock:
            self._leave_if_done()
            portal = self._portal
        if wait and portal is not None and not portal.here:  # what the loop itself calls must not wait for the loop
            portal.join()

    def _leave_if_done(self) -> None:
        """With the lock held: if nothing is left to do, and nothing can come, have the loop close up and end."""
        if self._shut_down and not self._outstanding and self._portal is not None:
            self._portal.stop(self._backend.aclose)

    def _finished(self, future: Future[Any]) -> None:
        if future.cancelled():
            self._claim(future)
        with self._lock:
            self._outstanding.discard(future)
            self._leave_if_done()

    def _claim(self, future: Future[Any]) -> bool:
        """Whether the future is still wanted; from now on it can no longer be cancelled, or those who wait know.

        Asked by the pool right before the call is sent, and for each future that is cancelled: the first settles it.
        """
        with self._lock:
            if future not in self._outstanding:
                return False
            wanted = future.set_running_or_notify_cancel()
            if not wanted:
                self._outstanding.discard(future)
            return wanted

    def _take_in(self) -> None:
        """In the loop: hand everything in the inbox to the pool."""
        while True:
            with self._lock:
                if not self._inbox:
                    return
                taken = list(self._inbox)
                self._inbox.clear()
            for future, call in taken:
                if not future.cancelled():
                    self._submit(future, call)

    def _submit(self, future: Future[Any], call: Call) -> None:
        try:
            self._backend.submit(call, _Answer(future), partial(self._claim, future))
        except BaseException as error:
            if self._claim(future):
                future.set_exception(_standard(error))


_open: weakref.WeakSet[_Desk] = weakref.WeakSet()


def _finish_all() -> None:
    """At the end of the program: what was submitted is done first, as with every executor."""
    for desk in list(_open):
        desk.shutdown(wait=True)


# As `concurrent.futures` does: before the handlers of `atexit`, some of which put an end to the workers.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]


class _Answer:
    """Where the pool puts a call's outcome: a `concurrent.futures.Future`, in the words of the standard contract."""

    __slots__ = ("_future", "cancel", "done", "set_result")

    def __init__(self, future: Future[Any]) -> None:
        self._future = future
        self.done = future.done
        self.cancel = future.cancel
        self.set_result = future.set_result

    def set_exception(self, error: BaseException) -> None:
        try:
            self._future.set_exception(_standard(error))
        except InvalidStateError:  # cancelled in this very moment, while it was in line
            pass


def _standard(error: BaseException) -> BaseException:
    """The exception a standard executor would give: the task's own, or one of the `BrokenExecutor` family."""
    if isinstance(error, TaskFailed) and error.__cause__ is not None:
        original, error.__cause__ = error.__cause__, None
        last, seen = original, {id(original)}
        while last.__cause__ is not None and id(last.__cause__) not in seen:
            last = last.__cause__
            seen.add(id(last))
        if last.__cause__ is None:
            last.__cause__ = error  # carries the traceback text of the worker, behind whatever causes there are
        return original
    if isinstance(error, WorkerLost):
        return BrokenWorker(str(error), backend=error.backend, started=error.started, exit_code=error.exit_code)
    if isinstance(error, NotTransferable):
        unpicklable = Unpicklable(str(error))
        unpicklable.__cause__ = error.__cause__
        return unpicklable
    if isinstance(error, BackendError):
        broken = BrokenProcessPool(str(error))
        broken.__cause__ = error
        return broken
    return error


def _whole(fn: Callable[..., Any]) -> AnyTask:
    """The task behind `fn`. A future has room for one result: what a generator yields is gathered in the worker."""
    task = as_task(fn)
    if not task.streams:
        return task
    return Task(partial(_gather if task.is_async else _list, fn), name=task.name)


def _list(fn: Callable[..., Iterator[T]], /, *args: Any, **kwargs: Any) -> list[T]:
    return list(fn(*args, **kwargs))


async def _gather(fn: Callable[..., AsyncIterator[T]], /, *args: Any, **kwargs: Any) -> list[T]:
    return [item async for item in fn(*args, **kwargs)]


def _chunks(items: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(islice(items, size)):
        yield chunk


def _by_the_chunk(fn: Callable[..., Any]) -> AnyTask:
    task = _whole(fn)
    return Task(partial(_await_chunk if task.is_async else _run_chunk, task), name=task.name)


def _run_chunk(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    return [fn(*args) for args in chunk]


async def _await_chunk(fn: Callable[..., Coroutine[Any, Any, T]], chunk: list[tuple[Any, ...]]) -> list[T]:
    return await asyncio.gather(*(fn(*args) for args in chunk))


def _flatten(chunks: Iterator[list[T]]) -> Iterator[T]:
    for chunk in chunks:
        yield from chunk
