"""One engine, wherever its state lives."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.engine.engine import Engine, Result
from hybrid_compute.engine.listeners import Event
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.watchers import Entry, Inside, Policy
from hybrid_compute.errors import ActionFailed, ActionNotFound, EngineStopped, InvalidInput, TaskTimeout, WorkerLost
from tests.engine.counters import Deck, actions, counter
from tests.engine.homes import HOMES, Make, opening
from tests.faults.watching import alive, until, written


@pytest.fixture(params=HOMES)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Opens engines that live here, or in a worker each."""
    async with opening(request.param) as make:
        yield make


async def durable(stack: AsyncExitStack, **options: Any) -> Engine[Any]:
    engine: Engine[Any] = Engine(counter, actions, use_worker=True, worker_options=WorkerOptions(**options))
    return await stack.enter_async_context(engine)


# Actions and results.


async def test_actions_change_the_state_and_give_results(make: Make) -> None:
    """In the order in which they are dispatched."""
    engine = await make()
    assert await engine.dispatch_async("add", {"by": 2}) == 2
    assert await asyncio.gather(*(engine.dispatch_async("add") for _ in range(100))) == list(range(3, 103))
    assert await engine.dispatch_async("total") == 102
    assert await engine.state() == {"total": 102, "seen": []}


async def test_methods_of_a_class_are_actions(make: Make) -> None:
    """Typed as they are."""
    engine = await make(Deck, None)
    assert await engine.dispatch_async(Deck.draw, count=2) == ["S5", "S4"]
    assert await engine.dispatch_async(Deck.draw, 1) == ["S3"]
    assert await engine.dispatch_async("put_back", {"cards": ["S3"]}) == 8
    with pytest.raises(InvalidInput, match="'draw' does not take these arguments"):
        await engine.dispatch_async(Deck.draw, cuont=2)
    with pytest.raises(ActionFailed, match="there are 8 cards, not 9"):
        await engine.dispatch_async(Deck.draw, 9)


async def test_what_is_wrong_is_an_error_and_the_state_is_as_before(make: Make) -> None:
    """Also when the action had changed half of it, or its result cannot travel."""
    engine = await make()
    await engine.dispatch_async("add", {"by": 5})
    await engine.dispatch_async("keep", [1])
    before = await engine.state()
    with pytest.raises(ActionNotFound, match="Unknown action: no such"):
        await engine.dispatch_async("no such")
    with pytest.raises(ActionFailed, match="ValueError: it went wrong"):
        await engine.dispatch_async("change and fail")
    with pytest.raises(ActionFailed, match="generator"):
        await engine.dispatch_async("give what cannot travel")
    with pytest.raises(ActionFailed):
        await engine.dispatch_async("add", 7)
    assert await engine.state() == before
    assert [entry.type for entry in await engine.history()] == ["add", "keep"]


async def test_checked_results_are_values(make: Make) -> None:
    engine = await make()
    assert await engine.dispatch_checked("add") == Result(True, 1)
    failed = await engine.dispatch_checked("change and fail")
    assert not failed.ok
    assert isinstance(failed.error, ActionFailed)


async def test_nothing_is_shared_with_the_outside(make: Make) -> None:
    """What was given may be changed afterwards, and so may what was returned, told, or kept by an action."""
    engine = await make()
    told: list[Any] = []
    engine.on("engine:action", lambda event: told.append(event.payload))
    given = {"list": [1]}
    kept = await engine.dispatch_async("keep", given)
    given["list"].append(2)
    kept["list"].append(3)
    told[0]["payload"]["list"].append(4)
    assert (await engine.state())["seen"] == [{"list": [1]}]
    await engine.dispatch_async("change what was kept")
    assert (await engine.history())[0].payload == {"list": [1]}
    assert (await engine.undo(1)).type == "change what was kept"
    assert (await engine.state())["seen"] == [{"list": [1]}]


# Many at once.


