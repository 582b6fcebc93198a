"""Many engines in few workers."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.engine.engine import Engine, Result
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.pool import EnginePool
from hybrid_compute.errors import EngineStopped, TaskFailed, TaskTimeout, WorkerLost
from tests.engine.counters import actions, counter, refuse
from tests.faults.watching import alive, kill, until

DURABLE = WorkerOptions(durable=True)


async def opened(pool: EnginePool, count: int, **options: Any) -> list[Engine[Any]]:
    options = {"worker_options": WorkerOptions(**options)} if options else {}
    return await asyncio.gather(*(pool.open(counter, actions, **options) for _ in range(count)))


async def each(engines: list[Engine[Any]], type: str = "add", payload: Any = None) -> list[Result]:
    return await asyncio.gather(*(engine.dispatch_checked(type, payload) for engine in engines))


def pids(pool: EnginePool) -> list[int]:
    return [pid for workers in pool._members if isinstance(workers, WorkerBackend) for pid in workers.pids]


async def test_engines_share_workers() -> None:
    """Evenly; each has its own state, and its own actions in order."""
    async with EnginePool(2) as pool:
        engines = await opened(pool, 100)
        assert len(pool) == 100
        assert [len(members) for members in pool._members.values()] == [50, 50]
        for number, engine in enumerate(engines):
            await engine.dispatch_async("add", {"by": number})
        orders = [engine.dispatch_async("keep", step) for step in range(10) for engine in engines]
        await asyncio.gather(*orders)
        for number, engine in enumerate(engines):
            assert await engine.state() == {"total": number, "seen": list(range(10))}
        assert len(pids(pool)) == 2


async def test_one_that_ends_leaves_the_others() -> None:
    """And gives its place to the next."""
    async with EnginePool(1) as pool:
        first, second = await opened(pool, 2)
        await first.shutdown()
        assert len(pool) == 1
        assert (await each([second])) == [Result(True, 1)]
        with pytest.raises(EngineStopped, match="the engine was shut down"):
            await first.dispatch_async("add")


async def test_the_end_of_the_pool_answers_all(tmp_path: Path) -> None:
    """What was dispatched before is done; nothing comes after, and no worker stays."""
    pool = EnginePool(2)
    engines = await opened(pool, 20)
    running = pids(pool)
    pending = [asyncio.create_task(engine.dispatch_async("add")) for engine in engines for _ in range(5)]
    await asyncio.sleep(0)
    await pool.aclose()
    assert await asyncio.gather(*pending) == [1, 2, 3, 4, 5] * 20
    assert alive(running) == []
    assert len(pool) == 0
    with pytest.raises(EngineStopped, match="the pool of this engine is closed"):
        await pool.open(counter, actions)
    with pytest.raises(EngineStopped):
        await engines[0].dispatch_async("add")
    await pool.aclose()


async def test_an_end_that_is_given_up_still_stops_the_workers(tmp_path: Path) -> None:
    """Who waits for an action that does not end is answered."""
    pool = EnginePool(1)
    stuck, other = await opened(pool, 2, timeout=None)
    running, path = pids(pool), tmp_path / "mark"
    pending = [
        asyncio.create_task(stuck.dispatch_checked("mark and wait", {"path": str(path)})),
        asyncio.create_task(other.dispatch_checked("add")),
    ]
    await until(path.exists)
    end = asyncio.create_task(pool.aclose())
    await asyncio.sleep(0)
    end.cancel()
    outcomes = await asyncio.gather(*pending)
    with pytest.raises(asyncio.CancelledError):
        await end
    assert [type(outcome.error) for outcome in outcomes] == [EngineStopped, EngineStopped]
    assert alive(running) == []


async def test_a_state_that_cannot_be_made_has_no_place() -> None:
    async with EnginePool(1) as pool:
        with pytest.raises(TaskFailed, match="not today"):
            await pool.open(refuse, actions)
        assert len(pool) == 0


async def test_the_fork_of_a_member_is_a_member() -> None:
    async with EnginePool(2) as pool:
        (engine,) = await opened(pool, 1)
        await engine.dispatch_async("add")
        fork = await engine.fork()
        assert len(pool) == 2
        assert await each([fork, engine]) == [Result(True, 2), Result(True, 2)]
    with pytest.raises(EngineStopped):
        await fork.dispatch_async("add")


async def test_a_pool_of_threads() -> None:
    async with EnginePool(2, mechanism="thread") as pool:
        engines = await opened(pool, 10)
        assert await each(engines) == [Result(True, 1)] * 10


# Bad luck.


async def test_a_stuck_action_holds_its_neighbours_up_and_costs_them_nothing(tmp_path: Path) -> None:
    """It is stopped; they get their state back, durable or not, and what they had in line is done."""
    async with EnginePool(1) as pool:
        (stuck,) = await opened(pool, 1, timeout=1.0)
        others = await opened(pool, 200)
        await each(others)
        path = tmp_path / "mark"
        hanging = asyncio.create_task(stuck.dispatch_checked("mark and wait", {"path": str(path)}))
        await until(path.exists)
        assert await each(others[:100]) == [Result(True, 2)] * 100
        assert isinstance((await hanging).error, TaskTimeout)
        assert await each(others[100:]) == [Result(True, 2)] * 100
        assert await each([stuck]) == [Result(True, 1)]


async def test_after_a_death_the_durable_ones_go_on_and_the_others_say_so() -> None:
    async with EnginePool(1) as pool:
        (deadly,) = await opened(pool, 1)
        durable, mortal = await opened(pool, 50, durable=True), await opened(pool, 50)
        await each(durable + mortal)
        died = asyncio.create_task(deadly.dispatch_checked("die"))
        in_line = asyncio.create_task(each(durable[:25] + mortal[:25]))
        assert isinstance((await died).error, WorkerLost)
        outcomes = await in_line + await each(durable[25:] + mortal[25:])
        went_on, stopped = outcomes[:25] + outcomes[50:75], outcomes[25:50] + outcomes[75:]
        assert went_on == [Result(True, 2)] * 50
        assert {type(outcome.error) for outcome in stopped} == {WorkerLost}
        with pytest.raises(EngineStopped, match="its worker was lost with the state"):
            await mortal[0].dispatch_async("add")
        assert await each(await opened(pool, 1)) == [Result(True, 1)]


async def test_a_thousand_engines_come_back() -> None:
    """In the time that some messages each take, and not a second each."""
    async with EnginePool(1) as pool:
        engines = await opened(pool, 1000, durable=True)
        await each(engines)
        (pid,) = pids(pool)
        kill(pid)
        await until(lambda: not alive([pid]))
        began = time.monotonic()
        assert await each(engines) == [Result(True, 2)] * 1000
        assert time.monotonic() - began < 20


async def test_workers_that_die_again_and_again_lose_nothing() -> None:
    """Also while the engines are being brought back."""
    async with EnginePool(2) as pool:
        engines = await opened(pool, 50, durable=True)
        for turn in range(1, 6):
            doing = asyncio.create_task(each(engines))
            for _ in range(turn):
                await asyncio.sleep(0)
            for pid in pids(pool):
                kill(pid)
            outcomes = await doing
            totals = [result.result for result in await each(engines, "total")]
            assert all(isinstance(outcome.error, WorkerLost) for outcome in outcomes if not outcome.ok)
            assert all(outcome.result in (total, None) for outcome, total in zip(outcomes, totals, strict=True))
