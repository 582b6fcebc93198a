"""The runtime: one call, `await rt.run(task, ...)`, for every place.

It decides where a call may go (strategy, then policy, then ability), hands it to the first such place, and passes it
on to the next only as the error tree allows. The deciding is in `route`; the rest carries it out and measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.calls import Call
from hybrid_compute.clock import Clock, SystemClock
from hybrid_compute.core import Core
from hybrid_compute.errors import (
    BackendError,
    HybridComputeError,
)
from hybrid_compute.events import CallPassedOn, CallStarted, Hook, Hooks
from hybrid_compute.links.ticket import Ticket
from hybrid_compute.pending import Pending
from hybrid_compute.policy import Policy, may_pass_on
from hybrid_compute.reporting import asker, listener
from hybrid_compute.routing import Explanation, Lane, Route, because, may_retry, route
from hybrid_compute.strategies import CHANGING, Strategy, auto, resolve, unlearned
from hybrid_compute.tasks import AnyTask, PerTask, Task, TaskRegistry
from hybrid_compute.timings import Choice, Profile, Tally, TaskTimings, Timings

P = ParamSpec("P")
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  # an item of the input


@dataclass(frozen=True, slots=True)
class Options:
    """How calls are made: see `Runtime.options`."""

    strategy: str | Strategy = "auto"
    timeout: float | None = None
    queue_timeout: float | None = None
    priority: int = 0
    key: str | None = None


_PROMISED = Profile()
"""Of a task that promises to be quick nothing is learned."""


class Verbs:
    """The verbs of a runtime under one set of options: what `Runtime` offers, and what `rt.options(...)` returns."""

    def __init__(self, core: Core, options: Options) -> None:
        self._core = core
        self._options = options
        self._strategy = resolve(options.strategy, core.backends, core.timings)
        self._limited = options != Options(strategy=options.strategy)
        self.lanes: PerTask[Lane] = PerTask(self._lane)

    def options(
        self,
        *,
        strategy: str | Strategy | None = None,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        priority: int | None = None,
        key: str | None = None,
    ) -> Verbs:
        """The same verbs with other options; what is not given stays as it is here.

        `strategy` is a name or a callable. `timeout` counts in seconds from submission, `queue_timeout` the wait for
        a free place alone. Calls of higher `priority` go first where calls wait. A call with an idempotency `key` may
        be sent again where its answer was lost: a server that has seen the key runs it once. Give each call its own.

            >>> await rt.options(strategy="worker", timeout=2.0).run(add, 1, 2)
            3
        """
        for name, seconds in (("timeout", timeout), ("queue_timeout", queue_timeout)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} must be a positive number of seconds, not {seconds!r}")
        given: dict[str, Any] = {
            "strategy": strategy,
            "timeout": timeout,
            "queue_timeout": queue_timeout,
            "priority": priority,
            "key": key,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        return self.under(replace(self._options, **changed))

    @overload
    def run(
        self, task: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def run(
        self, task: Callable[P, Iterator[T] | AsyncIterator[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, list[T]]: ...
    @overload
    def run(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...
    @overload
    def run(self, task: str, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]: ...
    def run(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run a task wherever it runs best and return its result; a generator task returns the list of its items.

        The call may be under way before it is awaited, so that many can be gathered. Cancelling it stops the task.
        What is returned may be awaited once, or given to `gather`, `wait_for`, `create_task` or a task group; where
        several are to be watched, as by `asyncio.wait`, make tasks of them.
        Raises `TaskFailed` if its code raises, `TaskTimeout` when its time is up, `NoBackendAvailable` or
        `PolicyRefused` if no place can or may run it, and a `BackendError` if the place failed for good.

            >>> await rt.run(add, 1, 2)
            3
        """
        core = self._core
        known: AnyTask = task if type(task) is Task else core.find(task)  # pyright: ignore[reportAssignmentType]
        lane = self.lanes.known.get(id(known)) or self.lanes[known]
        profile = None
        if lane.learns:
            profile = lane.timings.profile(args, kwargs)
            if profile.choice == "inline":
                return core.run_inline(known, args, kwargs, profile)
        elif lane.route is None:  # the strategy is asked anew each time, and may go by what was measured
            profile = lane.timings.profile(args, kwargs)
        call = Ticket(known, args, kwargs)
        if listener.get() is not None:
            call.listener = asker()
        if self._limited or known.timeout is not None:
            self._limit(call)
        workers = lane.workers
        if workers is None or core.hooks or (profile is not None and profile.choice != "default"):
            return self._run(call, lane, profile)
        # The straight way, which nearly every call goes: it is in line for a worker when this returns.
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # asked for by another thread, to be awaited in the loop's
            return self._run(call, lane, profile)
        pending = Pending(loop=loop)
        pending.lane, pending.call, pending.profile = lane, call, profile
        if profile is not None:
            pending.began = perf_counter()
        try:
            pool = workers.begin(call, pending, loop)
        except HybridComputeError as error:
            pending.set_exception(error)
            return pending
        if pool is None:  # no room in the line: this one must wait to be let in
            return self._run(call, lane, profile)
        pending.pool = pool
        return pending

    @overload
    async def map(
        self, task: Callable[[I], Coroutine[Any, Any, T]], items: Iterable[I], /, *, limit: int | None = None
    ) -> list[T]: ...
    @overload
    async def map(
        self, task: Callable[[I], Iterator[T] | AsyncIterator[T]], items: Iterable[I], /, *, limit: int | None = None
    ) -> list[list[T]]: ...
    @overload
    async def map(self, task: Callable[[I], T], items: Iterable[I], /, *, limit: int | None = None) -> list[T]: ...
    @overload
    async def map(self, task: str, items: Iterable[Any], /, *, limit: int | None = None) -> list[Any]: ...
    async def map(
        self, task: Callable[..., Any] | str, items: Iterable[Any], /, *, limit: int | None = None
    ) -> list[Any]:
        """Run a task of one parameter on every item; results in the order of the items.

        Items travel in batches; at most `limit` are on their way at a time. The first failure is raised, and the
        rest is given up.

            >>> await rt.map(double, [1, 2, 3])
            [2, 4, 6]
        """
        return await self.starmap(self._core.find(task), ((item,) for item in items), limit=limit)

    @overload
    async def starmap(
        self,
        task: Callable[..., Coroutine[Any, Any, T]],
        items: Iterable[tuple[Any, ...]],
        /,
        *,
        limit: int | None = None,
    ) -> list[T]: ...
    @overload
    async def starmap(
        self,
        task: Callable[..., Iterator[T] | AsyncIterator[T]],
        items: Iterable[tuple[Any, ...]],
        /,
        *,
        limit: int | None = None,
    ) -> list[list[T]]: ...
    @overload
    async def starmap(
        self, task: Callable[..., T], items: Iterable[tuple[Any, ...]], /, *, limit: int | None = None
    ) -> list[T]: ...
    @overload
    async def starmap(
        self, task: str, items: Iterable[tuple[Any, ...]], /, *, limit: int | None = None
    ) -> list[Any]: ...
    async def starmap(
        self, task: Callable[..., Any] | str, items: Iterable[tuple[Any, ...]], /, *, limit: int | None = None
    ) -> list[Any]:
        """`map` for tasks of several parameters: each item is the tuple of arguments of one call."""
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self._insist_on_no_key()
        known = self._core.find(task)
        inputs = list(items)
        for index, item in enumerate(inputs):
            if type(item) is not tuple:
                inputs[index] = tuple(item)
        return await self._map(known, inputs, limit)

    @overload
    def as_completed(
        self, task: Callable[[I], Coroutine[Any, Any, T]], items: Iterable[I], /, *, limit: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[I, T]]]: ...
    @overload
    def as_completed(
        self, task: Callable[[I], Iterator[T] | AsyncIterator[T]], items: Iterable[I], /, *, limit: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[I, list[T]]]]: ...
    @overload
    def as_completed(
        self, task: Callable[[I], T], items: Iterable[I], /, *, limit: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[I, T]]]: ...
    @overload
    def as_completed(
        self, task: str, items: Iterable[I], /, *, limit: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[I, Any]]]: ...
    @asynccontextmanager
    async def as_completed(
        self, task: Callable[..., Any] | str, items: Iterable[Any], /, *, limit: int | None = None
    ) -> AsyncGenerator[AsyncIterator[tuple[Any, Any]]]:
        """Pairs of item and result, the first finished first, while the block is open; leaving it stops the rest.

        The first failure is raised, and is the last that comes.

        >>> async with rt.as_completed(double, [1, 2, 3]) as results:
        ...     async for given, got in results:
        ...         ...
        """
        self._insist_on_no_key()
        known = self._core.find(task)
        gate = asyncio.Semaphore(limit) if limit is not None else None
        finished: asyncio.Queue[tuple[Any, asyncio.Task[Any]]] = asyncio.Queue()

        async def one(item: Any) -> Any:
            if gate is None:
                return await self.run(known, item)
            async with gate:
                return await self.run(known, item)

        async def results(count: int) -> AsyncIterator[tuple[Any, Any]]:
            for _ in range(count):
                item, done = await finished.get()
                yield item, done.result()

        running: list[asyncio.Task[Any]] = []
        try:
            for item in items:
                running.append(asyncio.create_task(one(item)))
                running[-1].add_done_callback(lambda done, item=item: finished.put_nowait((item, done)))  # type: ignore[misc]
            yield results(len(running))
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    @overload
    def stream(
        self, task: Callable[P, AsyncIterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[AsyncIterator[T]]: ...
    @overload
    def stream(
        self, task: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[AsyncIterator[T]]: ...
    @overload
    def stream(self, task: str, /, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[AsyncIterator[Any]]: ...
    def stream(self, task: Any, /, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """The items of a generator task as they come, while the block is open; leaving it stops the task.

        The task runs only a few items ahead of its reader. As with any async generator, a step that is cancelled, by
        `wait_for` for one, ends the iteration: to look in between, make a task of the step and wait for that.

            >>> async with rt.stream(words, "run it anywhere") as items:
            ...     async for word in items:
            ...         ...
        """
        known = self._core.find(task)
        if not known.streams:
            raise TypeError(f"task {known.name!r} is a {known.kind}, not a generator: use run")
        return self._stream(known, args, kwargs)

    def explain(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Explanation:
        """Where this call would run now, what comes after it, and why not elsewhere. Runs nothing."""
        known = self._core.find(task)
        lane = self.lanes[known]
        decided = self._decide(known, lane)
        profile = lane.timings.profile(args, kwargs)
        learned = profile.choice if lane.learns else "default"
        order = [backend.name for backend in self._reorder(decided.order, learned)]
        place = order[0] if order else None
        if learned == "inline" and self._core.inline is not None:
            place = f"{self._core.inline.name}, in the event loop"
        why = because(known, self._options.strategy, decided, learned)
        if lane.learns and learned == "default":
            why += ", and nothing measured speaks against it" if profile.places else ", and nothing is measured yet"
        measured = {name: repr(estimate) for name, estimate in profile.places.items()}
        return Explanation(known.name, place, why, tuple(order), decided.refusals, learned, measured)

    def promised(self, task: AnyTask) -> bool:
        """Whether calls of this task run right in the event loop, because its author has promised `cost="trivial"`."""
        if task.cost != "trivial" or task.kind != "function":
            return False
        lane = self.lanes.known.get(id(task)) or self.lanes[task]
        return lane.first is not None and lane.first is self._core.inline

    def run_promised(self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run such a call here and now, for who answers many of them and gives the event loop its turns in between."""
        return self._core.run_now(task, args, kwargs, _PROMISED)

    # For those who build on it: the blocking façade, pipelines.

    def under(self, settings: Options) -> Verbs:
        """The same verbs under exactly these options."""
        return Verbs(self._core, settings)

    @property
    def settings(self) -> Options:
        """The options that these verbs are under."""
        return self._options

    @property
    def clock(self) -> Clock:
        return self._core.clock

    def find(self, task: Callable[..., Any] | str) -> AnyTask:
        """The task behind a name or a function."""
        return self._core.find(task)

    @property
    def hooks(self) -> Hooks:
        """The list of callables that receive events: append to it, remove from it."""
        return self._core.hooks

    def run_here(self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], profile: Profile) -> Any:
        """Run a task in the calling thread, because that was learned to be best."""
        core = self._core
        core.check_open()
        call = Call(task, args, kwargs)
        assert core.inline is not None
        tally = core.timings[task].tally(core.inline.name)
        began = perf_counter()
        try:
            result = core.inline.run_now(call)
        except BaseException:
            tally.failed += 1
            raise
        finally:
            tally.calls += 1
            if profile.choice == "inline" and call.ran is not None and call.ran > profile.limit:
                profile.slow(call.ran)
        if profile.choice != "inline":
            profile.add(core.inline.name, call, perf_counter() - began)
        return result

    # Within.

    def _lane(self, task: AnyTask) -> Lane:
        core = self._core
        timings = core.timings[task]
        name = self._options.strategy
        steady = self._strategy in (auto, unlearned) or (isinstance(name, str) and name not in CHANGING)
        fixed = core.fixed_rules and steady
        decided = route(task, core.backends, self._strategy, core.policies) if fixed else None
        first = decided.order[0] if decided is not None and decided.order else None
        # What is learned may move a task into this process, so this process must be allowed, and able.
        here = decided is not None and core.inline in decided.order
        learns = here and self._strategy is auto and task.kind == "function"
        lane = Lane(timings, learns, decided, first, timings.tally(first.name) if first else Tally())
        if decided is None or first is None or task.streams or task.retries:
            return lane
        if isinstance(first, LocalBackend | WorkerBackend) and task.kind == "function":
            lane.direct = first if task.timeout is None and not self._limited else None
        if isinstance(first, WorkerBackend):
            lane.workers = first
            if len(decided.order) > 1:
                lane.recover = partial(self._recover, decided)
        return lane

    def _decide(self, task: AnyTask, lane: Lane) -> Route:
        """The route for a call now; the one remembered, if nothing about it can have changed."""
        decided = lane.route
        if decided is not None and not decided.refusals and all(backend.can_run(task) for backend in decided.order):
            return decided
        return route(task, self._core.backends, self._strategy, self._core.policies)

    def _reorder(self, order: tuple[Backend, ...], choice: Choice) -> tuple[Backend, ...]:
        """The learned place first."""
        if choice == "default" or self._core.inline not in order:
            return order
        return tuple(sorted(order, key=lambda backend: backend is not self._core.inline))

    def _limit(self, call: Call) -> None:
        options = self._options
        call.timeout = options.timeout if options.timeout is not None else call.task.timeout
        if call.timeout is not None:
            call.deadline = self._core.clock.time() + call.timeout
        call.queue_timeout = options.queue_timeout
        call.priority = options.priority
        call.key = options.key

    def _insist_on_no_key(self) -> None:
        if self._options.key is not None:
            raise ValueError(f"a key stands for one call, and {self._options.key!r} would be given to many: use run")

    async def _recover(self, decided: Route, call: Call, error: HybridComputeError) -> Any:
        """The first place has failed: try the others, if the error allows."""
        following = decided.order[1:]
        if not isinstance(error, BackendError) or not self._may_pass_on(error, call.task, following):
            raise error
        return await self._try_each(call, decided, following, None, {decided.order[0].name: str(error)})

    async def _run(self, call: Call, lane: Lane, profile: Profile | None) -> Any:
        """The careful way: decide anew, tell the hooks, retry."""
        task = call.task
        for left in range(task.retries, -1, -1):
            decided = self._decide(task, lane)
            order = self._reorder(decided.order, profile.choice) if profile and lane.learns else decided.order
            try:
                return await self._try_each(call, decided, order, profile, {})
            except HybridComputeError as error:
                if not left or not may_retry(error, task):
                    raise
        raise AssertionError("unreachable")

    async def _try_each(
        self,
        call: Call,
        decided: Route,
        order: tuple[Backend, ...],
        profile: Profile | None,
        failures: dict[str, str],
    ) -> Any:
        """Give the call to the places in order until one answers, as far as the errors allow."""
        core, task = self._core, call.task
        for index, backend in enumerate(order):
            began = perf_counter()
            call.ran, call.queued, call.sent, call.received = None, False, 0, 0
            if core.hooks:
                core.hooks.emit(CallStarted(call.number, task.name, backend.name))
            try:
                result = await backend.run_call(call)
            except BaseException as error:
                core.note(call, backend, perf_counter() - began, error)
                if not isinstance(error, BackendError) or not self._may_pass_on(error, task, order[index + 1 :]):
                    raise
                failures[backend.name] = str(error)
                if core.hooks:
                    core.hooks.emit(CallPassedOn(call.number, task.name, backend.name, error))
                continue
            seconds = perf_counter() - began
            core.note(call, backend, seconds, None)
            if profile is not None:
                profile.add(backend.name, call, seconds)
            return result
        refusals = {**decided.refusals, **failures}
        raise core.refuse(task, replace(decided, refusals=refusals, forbidden=decided.forbidden and not failures))

    def _may_pass_on(self, error: BackendError, task: AnyTask, following: Sequence[Backend]) -> bool:
        """Not while the runtime is being closed: what one place drops then is not for the next."""
        return not self._core.closed and may_pass_on(error, task, following)

    async def _map(self, task: AnyTask, inputs: list[tuple[Any, ...]], limit: int | None) -> list[Any]:
        core, lane = self._core, self.lanes[task]
        whole = Call(task)
        self._limit(whole)  # all calls of a map are submitted at once: they share one deadline
        results: list[Any] = []
        while lane.learns and len(results) < len(inputs):
            args = inputs[len(results)]
            profile = lane.timings.profile(args, {})
            late = whole.deadline is not None and core.clock.time() > whole.deadline
            if profile.choice != "inline" or late:  # then a place says so
                break
            results.append(await core.run_inline(task, args, {}, profile))
        if len(results) < len(inputs):
            results += await self._run_batch(whole, lane, inputs[len(results) :], limit)
        return results

    async def _run_batch(
        self, whole: Call, lane: Lane, inputs: Sequence[tuple[Any, ...]], limit: int | None
    ) -> list[Any]:
        core, task = self._core, whole.task
        decided = self._decide(task, lane)
        if not decided.order:
            raise core.refuse(task, decided)
        backend = decided.order[0]
        if not backend.batches or task.kind != "function" or task.retries or core.hooks:
            return await self._run_each(whole, lane, inputs, limit)
        began = perf_counter()
        try:
            results = await backend.run_batch(whole, inputs, limit)
        except BackendError as error:
            # A batch ends as a whole. Only where running again is harmless do its calls go on one by one.
            if not self._may_pass_on(error, task, decided.order[1:]):
                if core.forbids(error):
                    refusals = {**decided.refusals, backend.name: str(error)}
                    raise core.refuse(task, replace(decided, refusals=refusals, forbidden=True)) from error
                raise
            return await self._run_each(whole, lane, inputs, limit)
        core.note(whole, backend, perf_counter() - began, None, len(inputs))
        return results

    async def _run_each(
        self, whole: Call, lane: Lane, inputs: Sequence[tuple[Any, ...]], limit: int | None
    ) -> list[Any]:
        results: list[Any] = [None] * len(inputs)
        todo = iter(enumerate(inputs))

        async def work() -> None:
            for index, args in todo:
                call = Call(whole.task, args)
                call.timeout, call.deadline = whole.timeout, whole.deadline
                call.queue_timeout, call.priority = whole.queue_timeout, whole.priority
                results[index] = await self._run(call, lane, None)

        workers = [asyncio.create_task(work()) for _ in range(min(len(inputs), limit or 256))]
        try:
            await asyncio.gather(*workers)
        finally:
            for each in workers:
                each.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return results

    @asynccontextmanager
    async def _stream(
        self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[AsyncIterator[Any]]:
        core = self._core
        decided = self._decide(task, self.lanes[task])
        if not decided.order:
            raise core.refuse(task, decided)
        call = Call(task, args, kwargs)
        call.listener = asker()
        self._limit(call)
        async with AsyncExitStack() as stack:
            items = self._items(call, decided.order, stack)
            stack.push_async_callback(items.aclose)
            yield items

    async def _items(self, call: Call, order: tuple[Backend, ...], stack: AsyncExitStack) -> AsyncGenerator[Any]:
        """The items from the first place that delivers any."""
        core, task = self._core, call.task
        for index, backend in enumerate(order):
            if core.hooks:
                core.hooks.emit(CallStarted(call.number, task.name, backend.name))
            began, delivered = perf_counter(), False
            failure: BaseException | None = None
            try:
                items = await stack.enter_async_context(backend.stream_call(call))
                async for item in items:
                    delivered = True
                    yield item
                return
            except GeneratorExit:  # its reader has seen enough
                raise
            except BaseException as error:
                failure = error
                passed_on = isinstance(error, BackendError) and may_pass_on(error, task, order[index + 1 :])
                if delivered or not passed_on:
                    raise
                if core.hooks and isinstance(error, BackendError):
                    core.hooks.emit(CallPassedOn(call.number, task.name, backend.name, error))
            finally:
                core.note(call, backend, perf_counter() - began, failure)


class Runtime(Verbs):
    """Runs tasks wherever they run best. By default: worker processes, then this process.

    `tasks` can be run by name. `policies` forbid places. `hooks` receive events. A constructor opens nothing; use it
    as a block, which closes what was opened and answers every call still pending.

        async with Runtime() as rt:
            print(await rt.run(add, 1, 2))
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
        places = [WorkerBackend(), LocalBackend()] if backends is None else list(backends)
        registry = tasks if isinstance(tasks, TaskRegistry) else TaskRegistry(tasks)
        core = Core(places, registry, policies, Hooks(hooks), clock or SystemClock())
        super().__init__(core, Options(strategy=strategy))
        self._entered = False

    @property
    def backends(self) -> tuple[Backend, ...]:
        return self._core.backends

    @property
    def tasks(self) -> TaskRegistry:
        return self._core.registry

    @property
    def timings(self) -> Timings:
        return self._core.timings

    def stats(self) -> dict[str, dict[str, Tally]]:
        """For each task that ran, what it has used of each place: calls, failures, bytes sent and received."""
        known: Iterable[TaskTimings] = self._core.timings.tasks.values()
        return {each.name: dict(each.tallies) for each in known if each.tallies}

    async def start(self) -> None:
        """Get every place ready. Called by `async with`."""
        self._core.check_open()
        if self._entered:
            return
        for backend in self.backends:
            backend.hooks = self._core.hooks
            backend.clock = self._core.clock
        async with AsyncExitStack() as stack:  # if one does not start, those before it are closed
            for backend in self.backends:
                stack.push_async_callback(backend.aclose)
                await backend.start()
            stack.pop_all()
        self._entered = True

    async def aclose(self) -> None:
        """Close every place; calls still pending end with `BackendClosed`. Harmless when repeated."""
        self._core.closed = True
        async with AsyncExitStack() as stack:  # each is closed, whatever another raises
            for backend in self.backends:
                stack.push_async_callback(backend.aclose)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Runtime of {', '.join(map(repr, self.backends))}>"