async def test_many_in_one_message(make: Make) -> None:
    """Each has its own outcome."""
    engine = await make()
    done = await engine.dispatch_many([("add", {}), ("no such", {}), ("change and fail", {}), ("add", {})])
    assert [each.ok for each in done] == [True, False, False, True]
    assert [done[0].result, done[3].result] == [1, 2]
    assert await engine.dispatch_many([]) == []


async def test_all_or_nothing(make: Make) -> None:
    """If one fails, none of them was done."""
    engine = await make()
    await engine.dispatch_async("add")
    with pytest.raises(ActionFailed, match="it went wrong"):
        await engine.dispatch_many([("add", {}), ("keep", 1), ("change and fail", {})], atomic=True)
    assert await engine.state() == {"total": 1, "seen": []}
    assert [each.result for each in await engine.dispatch_many([("add", {}), ("add", {})], atomic=True)] == [2, 3]
    assert len(await engine.history()) == 3


# Events.


async def test_events_come_in_order(make: Make) -> None:
    """What the state did, what the action told, and that it was done; to those who listen."""
    engine = await make()
    heard: list[Event] = []
    engine.on("*", heard.append)
    await engine.dispatch_async("add", {"by": 3})
    await engine.dispatch_async("total")
    await engine.dispatch_checked("change and fail")
    assert [event.type for event in heard] == [
        "state:updated", "added", "engine:action", "engine:action", "engine:error",
    ]  # fmt: skip
    assert heard[1].payload == {"total": 3}
    assert heard[2].payload["type"] == "add"
    assert heard[2].payload["result"] == 3
    assert [event.number for event in heard] == sorted(event.number for event in heard)


async def test_listeners_come_and_go(make: Make) -> None:
    engine = await make()
    heard: list[Any] = []

    def hear(event: Event) -> None:
        heard.append(event.payload["total"])

    engine.once("added", hear)
    await engine.dispatch_async("add")
    await engine.dispatch_async("add")
    engine.on("added", hear)
    engine.on("added", hear)
    await engine.dispatch_async("add")
    engine.off("added", hear)
    await engine.dispatch_async("add")
    assert heard == [1, 3]


async def test_a_listener_that_raises_harms_nobody(make: Make) -> None:
    """The others still hear, and whoever listens to errors hears of it."""
    engine = await make()
    heard: list[Any] = []

    def raises(event: Event) -> None:
        raise ValueError("not today")

    engine.on("added", raises)
    engine.on("added", heard.append)
    engine.on("error", lambda event: heard.append(event.payload["source"]))
    assert await engine.dispatch_async("add") == 1
    assert len(heard) == 2
    assert heard[1] == "added"


async def test_a_listener_may_dispatch(make: Make) -> None:
    """What it dispatches is done after what it heard of."""
    engine = await make()
    more: list[asyncio.Task[Any]] = []
    engine.once("added", lambda event: more.append(asyncio.create_task(engine.dispatch_async("add", {"by": 10}))))
    assert await engine.dispatch_async("add") == 1
    await until(lambda: more)
    assert await more[0] == 11


async def test_an_iterator_of_events(make: Make) -> None:
    """It ends with the engine."""
    engine = await make()
    with engine.events("added") as events:
        for _ in range(3):
            await engine.dispatch_async("add")
        await engine.shutdown()
        assert [event.payload["total"] async for event in events] == [1, 2, 3]


# Policies.


def is_full(inside: Inside, entry: Entry) -> bool:
    return bool(inside.state["total"] >= 10)


def empty(inside: Inside, entry: Entry) -> None:
    inside.dispatch("add", {"by": -inside.state["total"]})


async def test_a_policy_acts_after_an_action(make: Make) -> None:
    """What it does is in the history, and is undone with the rest."""
    engine = await make()
    await engine.watch(Policy("empty", is_full, empty))
    assert await engine.dispatch_async("add", {"by": 12}) == 12
    assert await engine.dispatch_async("total") == 0
    assert [entry.payload.get("by") for entry in await engine.history()] == [12, -12, None]
    await engine.unwatch("empty")
    await engine.dispatch_async("add", {"by": 12})
    assert await engine.dispatch_async("total") == 12


