"""`dispatch_async` gives a future of something that is under way; `dispatch` waits for it, wherever it is called."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.listeners import Event
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.errors import (
    ActionFailed,
    BackendUnavailable,
    EngineError,
    EngineStopped,
    NotTransferable,
    TaskTimeout,
    WorkerLost,
)
from tests.engine.counters import actions, counter
from tests.engine.homes import HOMES, Make, opening
from tests.faults.watching import alive, until


@pytest.fixture(params=HOMES)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Opens engines that live here, or in a worker each."""
    async with opening(request.param) as make:
        yield make


@pytest.fixture(params=HOMES[1:])
async def far(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """The same without those that live here."""
    async with opening(request.param) as make:
        yield make


# Under way.


async def test_it_is_under_way_before_it_is_awaited(make: Make) -> None:
    """In the order of the calls, whatever is done with what they give."""
    engine = await make()
    first = engine.dispatch_async("add")
    second = asyncio.create_task(engine.dispatch_async("add"))
    third = engine.dispatch_async("add")
    assert await engine.dispatch_async("total") == 3
    assert await asyncio.gather(third, second, first) == [3, 2, 1]


async def test_it_may_be_driven_in_any_way(make: Make) -> None:
    """As a task of a group, or under a time limit."""
    engine = await make()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.dispatch_async("add")) for _ in range(3)]
    assert [task.result() for task in tasks] == [1, 2, 3]
    assert await asyncio.wait_for(engine.dispatch_async("add"), 60) == 4


async def test_what_is_wrong_is_said_when_it_is_awaited(make: Make) -> None:
    """So that of many that are gathered each has its own error."""
    engine = await make()
    asked = [engine.dispatch_async(name, payload) for name, payload in (("add", {}), ("change and fail", {}))]
    asked.append(engine.dispatch_async("keep", (each for each in "abc")))
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert results[0] == 1
    assert isinstance(results[1], ActionFailed)
    assert isinstance(results[2], NotTransferable)


async def test_who_gives_up_does_not_take_the_action_back(make: Make) -> None:
    """Neither a future that is cancelled, nor a coroutine that is closed."""
    engine = await make()
    engine.dispatch_async("add").cancel()
    engine.dispatch_async("add").close()
    assert await engine.dispatch_async("total") == 2


def test_outside_of_any_event_loop_it_is_a_coroutine() -> None:
    """It begins in the loop that drives it."""
    engine: Engine[Any] = Engine(counter, actions)
    assert asyncio.run(engine.dispatch_async("add")) == 1


# Before the start.


async def test_what_is_dispatched_before_the_start_comes_first() -> None:
    """In its order, and before what is dispatched as soon as the engine is there."""
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    early = [engine.dispatch_async("keep", number) for number in range(5)]
    early[2].cancel()
    await engine.start()
    late = engine.dispatch_async("keep", 5)
    assert (await engine.state())["seen"] == list(range(6))
    assert [await each for each in (*early[:2], *early[3:], late)] == [0, 1, 3, 4, 5]
    await engine.shutdown()


async def test_the_payload_is_the_one_that_was_dispatched(make: Make) -> None:
    """Whatever becomes of it before the action begins."""
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    payload = {"by": 1}
    asked = engine.dispatch_async("add", payload)
    payload["by"] = 100
    assert await asked == 1
    await engine.shutdown()


async def test_who_begins_to_listen_during_the_start_is_told() -> None:
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    starting = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    told: list[Event] = []
    engine.on("added", told.append)
    await starting
    await engine.dispatch_async("add")
    assert [event.payload for event in told] == [{"total": 1}]
    await engine.shutdown()


@pytest.mark.parametrize("fallback", ["local", None])
async def test_a_start_that_fails_answers_what_was_dispatched(monkeypatch: pytest.MonkeyPatch, fallback: Any) -> None:
    """Here, if that is allowed; or with the reason, as everything that follows."""
    monkeypatch.setattr("hybrid_compute.engine.universal.supports_workers", lambda: False)
    options = WorkerOptions(fallback=fallback)
    engine: Engine[Any] = Engine(counter, actions, use_worker=True, worker_options=options)
    early = [engine.dispatch_async("add") for _ in range(3)]
    if fallback:
        with pytest.warns(RuntimeWarning, match="the engine lives in this process"):
            assert await asyncio.gather(*early) == [1, 2, 3]
    else:
        errors = await asyncio.gather(*early, engine.dispatch_async("add"), return_exceptions=True)
        assert [type(error) for error in errors] == [BackendUnavailable] * 4
        with pytest.raises(BackendUnavailable):
            await engine.dispatch_async("add")
    await engine.shutdown()


# Waiting.


