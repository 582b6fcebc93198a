"""The line in front of the workers: limits, priorities, and a great many calls."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import LocalBackend, Runtime, WorkerBackend
from hybrid_compute.backends.queue import QueueLimits
from hybrid_compute.errors import BackendClosed, LimitExceeded, TaskTimeout
from tests.faults import tasks
from tests.faults.watching import marks, until


@asynccontextmanager
async def busy_pool(
    tmp_path: Path, *, calls: int = 1_000_000, size: int = 1, when_full: Any = "wait", byte_limit: int = 1 << 30
) -> AsyncIterator[tuple[Runtime, WorkerBackend, list[asyncio.Future[Any]]]]:
    """A pool whose workers are all held up, until the calls in the list are cancelled."""
    path = str(tmp_path / "held")
    pool = WorkerBackend(size, queue=QueueLimits(calls, byte_limit, when_full))
    async with Runtime([pool], strategy="worker") as rt:
        held = [asyncio.ensure_future(rt.run(tasks.mark_and_wait, path, number)) for number in range(size)]
        await until(lambda: len(marks(Path(path))) == size, "every worker is held up")
        yield rt, pool, held
        for each in held:
            each.cancel()


def give_way(held: list[asyncio.Future[Any]]) -> None:
    for each in held:
        each.cancel()


async def test_a_full_line_makes_the_next_wait(tmp_path: Path) -> None:
    """No more than the limit waits in line; the rest waits at the door, and all are let in in order."""
    marked = tmp_path / "marks"
    async with busy_pool(tmp_path, calls=3) as (rt, pool, held):
        calls = [asyncio.ensure_future(rt.run(tasks.mark, str(marked), number)) for number in range(50)]
        for _ in range(20):
            await asyncio.sleep(0)
            assert pool.stats().queued <= 3
        give_way(held)
        assert await asyncio.gather(*calls) == list(range(50))
        assert list(marks(marked)) == list(range(50))


async def test_a_full_line_raises_where_that_was_asked_for(tmp_path: Path) -> None:
    """`LimitExceeded` at once, which says how much waits already; room comes back."""
    async with busy_pool(tmp_path, calls=3, when_full="raise") as (rt, _pool, held):
        calls = [asyncio.ensure_future(rt.run(tasks.add, number, 1)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded, match="3 calls") as caught:
            await rt.run(tasks.add, 1, 2)
        assert (caught.value.started, caught.value.backend) == (False, "worker")
        give_way(held)
        assert await asyncio.gather(*calls) == [1, 2, 3]
        assert await rt.run(tasks.add, 1, 2) == 3


async def test_a_full_line_passes_calls_on_to_the_next_place(tmp_path: Path) -> None:
    """A call that was refused has not begun: with another place in order, it runs there."""
    pool = WorkerBackend(1, queue=QueueLimits(1, when_full="raise"))
    async with Runtime([pool, LocalBackend()]) as rt:
        held = asyncio.ensure_future(rt.run(tasks.mark_and_wait, str(tmp_path / "held"), 1))
        await until(lambda: marks(tmp_path / "held")[1])
        waiting = asyncio.ensure_future(rt.run(tasks.add, 1, 1))
        await asyncio.sleep(0)
        assert await rt.run(tasks.add, 1, 2) == 3
        assert rt.stats()["add"]["local"].calls == 1
        held.cancel()
        assert await waiting == 2


async def test_bytes_are_limited_as_calls_are(tmp_path: Path) -> None:
    """What waits is bounded in memory, not only in number."""
    async with busy_pool(tmp_path, byte_limit=100_000) as (rt, pool, held):
        calls = [asyncio.ensure_future(rt.run(tasks.measure, "x" * 30_000)) for number in range(30)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert pool.stats().queued == 4
        give_way(held)
        assert await asyncio.gather(*calls) == [30_000] * 30


@pytest.mark.parametrize("limits", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2])
async def test_nobody_is_forgotten_at_the_door(tmp_path: Path, limits: int, size: int) -> None:
    """However workers become free, whoever waits for room is let in; also when others in line have given up."""
    pool = WorkerBackend(size, queue=QueueLimits(limits))
    async with Runtime([pool], strategy="worker") as rt:
        await pool.warm_up()
        for turn in range(30):
            calls = [asyncio.ensure_future(rt.run(tasks.add, number, 1)) for number in range(60)]
            for _ in range(turn % 7):
                await asyncio.sleep(0)
            for each in calls[turn % 3 :: 3]:
                each.cancel()
            async with asyncio.timeout(5):
                await asyncio.gather(*calls, return_exceptions=True)
        assert await rt.run(tasks.add, 1, 2) == 3


async def test_cancelling_what_is_in_line_makes_room_at_once(tmp_path: Path) -> None:
    """Whoever waits at the door need not wait until the dead have been carried past the counter."""
    async with busy_pool(tmp_path, calls=2) as (rt, pool, held):
        waiting = [asyncio.ensure_future(rt.run(tasks.add, number, 1)) for number in range(2)]
        await until(lambda: pool.stats().queued == 2)
        at_the_door = [asyncio.ensure_future(rt.run(tasks.add, number, 1)) for number in range(2)]
        await asyncio.sleep(0)
        assert pool._pool is not None
        assert pool._pool.queue.full
        give_way(waiting)
        assert pool.stats().queued == 0
        await until(lambda: pool.stats().queued == 2, "the others are in line now")
        give_way(held)
        assert await asyncio.gather(*at_the_door) == [1, 2]


async def test_a_call_that_does_not_wait_any_longer_leaves_no_timer(tmp_path: Path) -> None:
    """With all that its arguments take, until a deadline that may be far away."""
    async with busy_pool(tmp_path) as (rt, pool, _):
        impatient = rt.options(timeout=3600, queue_timeout=0.01)
        calls = [asyncio.ensure_future(impatient.run(tasks.mark, str(tmp_path / "marks"), n)) for n in range(5)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [LimitExceeded] * 5
        assert pool._pool is not None
        assert [alarm for alarm in pool._pool._alarms._due if alarm.callback] == []


@pytest.mark.parametrize("how", ["timeout", "queue_timeout"])
async def test_time_at_the_door_is_time(tmp_path: Path, how: str) -> None:
    """A call that is not let in before its time is up gets the same error as one that waits in line."""
    async with busy_pool(tmp_path, calls=1) as (rt, _pool, held):
        waiting = asyncio.ensure_future(rt.run(tasks.add, 1, 1))
        await asyncio.sleep(0)
        expected = TaskTimeout if how == "timeout" else LimitExceeded
        async with asyncio.timeout(5):
            with pytest.raises(expected):
                await rt.options(**{how: 0.05}).run(tasks.add, 1, 2)  # type: ignore[arg-type]
            with pytest.raises(expected):
                async with rt.options(**{how: 0.05}).stream(tasks.count_to, 3) as items:  # type: ignore[arg-type]
                    await anext(items)
        give_way(held)
        assert await waiting == 2
        assert await rt.run(tasks.add, 1, 2) == 3


async def test_closing_answers_those_at_the_door_too(tmp_path: Path) -> None:
    """Running, in line, or waiting for room: each gets `BackendClosed`, and nobody waits for ever."""
    pool = WorkerBackend(1, queue=QueueLimits(1))
    async with Runtime([pool], strategy="worker") as rt:
        calls = [asyncio.ensure_future(rt.run(tasks.mark_and_wait, str(tmp_path / "m"), number)) for number in range(9)]
        await until(lambda: marks(tmp_path / "m"))
        await pool.aclose()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in outcomes} == {BackendClosed}
    assert [each.started for each in outcomes if isinstance(each, BackendClosed)] == [True] + [False] * 8


async def test_higher_priority_goes_first(tmp_path: Path) -> None:
    """Among what waits; first come, first served within one priority."""
    marked = tmp_path / "marks"
    async with busy_pool(tmp_path) as (rt, _, held):
        calls = []
        for number in range(60):
            limited = rt.options(priority=(number % 3) - 1)
            calls.append(limited.run(tasks.mark, str(marked), number))
        give_way(held)
        await asyncio.gather(*calls)
    assert list(marks(marked)) == [*range(2, 60, 3), *range(1, 60, 3), *range(0, 60, 3)]


@pytest.mark.timeout(120)
async def test_a_hundred_thousand_calls_may_wait(tmp_path: Path) -> None:
    """All are answered, in memory of a few hundred megabytes at most, which is given back."""
    async with busy_pool(tmp_path, size=2) as (rt, pool, held):
        before = memory()
        calls = [rt.run(tasks.add, number, 1) for number in range(100_000)]
        await asyncio.sleep(0)
        assert pool.stats().queued == 100_000
        assert memory() - before < 300 << 20
        give_way(held)
        assert await asyncio.gather(*calls) == list(range(1, 100_001))
        assert pool.stats().queued == pool.stats().running == 0


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_thousand_priorities_leave_no_thousand_lines(tmp_path: Path) -> None:
    """A caller who counts down its priorities pays for those that are in use, not for all there ever were."""
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        for start in range(0, 1000, 100):
            limited = [rt.options(priority=start + number) for number in range(100)]
            await asyncio.gather(*(each.run(tasks.add, 1, 2) for each in limited))
        assert pool._pool is not None
        assert len(pool._pool.queue._lines) < 200