# Going back.


async def test_exact_undo(make: Make) -> None:
    """Any number of steps, through checkpoints; not beyond one that is not reversible."""
    engine = await make()
    for number in range(130):
        await engine.dispatch_async("add", {"by": number})
    assert (await engine.undo(1)).payload == {"by": 129}
    assert await engine.dispatch_async("total") == sum(range(129))
    await engine.undo(120)
    assert await engine.dispatch_async("total") == sum(range(10))
    await engine.dispatch_async("add", {"by": 1}, reversible=False)
    assert await engine.undo(1) is None


async def test_undo_to_the_last_checkpoint(make: Make) -> None:
    """One is taken before every 51st action."""
    engine = await make()
    for _ in range(50):
        await engine.dispatch_async("add")
    assert await engine.undo() is None
    for _ in range(15):
        await engine.dispatch_async("add")
    assert (await engine.undo()).type == "add"
    assert await engine.dispatch_async("total") == 50


async def test_snapshot_and_restore(make: Make) -> None:
    """In another engine too."""
    engine, other = await make(), await make(seed=5)
    await engine.dispatch_async("add", {"by": 4})
    snapshot = await engine.snapshot()
    await engine.dispatch_async("add", {"by": 4})
    assert await other.restore(snapshot) == 1
    assert await engine.restore(snapshot) == 1
    assert await engine.state() == await other.state() == {"total": 4, "seen": []}
    await engine.compact()
    assert await engine.history() == []
    assert await engine.undo(1) is None


async def test_chance_and_time_follow_from_seed_and_log(make: Make) -> None:
    """So the same log gives the same state, in another process."""
    engine = await make(seed=42, now=lambda: 1000.0)
    lots = [await engine.dispatch_async("draw lots") for _ in range(3)]
    assert lots[0] != lots[1]
    assert lots[0][0] == 1_000_000
    twin: Engine[Any] = Engine(counter, actions, seed=42, use_worker=True, now=lambda: 1000.0)
    async with twin:
        assert [await twin.dispatch_async("draw lots") for _ in range(3)] == lots
    await engine.undo(1)
    await engine.undo(1)
    assert (await engine.state())["seen"] == lots[:1]


# The end.


async def test_after_the_end_nothing_is_dispatched(make: Make) -> None:
    """What was dispatched before is answered; the end may be said again."""
    engine = await make()
    pending = [asyncio.create_task(engine.dispatch_async("add")) for _ in range(10)]
    await asyncio.sleep(0)
    await engine.shutdown()
    assert await asyncio.gather(*pending) == list(range(1, 11))
    for _ in range(2):
        with pytest.raises(EngineStopped, match="the engine was shut down"):
            await engine.dispatch_async("add")
        await engine.shutdown()


# In a worker only.


async def test_a_cancelled_dispatch_is_done_all_the_same() -> None:
    """Whoever gives up does not take the state down with the worker."""
    async with AsyncExitStack() as stack:
        engine = await durable(stack)
        task = asyncio.create_task(engine.dispatch_async("add"))
        await asyncio.sleep(0)
        task.cancel()
        assert await engine.dispatch_async("total") == 1


async def test_an_action_that_does_not_end_is_stopped_and_not_done(tmp_path: Path) -> None:
    """Its worker is replaced, the state is as before it, and those behind it are done."""
    async with AsyncExitStack() as stack:
        engine = await durable(stack, timeout=1.0)
        told: list[Event] = []
        engine.on("engine:recovered", told.append)
        await engine.dispatch_async("add", {"by": 7})
        marks = tmp_path / "marks"
        hanging = asyncio.create_task(engine.dispatch_async("mark and wait", {"path": str(marks)}))
        await until(lambda: written(marks))
        with pytest.raises(TaskTimeout):
            await hanging
        assert await engine.dispatch_async("add") == 8
        assert len(told) == 1
        assert marks.read_text().count("\n") == 1