async def test_waiting_in_the_engines_own_loop_warns_and_answers(far: Make) -> None:
    """In its order, and with the errors that there are."""
    engine = await far()
    told: list[Event] = []
    engine.on("added", told.append)
    before = [engine.dispatch_async("add") for _ in range(3)]
    with pytest.warns(RuntimeWarning, match="dispatch waits, and holds up the event loop"):
        assert engine.dispatch("add") == 4
    assert [event.payload["total"] for event in told] == [1, 2, 3, 4]
    assert [await each for each in before] == [1, 2, 3]
    with pytest.warns(RuntimeWarning), pytest.raises(ActionFailed, match="it went wrong"):
        engine.dispatch("change and fail")
    with pytest.warns(RuntimeWarning):
        assert engine.dispatch("total") == 4
    assert [entry.type for entry in await engine.history()] == ["add"] * 4 + ["total"]


async def test_waiting_in_its_own_loop_ends_when_the_time_is_up(tmp_path: Path) -> None:
    """The worker is replaced when the loop turns again."""
    options = WorkerOptions(timeout=0.3)
    async with Engine(counter, actions, use_worker=True, worker_options=options) as engine:
        assert await engine.dispatch_async("add") == 1
        with pytest.warns(RuntimeWarning), pytest.raises(TaskTimeout):
            engine.dispatch("mark and wait", {"path": str(tmp_path / "marks")})
        with pytest.warns(RuntimeWarning), pytest.raises(EngineError, match="before the event loop turns again"):
            engine.dispatch("add")
        assert await engine.dispatch_async("total") == 2


async def test_waiting_in_its_own_loop_ends_with_the_worker() -> None:
    async with Engine(counter, actions, use_worker=True) as engine:
        await engine.dispatch_async("add")
        with pytest.warns(RuntimeWarning), pytest.raises(EngineError, match="action 'die' has no answer before"):
            engine.dispatch("die")
        with pytest.raises((WorkerLost, EngineStopped)):
            await engine.dispatch_async("add")


async def test_waiting_in_another_loop_warns() -> None:
    """An engine whose loop is that of another thread answers there."""
    with Engine(counter, actions, use_worker=True) as engine:
        with pytest.warns(RuntimeWarning, match="holds up the event loop: use dispatch_async"):
            assert engine.dispatch("add") == 1


async def test_waiting_in_another_thread_does_not_warn() -> None:
    async with Engine(counter, actions, use_worker=True) as engine:
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(engine.dispatch("add")))
        thread.start()
        await until(lambda: results)
        thread.join()
        assert results == [1]


def test_nobody_waits_for_an_engine_that_is_not_open() -> None:
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    with pytest.raises(EngineError, match="dispatch cannot wait for an engine that is not open: use `with`"):
        engine.dispatch("add")


@pytest.mark.parametrize("timeout", [None, 60.0])
async def test_waiting_in_its_own_loop_ends_with_a_portable_worker(timeout: float | None) -> None:
    """Whose end is seen by a thread, and told to the loop that is held up."""
    workers = WorkerBackend(1, portable=True)
    options = WorkerOptions(timeout=timeout, durable=True)
    async with Engine(counter, actions, workers=workers, worker_options=options) as engine:
        await engine.dispatch_async("add")
        with pytest.warns(RuntimeWarning), pytest.raises(EngineError, match="before the event loop turns again"):
            engine.dispatch("die")
        assert await engine.dispatch_async("total") == 1
    await workers.aclose()


# Beginnings and ends.


async def test_a_block_that_is_cancelled_at_its_beginning_leaves_no_worker() -> None:
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)

    async def use() -> None:
        async with engine:
            raise AssertionError("it was cancelled before")

    using = asyncio.create_task(use())
    await asyncio.sleep(0)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    workers: Any = engine._workers
    await until(lambda: not alive(workers.pids))
    with pytest.raises(EngineStopped):
        await engine.dispatch_async("add")


async def test_what_listeners_dispatch_comes_after_what_waited_for_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_compute.engine.universal.supports_workers", lambda: False)
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    early = [engine.dispatch_async("keep", number) for number in range(3)]
    late: list[Any] = []
    engine.once("engine:action", lambda event: late.append(engine.dispatch_async("keep", "late")))
    with pytest.warns(RuntimeWarning):
        await asyncio.gather(*early)
    await late[0]
    assert (await engine.state())["seen"] == [0, 1, 2, "late"]


async def test_many_ends_are_one() -> None:
    """None of them is over before the worker is."""
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    told: list[Event] = []
    engine.on("engine:shutdown", told.append)
    asked = [engine.dispatch_async("add") for _ in range(500)]
    await engine.start()
    first = asyncio.create_task(engine.shutdown())
    await asyncio.sleep(0)
    await engine.shutdown()
    assert first.done()
    assert await asyncio.gather(*asked) == list(range(1, 501))
    assert len(told) == 1


async def test_an_end_during_the_start_says_so() -> None:
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    early = engine.dispatch_async("add")
    await asyncio.sleep(0)
    await engine.shutdown()
    with pytest.raises(EngineStopped, match="the engine was shut down"):
        await early
