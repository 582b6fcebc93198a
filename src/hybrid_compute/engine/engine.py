"""`Engine`: a reference to state that lives in one place, and is changed only by named actions.

async with Engine(use_worker=True) as engine:
    await engine.dispatch_async("stack:shuffle", {"seed": 42})
    cards = await engine.dispatch_async("stack:draw", {"count": 5})
"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, overload

from hybrid_compute.clock import Clock, SystemClock
from hybrid_compute.engine import saving
from hybrid_compute.engine.actions import ActionRegistry, Ask
from hybrid_compute.engine.answer import Answer
from hybrid_compute.engine.autosave import Autosave
from hybrid_compute.engine.carrier import Carrier
from hybrid_compute.engine.core import Description, Done, Failed, Outcome, Plan, Request, own
from hybrid_compute.engine.here import Here
from hybrid_compute.engine.listeners import Events, Listener, Listeners
from hybrid_compute.engine.methods import actions_of, named
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.there import There
from hybrid_compute.engine.turn import Told, turn
from hybrid_compute.engine.universal import carrier_by
from hybrid_compute.engine.watchers import Entry, Watcher
from hybrid_compute.errors import BackendClosed, BackendError, EngineError, EngineStopped, HybridComputeError
from hybrid_compute.portal import Portal

S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")


class Result(NamedTuple):
    """What became of an action: its `result`, or the `error` that `dispatch_async` would have raised."""

    ok: bool
    result: Any = None
    error: HybridComputeError | None = None


class Engine(Generic[S]):
    """State, and the actions that change it.

    `state` makes the state: a class, whose methods then are the actions, or a function, with `actions` beside it.
    A `Plan` says all of that by itself, and the seed; without any of these it is a table with the token actions. With
    `use_worker` the state lives in a worker process, which is the engine's own unless it gets some `workers` to share.
    All chance in its actions follows from `seed`.

        >>> async with Engine(Deck, use_worker=True) as engine:
        ...     await engine.dispatch_async(Deck.draw, count=2)
        ['H-A', 'S-7']
    """

    def __init__(
        self,
        state: Callable[[], S] | Plan | None = None,
        actions: ActionRegistry | None = None,
        *,
        use_worker: bool = False,
        worker_options: WorkerOptions | None = None,
        workers: Carrier | None = None,
        seed: int | None = None,
        checkpoints: int = 5,
        now: Callable[[], float] = time.time,
        clock: Clock | None = None,
    ) -> None:
        self.plan = _plan(state, actions, seed, checkpoints)
        self.options = worker_options or WorkerOptions()
        self.clock = clock or SystemClock()
        self._use_worker = use_worker or workers is not None
        if workers is not None and workers.size != 1:
            raise ValueError(f"an engine lives in one worker, and these are {workers.size}: see EnginePool")
        self._workers = workers
        self._owns_workers = workers is None
        self._clock = now
        self._home: Here | There | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._portal: Portal | None = None
        self._stopped: EngineStopped | None = None
        self._starting: asyncio.Task[None] | None = None
        self._ending: asyncio.Future[None] | None = None
        self._process = os.getpid()
        self._listeners = Listeners(self._listen)
        self._iterators: weakref.WeakSet[Events] = weakref.WeakSet()
        self._early: list[tuple[Request, Answer]] = []
        self._saving = asyncio.Lock()
        if not self._use_worker:
            self._home = Here(self.plan, self._now(), self.tell)

    # Life.

    async def start(self) -> None:
        """Have the state made where it is to live. Called by `async with`, and by the first dispatch.

        Raises `BackendUnavailable` if the worker cannot be started, and there is no `fallback`.
        """
        self._insist_on_its_loop()
        if self._home is None:
            await asyncio.shield(self._start_soon())

    def _start_soon(self) -> asyncio.Task[None]:
        if self._starting is None:
            self._process = os.getpid()
            self._loop = asyncio.get_running_loop()
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_seen)
        return self._starting

    async def _start(self) -> None:
        wanted = self._listeners.wanted
        try:
            self._home = await self._made(wanted)
        except BaseException as error:
            await self._let_workers_go()
            for _, answer in self._take_early():
                answer.fail(self._stopped or error) if isinstance(error, Exception) else answer.cancel()
            raise
        if self._listeners.wanted != wanted:
            self._listen()
        while self._early:  # and what listeners dispatch meanwhile
            request, answer = self._early[0]
            try:
                self._submit(self._home, request, answer)
            except Exception as error:
                answer.fail(error)
            del self._early[0]

    async def _made(self, wanted: frozenset[str]) -> Here | There:
        """The state, where it is to live."""
        try:
            if self._workers is None:
                self._workers = carrier_by(self.options.mechanism)
            there = There(self.plan, self.options, self._workers, self, self._now)
            await self._answer(partial(there.begin, wanted))
            return there
        except BackendError as error:
            if self.options.fallback != "local" or isinstance(error, BackendClosed):
                raise
            warnings.warn(
                f"the engine lives in this process, because its worker failed: {error}", RuntimeWarning, stacklevel=2
            )
            here = Here(self.plan, self._now(), self.tell)
            here.ask("listen", wanted)
            self.tell([Told("engine:fallback", {"reason": str(error)}, "engine")])
            return here

    def _take_early(self) -> list[tuple[Request, Answer]]:
        """What was dispatched before there was a home."""
        early, self._early = self._early, []
        return early

    async def shutdown(self) -> None:
        """Answer what is pending, and let go of the state. Later dispatches raise `EngineStopped`. May be repeated.

        It waits for the action under way as long as that may take: with `timeout=None`, for ever. Cancelling it stops
        the worker at once, and what is pending raises `EngineStopped`.
        """
        if self._stopped is not None:
            if self._ending is not None:
                await asyncio.shield(self._ending)
            return
        self._insist_on_its_loop()
        self._stopped = EngineStopped("the engine was shut down")
        self._ending = asyncio.get_running_loop().create_future()
        try:
            await self._end_start()
            if isinstance(self._home, There):
                await self._answer(self._home.end)
        except HybridComputeError:
            pass  # it has no worker any more
        finally:
            if isinstance(self._home, There):
                self._home.kill(self._stopped)
            self._say_goodbye()
            try:
                await self._let_workers_go()
            finally:
                self._ending.set_result(None)

    async def _end_start(self) -> None:
        """If it is still starting, have that over."""
        if self._starting is None or self._starting.done():
            return
        await self._let_workers_go()
        await asyncio.wait([self._starting])

    def _say_goodbye(self) -> None:
        self.tell([Told("engine:shutdown", None, "engine")])
        for each in list(self._iterators):
            each.end()

    async def _let_workers_go(self) -> None:
        if self._owns_workers and self._workers is not None:
            await self._workers.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:  # cancelled, say: there is no block that would end it
            await self.shutdown()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    def __enter__(self) -> Self:
        if self._use_worker:
            self._portal = Portal("hybrid-compute engine")
            try:
                self._portal.call(self.start())
            except BaseException:
                self._portal.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._portal is None:
            return self._end_here()
        try:
            self._portal.call(self.shutdown())
        finally:
            self._portal.close()

    def _end_here(self) -> None:
        """`shutdown` where there is no worker to wait for."""
        if self._stopped is None:
            self._stopped = EngineStopped("the engine was shut down")
            self._say_goodbye()

    # Dispatching.

    @overload
    def dispatch_async(
        self, action: Callable[Concatenate[S, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def dispatch_async(self, action: Ask[T], /, *, reversible: bool = True) -> Coroutine[Any, Any, T]: ...
    @overload
    def dispatch_async(
        self, action: str, payload: Any = None, /, *, reversible: bool = True
    ) -> Coroutine[Any, Any, Any]: ...
    def dispatch_async(self, action: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Do an action where the state lives, and return its result. Actions are done in the order of dispatch.

        It is under way before it is awaited, so that many can be gathered; `create_task` takes what is returned as
        well, and `asyncio.wait` needs tasks. Cancelling leaves the action to be done.
        Raises `ActionNotFound`, `ActionFailed` or what else the action raises of ours, and the state is as before;
        `TaskTimeout` if it was not done in time; `WorkerLost` if its worker died; `EngineStopped` after the end.

            >>> await engine.dispatch_async("stack:draw", {"count": 5})
        """
        loop = asyncio._get_running_loop()
        if loop is None:
            return self._dispatch_later(action, args, kwargs)
        answer = Answer(loop=loop)
        answer.message = None
        try:
            if loop is not self._loop or self._stopped is not None:
                self._insist_on_its_loop()
            request = self._request(action, args, kwargs)
            if self._home is None or self._early:
                self._wait_for_home(request, answer)
            else:
                self._submit(self._home, request, answer)
        except Exception as error:
            answer.fail(error)
        return answer

    async def _dispatch_later(self, action: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same from where no event loop runs: it begins in the loop that drives it."""
        return await self.dispatch_async(action, *args, **kwargs)

    def _wait_for_home(self, request: Request, answer: Answer) -> None:
        """Keep an action until there is a home, and what was dispatched before is on its way there."""
        if self._home is None and (starting := self._start_soon()).done():
            starting.result()  # which raises why it has failed
        self._early.append((own(request), answer))

    def _submit(self, home: Here | There, request: Request, answer: Answer) -> None:
        if isinstance(home, Here):
            answer.settle(home.do(request))
        else:
            home.do(request, answer)

    @overload
    def dispatch(self, action: Callable[Concatenate[S, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def dispatch(self, action: Ask[T], /, *, reversible: bool = True) -> T: ...
    @overload
    def dispatch(self, action: str, payload: Any = None, /, *, reversible: bool = True) -> Any: ...
    def dispatch(self, action: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The same for ordinary code: it waits.

        An engine in a worker can be waited for once it is open: by ordinary code that has opened it by `with`, and from
        other threads than that of its event loop. In a running event loop it holds up all others there, and warns of
        that; in the engine's own loop it raises `EngineError` where only that loop could bring the answer, because the
        worker has gone, or another one takes its place, and to listeners, which are told of what came before.
        """
        self._insist_on_running()
        if isinstance(self._home, Here):
            return _result(self._home.do(self._request(action, args, kwargs)))
        if self._portal is None and self._home is None:
            raise EngineError("dispatch cannot wait for an engine that is not open: use `with` or `async with`")
        if turn.get(None) is not None:  # in a thread that is this engine's worker, it would be for ever
            raise EngineError("an action cannot wait for another one: a policy can dispatch, and who listens can")
        running = asyncio._get_running_loop()
        if running is not None:
            warnings.warn(
                "dispatch waits, and holds up the event loop: use dispatch_async", RuntimeWarning, stacklevel=2
            )
        if running is not None and running is self._loop:
            return self._hold_up(running, self._request(action, args, kwargs))
        work = self._dispatch_later(action, args, kwargs)
        return self._wait_for(work) if self._portal is None else self._portal.call(work)

    def _hold_up(self, loop: asyncio.AbstractEventLoop, request: Request) -> Any:
        """Do an action before the event loop turns again."""
        if not isinstance(self._home, There) or self._early:
            raise EngineError("dispatch cannot wait for an engine that is not open yet: use dispatch_async")
        answer = Answer(loop=loop)
        answer.message = None
        answer.add_done_callback(_seen)
        self._home.do_now(request, answer)
        if not answer.done():
            raise EngineError(
                f"action {request.type!r} has no answer before the event loop turns again, so dispatch cannot wait for "
                "it there: it may be done all the same. Use dispatch_async"
            )
        return answer.result()

    async def dispatch_checked(self, action: Any, /, *args: Any, **kwargs: Any) -> Result:
        """What became of the action, whatever it is."""
        try:
            return Result(True, await self.dispatch_async(action, *args, **kwargs))
        except HybridComputeError as error:
            return Result(False, error=error)

    async def dispatch_many(self, actions: Iterable[tuple[str, Any]], *, atomic: bool = False) -> list[Result]:
        """Do several in one message, in order; what became of each. If `atomic`, all of them are done or none.

        Raises what the first that failed has raised, if `atomic`.
        """
        requests = [self._request(type, (payload,), {}) for type, payload in actions]
        if not requests:
            return []
        home = await self._ready()
        if isinstance(home, Here):
            outcomes = home.do_many(requests, atomic=atomic)
        else:
            outcomes = await self._answer(partial(home.do_many, requests, atomic))
        for each in outcomes:
            if atomic and isinstance(each, Failed):
                raise each.error
        return [_checked(each) for each in outcomes]

    # Listening.

    def on(self, type: str, listener: Listener) -> None:
        """Call `listener` with each event of this type; with every event, after the others, for `"*"`."""
        self._listeners.add(type, listener)

    def once(self, type: str, listener: Listener) -> None:
        """The same for the first event only."""
        self._listeners.add(type, listener, once=True)

    def off(self, type: str, listener: Listener) -> None:
        """Call it no more."""
        self._listeners.remove(type, listener)

    def events(self, *types: str) -> Events:
        """An iterator of events of these types, all if none are said, for as long as a `with` block is open.

        >>> with engine.events("draw") as events:
        ...     async for event in events:
        ...         ...
        """
        events = Events(self._listeners, types)
        self._iterators.add(events)
        return events

    def tell(self, told: Iterable[Told]) -> None:
        """Tell all who listen."""
        self._listeners.tell(told)

    def _listen(self) -> None:
        """What is listened to has changed."""
        if isinstance(self._home, Here):
            self._home.ask("listen", self._listeners.wanted)
        elif self._home is not None:
            self._home.listen(self._listeners.wanted)

    def stopped(self, error: HybridComputeError) -> None:
        """The worker was lost with the state."""
        self.tell([Told("engine:error", {"action": None, "error": str(error)}, "engine")])

    # The rest of what a core can do.

    async def state(self) -> S:
        """A copy of the state."""
        return await self._ask("peek")  # type: ignore[no-any-return]

    async def history(self, start: int = 0) -> list[Entry]:
        """What was done, from that entry on."""
        return await self._ask("entries", start)  # type: ignore[no-any-return]

    async def undo(self, steps: int | None = None) -> Entry | None:
        """Take back the last `steps` actions, or all since the last checkpoint: see `Core.undo`."""
        undone = await self._go_back("undo", steps)
        if undone is not None:
            self.tell([Told("engine:undo", undone, "engine")])
        return undone  # type: ignore[no-any-return]

    async def compact(self) -> None:
        """Forget what was done; the state stays, and can no longer be undone."""
        await self._go_back("compact")
        self.tell([Told("engine:compacted", None, "engine")])

    async def snapshot(self) -> bytes:
        """State and history, as bytes that `restore` takes: here, or in another engine with the same actions."""
        return await self._ask("snapshot")  # type: ignore[no-any-return]

    async def restore(self, snapshot: bytes) -> int:
        """Go on from a snapshot; how many entries its history has. It is a pickle: restore only what you trust."""
        length = await self._go_back("restore", snapshot)
        self.tell([Told("engine:restored", {"history": length}, "engine")])
        return length  # type: ignore[no-any-return]

    async def replay(self, history: list[Entry]) -> int:
        """Begin anew, and do what another engine has done, as its `history` says; how many entries that were.

        With the same actions and the same `seed` the state is the same, bit for bit, in whatever process; as far as
        the actions ask only for the `now`, `chance` and `new_id` of this package. Raises `EngineError` if one of them
        cannot be done again; then nothing has changed.
        """
        length = await self._go_back("replay", history)
        self.tell([Told("engine:restored", {"history": length}, "engine")])
        return length  # type: ignore[no-any-return]

    async def fork(self) -> Self:
        """Another engine, which goes on from the state as it is now, and is shut down by itself.

        It lives as this one does, with a worker of its own if this one has that, and without its listeners and
        policies. It has the same seed, so the same actions have the same luck in both.
        """
        snapshot = await self.snapshot()
        twin = self._twin()
        try:
            await twin.restore(snapshot)
        except BaseException:
            await twin.shutdown()
            raise
        return twin

    def _twin(self) -> Self:
        """Another engine that lives as this one does."""
        twin = object.__new__(type(self))  # a subclass may be made from other things, but of nothing else than this
        Engine.__init__(
            twin,
            self.plan,
            use_worker=self._use_worker,
            worker_options=self.options,
            workers=None if self._owns_workers else self._workers,
            now=self._clock,
            clock=self.clock,
        )
        return twin

    async def describe(self) -> Description:
        """What it is made of, and how far it is."""
        return await self._ask("describe")  # type: ignore[no-any-return]

    # In files.

    async def save(self, path: str | PathLike[str]) -> None:
        """Write a snapshot into a file, whole or not at all. Raises `OSError`; then the file is as it was."""
        async with self._saving:  # a later one is not overtaken by an earlier one
            await asyncio.to_thread(saving.save, Path(path), await self.snapshot())
        self.tell([Told("engine:saved", {"path": str(path)}, "engine")])

    async def load(self, path: str | PathLike[str]) -> int:
        """Go on from what `save` has written; how many entries its history has.

        Raises `EngineError` if the file is damaged, cut short, of another version or of another engine, and `OSError`;
        then nothing has changed. What is in it is a pickle: load only what you trust.
        """
        return await self.restore(await asyncio.to_thread(saving.load, Path(path)))

    def autosave(self, path: str | PathLike[str], every: float = 30.0) -> Autosave:
        """`save` every so many seconds while a block is open, and once more at its end.

        What goes wrong meanwhile is told as `engine:error`, and tried again the next time; at the end it is raised.

            >>> async with Engine(Deck) as engine, engine.autosave("deck.engine"):
            ...     await engine.dispatch_async(Deck.draw, count=2)
        """

        def failed(error: Exception) -> None:
            self.tell([Told("engine:error", {"action": None, "phase": "autosave", "error": str(error)}, "engine")])

        return Autosave(lambda: self.save(path), failed, every, self.clock)

    async def watch(self, watcher: Watcher) -> None:
        """Have a policy, or another watcher, look on where the state lives, after each action that went well.

        Raises `NotTransferable` if it cannot go there.
        """
        home = await self._ready()
        if isinstance(home, Here):
            home.ask("watch", watcher)
        else:
            await self._answer(partial(home.watch, watcher))
        self.tell([Told("engine:policy", {"name": watcher.name}, "engine")])

    async def unwatch(self, name: str) -> None:
        """Have it look on no more."""
        home = await self._ready()
        if isinstance(home, Here):
            home.ask("unwatch", name)
        else:
            await self._answer(partial(home.unwatch, name))

    async def _ready(self) -> Here | There:
        """The state's home, when all that was dispatched before is on its way there."""
        if self._home is None:
            await self.start()
        self._insist_on_its_loop()
        assert self._home is not None
        return self._home

    async def _ask(self, verb: str, *args: Any) -> Any:
        home = await self._ready()
        if isinstance(home, Here):
            return home.ask(verb, *args)
        return await self._answer(lambda settle, fail: home.ask(verb, *args, settle=settle, fail=fail))

    async def _go_back(self, verb: str, *args: Any) -> Any:
        home = await self._ready()
        if isinstance(home, Here):
            return home.ask(verb, *args)
        return await self._answer(lambda settle, fail: home.go_back(verb, *args, settle=settle, fail=fail))

    # Within.

    def _request(self, action: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
        if isinstance(action, str):
            payload = args[0] if args and args[0] is not None else {}
            return Request(action, payload, self._now(), kwargs.get("reversible", True))
        if isinstance(action, Ask):
            return Request(action.type, action.payload, self._now(), **kwargs)
        name, payload = named(action, args, kwargs)
        return Request(name, payload, self._now())

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _insist_on_running(self) -> None:
        if self._stopped is not None:
            raise self._stopped.with_traceback(None)  # or it would grow with each time

    def _insist_on_its_loop(self) -> None:
        self._insist_on_running()
        if self._loop is not None and asyncio.get_running_loop() is not self._loop:
            raise EngineError("this engine was started in another event loop: use `dispatch` here, or another engine")

    async def _answer(self, ask: Callable[[Callable[[Any], None], Callable[[HybridComputeError], None]], None]) -> Any:
        """What is answered to a question that takes two callbacks."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        ask(lambda answer: _set(answered, answer), lambda error: _fail(answered, error))
        return await answered

    def _wait_for(self, work: Any) -> Any:
        """Wait for the engine's own loop from another thread."""
        assert self._loop is not None
        if turn.get(None) is not None:  # in a thread that is this engine's worker, it would be for ever
            work.close()
            raise EngineError(
                "an action cannot wait for another one: a policy can dispatch, and so can whoever listens"
            )
        if os.getpid() != self._process:
            work.close()
            raise EngineError("a forked copy of this process cannot use the engine of the original: make a new one")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (CancelledError, RuntimeError) as error:  # none of the action's own: those are errors of ours
            work.close()
            raise EngineStopped("the event loop of this engine has ended, and the engine with it") from error


def _plan(
    state: Callable[[], Any] | Plan | None, actions: ActionRegistry | None, seed: int | None, checkpoints: int
) -> Plan:
    if isinstance(state, Plan):
        return state
    seed = int.from_bytes(os.urandom(8)) if seed is None else seed
    if state is None and actions is None:
        from hybrid_compute.tabletop.plan import table_plan

        return table_plan(seed=seed, checkpoints=checkpoints)
    if state is None:
        raise ValueError("actions need a state to change: say what makes it")
    if actions is None:
        if not isinstance(state, type):
            raise ValueError("a state needs actions to change it: give a registry, or a class with methods")
        actions = actions_of(state)
    return Plan(state=state, actions=actions, seed=seed, checkpoints=checkpoints)


def _result(outcome: Outcome) -> Any:
    if isinstance(outcome, Done):
        return outcome.result
    raise outcome.error


def _checked(outcome: Outcome) -> Result:
    return Result(True, outcome.result) if isinstance(outcome, Done) else Result(False, error=outcome.error)


def _seen(future: asyncio.Future[Any]) -> None:
    """Somebody else is told what went wrong with it, or has been."""
    if not future.cancelled():
        future.exception()


def _set(answered: asyncio.Future[Any], answer: Any) -> None:
    if not answered.done():
        answered.set_result(answer)


def _fail(answered: asyncio.Future[Any], error: HybridComputeError) -> None:
    if not answered.done():
        answered.set_exception(error)