async def test_a_worker_that_dies_takes_the_state_with_it() -> None:
    """It is said, and no other state takes its place."""
    async with AsyncExitStack() as stack:
        engine = await durable(stack)
        await engine.dispatch_async("add", {"by": 7})
        with pytest.raises(WorkerLost):
            await engine.dispatch_async("die")
        with pytest.raises(EngineStopped, match="its worker was lost with the state"):
            await engine.dispatch_async("total")


async def test_a_durable_engine_goes_on_in_another_worker() -> None:
    """From a snapshot and the log; what was dispatched behind the deadly one is done."""
    async with AsyncExitStack() as stack:
        engine = await durable(stack, durable=True)
        for _ in range(1100):
            await engine.dispatch_async("add")
        outcomes = await asyncio.gather(*(engine.dispatch_checked(name) for name in ("die", "add", "add")))
        assert [each.result for each in outcomes] == [None, 1101, 1102]
        assert isinstance(outcomes[0].error, WorkerLost)
        assert len(await engine.history()) == 1102


async def test_a_worker_that_is_killed_while_nothing_happens() -> None:
    async with AsyncExitStack() as stack:
        engine = await durable(stack, durable=True)
        await engine.dispatch_async("add", {"by": 7})
        assert engine._workers is not None
        (pid,) = engine._workers.pids
        threading.Thread(target=__import__("os").kill, args=(pid, 9)).start()
        await until(lambda: not alive([pid]))
        assert await engine.dispatch_async("add") == 8


async def test_a_batch_has_a_window() -> None:
    """Those that come within it travel together, each with its own outcome."""
    async with AsyncExitStack() as stack:
        engine = await durable(stack, batching=True, batch_window=0.001)
        outcomes = await asyncio.gather(*(engine.dispatch_checked(name) for name in ("add", "change and fail", "add")))
        assert [each.result for each in outcomes] == [1, None, 2]
        assert engine._workers is not None
        calls = engine._workers.stats().calls
        await asyncio.gather(*(engine.dispatch_async("add") for _ in range(50)))
        assert engine._workers.stats().calls == calls + 1


async def test_an_atomic_batch_is_done_as_a_whole_or_not_at_all() -> None:
    async with AsyncExitStack() as stack:
        engine = await durable(stack, batching=True, batch_window=0.001, atomic=True)
        outcomes = await asyncio.gather(*(engine.dispatch_checked(name) for name in ("add", "change and fail", "add")))
        assert [each.ok for each in outcomes] == [False, False, False]
        assert await engine.state() == {"total": 0, "seen": []}


def test_ordinary_code_waits() -> None:
    """With an engine in a worker, or here."""
    for use_worker in (False, True):
        engine: Engine[Any] = Engine(counter, actions, use_worker=use_worker)
        with engine:
            assert [engine.dispatch("add") for _ in range(3)] == [1, 2, 3]
            with pytest.raises(ActionFailed):
                engine.dispatch("change and fail")
        with pytest.raises(EngineStopped):
            engine.dispatch("add")


async def test_an_engine_whose_worker_does_not_start_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning, with a warning and an event."""
    from hybrid_compute.backends.worker import WorkerBackend
    from hybrid_compute.errors import BackendUnavailable

    def refuse(*_: Any) -> None:
        raise BackendUnavailable("no processes today", backend="worker")

    monkeypatch.setattr(WorkerBackend, "begin", refuse)
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    heard: list[Event] = []
    engine.on("engine:fallback", heard.append)
    with pytest.warns(RuntimeWarning, match="no processes today"):
        await engine.start()
    assert await engine.dispatch_async("add") == 1
    assert len(heard) == 1
    await engine.shutdown()
    strict: Engine[Any] = Engine(counter, actions, use_worker=True, worker_options=WorkerOptions(fallback=None))
    with pytest.raises(BackendUnavailable, match="no processes today"):
        await strict.start()
