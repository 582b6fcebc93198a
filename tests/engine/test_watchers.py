"""What looks on inside an engine, wherever that lives and goes on."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybrid_compute.backends.queue import QueueLimits
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.listeners import Event
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.watchers import DEPTH, Entry, Inside, Policy
from hybrid_compute.errors import ActionFailed, NotTransferable, WorkerLost
from tests.engine.counters import actions, counter
from tests.engine.homes import HOMES, Make, opening


@pytest.fixture(params=HOMES)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Opens engines that live here, or in a worker each."""
    async with opening(request.param) as make:
        yield make


@pytest.fixture
async def durable() -> AsyncIterator[Engine[Any]]:
    options = WorkerOptions(durable=True)
    async with Engine(counter, actions, use_worker=True, worker_options=options) as engine:
        yield engine


def was_added(inside: Inside, entry: Entry) -> bool:
    return entry.type == "add"


def add_ten(inside: Inside, entry: Entry) -> None:
    if entry.payload.get("by") != 10:
        inside.dispatch("add", {"by": 10})


def add_one(inside: Inside, entry: Entry) -> None:
    inside.dispatch("add", {"by": 1})


def fail(inside: Inside, entry: Entry) -> None:
    inside.dispatch("add", {"by": 10})
    inside.dispatch("change and fail")


def stop_the_other(inside: Inside, entry: Entry) -> None:
    inside.unwatch("ten")


async def test_it_looks_on_from_the_next_action(make: Make) -> None:
    """Also in an engine that has not begun yet."""
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    for each in (engine, await make()):
        await each.watch(Policy("ten", was_added, add_ten))
        assert await each.dispatch_async("add") == 1
        assert (await each.state())["total"] == 11
        assert (await each.describe()).policies == ["ten"]
        await each.unwatch("ten")
        assert await each.dispatch_async("add") == 12
        assert (await each.describe()).policies == []
    await engine.shutdown()


async def test_once_is_once(make: Make) -> None:
    engine = await make()
    told: list[Event] = []
    engine.on("policy:triggered", told.append)
    await engine.watch(Policy("ten", was_added, add_ten, once=True))
    for _ in range(3):
        await engine.dispatch_async("add")
    assert (await engine.state())["total"] == 13
    assert [event.payload for event in told] == [{"name": "ten", "hits": 1}]
    assert (await engine.describe()).policies == []


async def test_one_may_stop_another(make: Make) -> None:
    engine = await make()
    await engine.watch(Policy("ten", was_added, add_ten))
    await engine.dispatch_async("add")
    await engine.watch(Policy("stop", was_added, stop_the_other))
    await engine.dispatch_async("add")
    await engine.dispatch_async("add")
    assert (await engine.state())["total"] == 23
    assert (await engine.describe()).policies == ["stop"]


async def test_one_that_fails_harms_nobody(make: Make) -> None:
    """What it has done stays; the action it has seen went well."""
    engine = await make()
    told: list[Event] = []
    engine.on("engine:error", told.append)
    await engine.watch(Policy("fail", lambda inside, entry: entry.payload.get("by") != 10, fail))
    assert await engine.dispatch_async("add") == 1
    assert (await engine.state())["total"] == 11
    (last,) = [event.payload for event in told if event.payload.get("phase") == "policy"]
    assert (last["policy"], last["action"]) == ("fail", "add")


async def test_what_follows_from_one_another_comes_to_an_end(make: Make) -> None:
    engine = await make()
    await engine.watch(Policy("endless", was_added, add_one))
    assert await engine.dispatch_async("add") == 1
    assert (await engine.state())["total"] == 1 + DEPTH
    with pytest.raises(ActionFailed):
        await engine.dispatch_async("change and fail")
    assert (await engine.state())["total"] == 1 + DEPTH


async def test_one_that_cannot_go_there_is_refused(durable: Engine[Any]) -> None:
    """Whoever sets it is told, and nothing else happens."""
    recovered: list[Event] = []
    durable.on("engine:recovered", recovered.append)
    lock = threading.Lock()
    with pytest.raises(NotTransferable, match="cannot be pickled"):
        await durable.watch(Policy("locked", lambda inside, entry: lock.locked(), add_ten))
    assert await durable.dispatch_async("add") == 1
    assert (await durable.describe()).policies == []
    assert recovered == []


async def test_it_goes_on_in_another_worker(durable: Engine[Any]) -> None:
    """If it has not been stopped, and has not looked on for the last time."""
    await durable.watch(Policy("ten", was_added, add_ten))
    await durable.watch(Policy("once", was_added, add_ten, once=True))
    await durable.watch(Policy("stopped", was_added, add_ten))
    await durable.unwatch("stopped")
    await durable.dispatch_async("add")
    assert (await durable.state())["total"] == 21
    with pytest.raises(WorkerLost):
        await durable.dispatch_async("die")
    assert (await durable.state())["total"] == 21
    assert (await durable.describe()).policies == ["ten"]
    await durable.dispatch_async("add")
    assert (await durable.state())["total"] == 32


async def test_one_that_is_set_while_the_worker_dies_is_there(durable: Engine[Any]) -> None:
    """It waits for the next one."""
    deadly = durable.dispatch_async("die")
    await durable.watch(Policy("ten", was_added, add_ten))
    with pytest.raises(WorkerLost):
        await deadly
    await durable.dispatch_async("add")
    assert (await durable.state())["total"] == 11


async def test_who_listens_while_the_line_is_full_is_told_why_not() -> None:
    workers = WorkerBackend(1, queue=QueueLimits(calls=2))
    async with Engine(counter, actions, workers=workers) as engine:
        told: list[Event] = []
        engine.on("engine:error", told.append)
        await engine.dispatch_async("add")
        asked = [engine.dispatch_async("add") for _ in range(10)]
        engine.on("added", lambda event: None)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(each, Exception) for each in answers) == 7
        assert told[0].payload["phase"] == "listen"
        assert "too much waits" in told[0].payload["error"]
    await workers.aclose()


async def test_one_that_acts_in_a_batch_that_is_undone_looks_on(make: Make) -> None:
    engine = await make()
    await engine.watch(Policy("ten", was_added, add_ten, once=True))
    with pytest.raises(ActionFailed):
        await engine.dispatch_many([("add", {}), ("change and fail", {})], atomic=True)
    assert (await engine.describe()).policies == ["ten"]
    await engine.dispatch_async("add")
    assert (await engine.state())["total"] == 11


async def test_an_action_may_tell_what_it_likes(make: Make) -> None:
    """Also what sounds like an event of ours."""
    engine = await make()
    told: list[Event] = []
    engine.on("engine:unwatched", told.append)
    await engine.watch(Policy("ten", was_added, add_ten))
    await engine.dispatch_async("pretend")
    assert len(told) == 1
    assert (await engine.describe()).policies == ["ten"]
