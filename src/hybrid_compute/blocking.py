"""The runtime for ordinary code: the same words, no await.

It is a façade. Everything goes to the asynchronous runtime, which turns in a thread of its own; with one exception
that is worth its lines: a plain call takes an idle worker, and this thread itself writes the call and waits for the
reply, with no other thread in between.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar, overload

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.leases import NO_WORKER
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.calls import Call
from hybrid_compute.clock import Clock
from hybrid_compute.errors import BackendClosed, BackendError, HybridComputeError
from hybrid_compute.events import Hook, Hooks
from hybrid_compute.policy import Policy
from hybrid_compute.portal import Portal
from hybrid_compute.routing import Explanation, Lane
from hybrid_compute.runtime import Runtime, Verbs
from hybrid_compute.strategies import Strategy
from hybrid_compute.tasks import AnyTask, Task, TaskRegistry
from hybrid_compute.timings import Tally, Timings

P = ParamSpec("P")
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  # an item of the input


Shortcut: TypeAlias = Callable[[tuple[Any, ...]], Any]
"""Runs a call with these positional arguments in this thread, or answers `NO_WORKER`."""


MOST_SHORTCUTS = 256
"""So many are kept at a time: each keeps its task alive, and there may be a new lambda for every call."""


class BlockingVerbs:
    """The verbs of a blocking runtime under one set of options."""

    def __init__(self, verbs: Verbs, portal: Callable[[], Portal]) -> None:
        self._verbs = verbs
        self._portal = portal
        self._hooks = verbs.hooks
        self._shortcuts: dict[int, Shortcut] = {}

    def options(
        self,
        *,
        strategy: str | Strategy | None = None,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        priority: int | None = None,
    ) -> BlockingVerbs:
        """The same verbs with other options: see `Runtime.options`."""
        changed = self._verbs.options(
            strategy=strategy, timeout=timeout, queue_timeout=queue_timeout, priority=priority
        )
        return BlockingVerbs(changed, self._portal)

    @overload
    def run(self, task: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def run(
        self, task: Callable[P, Iterator[T] | AsyncIterator[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> list[T]: ...
    @overload
    def run(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def run(self, task: str, /, *args: Any, **kwargs: Any) -> Any: ...
    def run(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Run a task wherever it runs best and return its result. Errors as `Runtime.run`.

        >>> rt.run(add, 1, 2)
        3
        """
        known: AnyTask = task if type(task) is Task else self._verbs.find(task)  # pyright: ignore[reportAssignmentType]
        shortcut = self._shortcuts.get(id(known))
        if shortcut is not None and not kwargs and not self._hooks:
            try:
                result = shortcut(args)
            except BackendError as error:
                recover = self._verbs.lanes[known].recover
                if recover is None:
                    raise
                return self._portal().call(recover(Call(known, args), error))  # another place may do
            if result is not NO_WORKER:
                return result
        result = self._portal().call(_run(self._verbs, known, args, kwargs))
        if shortcut is None:
            self._find_shortcut(known)
        return result

    def _find_shortcut(self, task: AnyTask) -> None:
        """After the first call of a task: see whether this thread can make the next one itself."""
        lane = self._verbs.lanes[task]
        if lane.direct is None:
            return
        if len(self._shortcuts) >= MOST_SHORTCUTS:
            self._shortcuts.clear()
        if isinstance(lane.direct, LocalBackend):
            self._shortcuts[id(task)] = _here(lane.direct, task, lane)
        else:
            call = Call(task)
            lease = lane.direct.direct(call)
            if lease is None:
                return
            self._shortcuts[id(task)] = (
                _learning(self._verbs, lane, call, lease) if lane.learns else _counted(lane, call, lease)
            )

    @overload
    def map(
        self, task: Callable[[I], Coroutine[Any, Any, T]], items: Iterable[I], /, *, limit: int | None = None
    ) -> list[T]: ...
    @overload
    def map(
        self, task: Callable[[I], Iterator[T] | AsyncIterator[T]], items: Iterable[I], /, *, limit: int | None = None
    ) -> list[list[T]]: ...
    @overload
    def map(self, task: Callable[[I], T], items: Iterable[I], /, *, limit: int | None = None) -> list[T]: ...
    @overload
    def map(self, task: str, items: Iterable[Any], /, *, limit: int | None = None) -> list[Any]: ...
    def map(self, task: Any, items: Iterable[Any], /, *, limit: int | None = None) -> list[Any]:
        """Run a task of one parameter on every item; results in the order of the items."""
        return self._portal().call(self._verbs.map(task, items, limit=limit))

    @overload
    def starmap(
        self,
        task: Callable[..., Coroutine[Any, Any, T]],
        items: Iterable[tuple[Any, ...]],
        /,
        *,
        limit: int | None = None,
    ) -> list[T]: ...
    @overload
    def starmap(
        self,
        task: Callable[..., Iterator[T] | AsyncIterator[T]],
        items: Iterable[tuple[Any, ...]],
        /,
        *,
        limit: int | None = None,
    ) -> list[list[T]]: ...
    @overload
    def starmap(
        self, task: Callable[..., T], items: Iterable[tuple[Any, ...]], /, *, limit: int | None = None
    ) -> list[T]: ...
    @overload
    def starmap(self, task: str, items: Iterable[tuple[Any, ...]], /, *, limit: int | None = None) -> list[Any]: ...
    def starmap(self, task: Any, items: Iterable[tuple[Any, ...]], /, *, limit: int | None = None) -> list[Any]:
        """`map` for tasks of several parameters: each item is the tuple of arguments of one call."""
        return self._portal().call(self._verbs.starmap(task, items, limit=limit))

    @overload
    def as_completed(
        self, task: Callable[[I], Coroutine[Any, Any, T]], items: Iterable[I], /, *, limit: int | None = None
    ) -> AbstractContextManager[Iterator[tuple[I, T]]]: ...
    @overload
    def as_completed(
        self, task: Callable[[I], Iterator[T] | AsyncIterator[T]], items: Iterable[I], /, *, limit: int | None = None
    ) -> AbstractContextManager[Iterator[tuple[I, list[T]]]]: ...
    @overload
    def as_completed(
        self, task: Callable[[I], T], items: Iterable[I], /, *, limit: int | None = None
    ) -> AbstractContextManager[Iterator[tuple[I, T]]]: ...
    @overload
    def as_completed(
        self, task: str, items: Iterable[I], /, *, limit: int | None = None
    ) -> AbstractContextManager[Iterator[tuple[I, Any]]]: ...
    @contextmanager
    def as_completed(
        self, task: Any, items: Iterable[Any], /, *, limit: int | None = None
    ) -> Generator[Iterator[tuple[Any, Any]]]:
        """Pairs of item and result, the first finished first, while the block is open; leaving it stops the rest."""
        portal = self._portal()
        block = self._verbs.as_completed(task, items, limit=limit)
        results = portal.call(block.__aenter__())
        try:
            yield _each(portal, results)
        finally:
            portal.call(_leave(block))

    @overload
    def stream(
        self, task: Callable[P, AsyncIterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractContextManager[Iterator[T]]: ...
    @overload
    def stream(
        self, task: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractContextManager[Iterator[T]]: ...
    @overload
    def stream(self, task: str, /, *args: Any, **kwargs: Any) -> AbstractContextManager[Iterator[Any]]: ...
    def stream(self, task: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The items of a generator task as they come, while the block is open; leaving it stops the task.

        >>> with rt.stream(words, "run it anywhere") as items:
        ...     for word in items:
        ...         ...
        """
        return self._stream(self._verbs.stream(task, *args, **kwargs))

    def explain(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Explanation:
        """Where this call would run now, and why not elsewhere. Runs nothing."""
        return self._verbs.explain(task, *args, **kwargs)

    @contextmanager
    def _stream(self, block: Any) -> Generator[Iterator[Any]]:
        portal = self._portal()
        items = portal.call(block.__aenter__())
        try:
            yield _each(portal, items)
        finally:
            portal.call(_leave(block))


class BlockingRuntime(BlockingVerbs):
    """`Runtime` without await, for scripts and threads: safe to use from many threads at once.

    with BlockingRuntime() as rt:
        print(rt.run(add, 1, 2))
    """

    def __init__(
        self,
        backends: Sequence[Backend] | None = None,
        *,
        tasks: TaskRegistry | Iterable[Callable[..., Any]] = (),
        strategy: str | Strategy = "auto",
        policies: Sequence[Policy] = (),
        hooks: Iterable[Hook] = (),
        clock: Clock | None = None,
    ) -> None:
        self._runtime = Runtime(backends, tasks=tasks, strategy=strategy, policies=policies, hooks=hooks, clock=clock)
        self._opened: Portal | None = None
        self._opening = threading.Lock()
        self._closed = False
        super().__init__(self._runtime, self._open_portal)
        for backend in self._runtime.backends:
            if isinstance(backend, WorkerBackend):
                backend.allow_leases()

    def start(self) -> None:
        """Get every place ready. Called by `with`."""
        self._open_portal()

    def close(self) -> None:
        """Close every place; calls still pending end with `BackendClosed`. Harmless when repeated."""
        with self._opening:
            self._closed = True
            portal, self._opened = self._opened, None
        if portal is None or portal.foreign:  # in a forked copy, what was opened belongs to the original
            return
        try:
            portal.call(self._runtime.aclose())
        finally:
            portal.close()

    @property
    def backends(self) -> tuple[Backend, ...]:
        return self._runtime.backends

    @property
    def tasks(self) -> TaskRegistry:
        return self._runtime.tasks

    @property
    def hooks(self) -> Hooks:
        return self._runtime.hooks

    @property
    def timings(self) -> Timings:
        return self._runtime.timings

    def stats(self) -> dict[str, dict[str, Tally]]:
        """For each task that ran, what it has used of each place."""
        return self._runtime.stats()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._runtime)[1:]}"

    def _open_portal(self) -> Portal:
        opened = self._opened
        if opened is not None:
            return opened
        with self._opening:
            if self._closed:
                raise BackendClosed("this runtime is closed: make a new one")
            if self._opened is None:
                portal = Portal()
                try:
                    portal.call(self._runtime.start())
                except BaseException:
                    portal.close()
                    raise
                self._opened = portal
            return self._opened


def _here(backend: LocalBackend, task: AnyTask, lane: Lane) -> Shortcut:
    """In this process, which is this thread: nobody else is kept waiting."""
    tally = lane.tally

    def run(args: tuple[Any, ...]) -> Any:
        backend.check_open()
        tally.calls += 1
        try:
            return backend.run_now(Call(task, args))
        except HybridComputeError:
            tally.failed += 1
            raise

    return run


def _counted(lane: Lane, call: Call, lease: Shortcut) -> Shortcut:
    """On an idle worker."""
    tally = lane.tally

    def run(args: tuple[Any, ...]) -> Any:
        try:
            result = lease(args)
        except HybridComputeError:
            tally.calls += 1
            tally.failed += 1
            raise
        if result is not NO_WORKER:
            tally.calls += 1
            tally.sent += call.sent
            tally.received += call.received
        return result

    return run


def _learning(verbs: Verbs, lane: Lane, call: Call, lease: Shortcut) -> Shortcut:
    """Wherever it was learned to be best."""
    place = lane.first.name if lane.first is not None else ""

    def run(args: tuple[Any, ...]) -> Any:
        profile = lane.timings.profile(args, {})
        if profile.choice != "default":
            return verbs.run_here(call.task, args, {}, profile)
        began = perf_counter()
        try:
            result = lease(args)
        except HybridComputeError:
            lane.tally.calls += 1
            lane.tally.failed += 1
            raise
        if result is not NO_WORKER:
            lane.count(call)
            profile.sample(place, call, began)
        return result

    return run


async def _run(verbs: Verbs, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`run` is called where its result is awaited: it looks for the event loop around it, and here may be another."""
    return await verbs.run(task, *args, **kwargs)


_END = object()


def _each(portal: Portal, items: AsyncIterator[T]) -> Iterator[T]:
    while (item := portal.call(_next(items))) is not _END:
        yield item


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)


async def _leave(block: Any) -> None:
    await block.__aexit__(None, None, None)
