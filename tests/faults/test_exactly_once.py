"""Workers are killed at random while calls run: each call ends exactly once, and nothing is left behind."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, WorkerBackend
from hybrid_compute.errors import HybridComputeError, WorkerLost
from tests.faults import tasks
from tests.faults.watching import alive, descendants, descriptors, kill, marks, until, zombies

CALLS = 20_000
SIZE = 2
WAVE = 200


class Killer:
    """Kills a random worker each time so many more calls have ended."""

    def __init__(self, pool: WorkerBackend, *, every: int, seed: int = 7) -> None:
        self.killed: set[int] = set()
        self._pool = pool
        self._every = every
        self._random = random.Random(seed)
        self._ended = 0
        self._lock = threading.Lock()

    def ended(self, *_: object) -> None:
        with self._lock:
            self._ended += 1
            if self._ended % self._every == 0:
                victims = sorted(set(self._pool.pids) - self.killed)
                if victims and kill(victim := self._random.choice(victims)):
                    self.killed.add(victim)


async def nothing_is_left(pool: WorkerBackend, killer: Killer, before: list[str]) -> None:
    """The pool is back to size, with no zombie and no descriptor more than it needs."""
    await until(lambda: not alive(killer.killed), "the last victim is dead")
    await until(lambda: pool.stats().idle == SIZE and len(alive(pool.pids)) == SIZE, "the pool is back to size")
    await pool.warm_up()
    await until(lambda: len(descendants()) == SIZE + 1, "no process but the workers and their template")
    assert not zombies()
    assert pool.stats().running == pool.stats().queued == 0
    assert len(descriptors()) <= len(before), (before, descriptors())
    for worker in pool.pids:
        assert len(descriptors(worker)) < 16, descriptors(worker)


def each_ended_once(outcomes: list[Any], marked: Path, killer: Killer) -> None:
    """What was answered ran once; what was lost ran once at most, and not at all if it is said not to have begun."""
    lost = {number: outcome for number, outcome in enumerate(outcomes) if isinstance(outcome, WorkerLost)}
    ran = marks(marked)
    assert killer.killed
    assert [outcome for number, outcome in enumerate(outcomes) if number not in lost] == [
        number for number in range(len(outcomes)) if number not in lost
    ]
    assert max(ran.values()) == 1
    assert set(range(len(outcomes))) - set(lost) <= set(ran)
    assert all(loss.exit_code == -9 for loss in lost.values())
    assert not {number for number, loss in lost.items() if not loss.started} & set(ran)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("every", [20, 150])
@pytest.mark.parametrize("task", [tasks.mark, tasks.mark_in_coroutine])
async def test_each_of_20_000_calls_ends_exactly_once(tmp_path: Path, every: int, task: Any) -> None:
    """However often workers are killed, no call is left without an end, and none runs twice."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(SIZE)], strategy="worker") as rt:
        await pool.warm_up()
        before, killer = descriptors(), Killer(pool, every=every)

        async def one(number: int) -> int | WorkerLost:
            try:
                return await rt.run(task, str(marked), number)
            except WorkerLost as lost:
                return lost
            finally:
                killer.ended()

        outcomes = await asyncio.gather(*(one(number) for number in range(CALLS)))
        await nothing_is_left(pool, killer, before)
    each_ended_once(outcomes, marked, killer)


async def test_pure_calls_survive_the_loss_of_their_worker(tmp_path: Path) -> None:
    """A pure call is sent again, so that a killed worker here and there costs nobody an answer."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(SIZE)], strategy="worker") as rt:
        await pool.warm_up()
        before, killer = descriptors(), Killer(pool, every=WAVE)

        async def one(number: int) -> int:
            try:
                return await rt.run(tasks.mark_pure, str(marked), number)
            finally:
                killer.ended()

        # One is killed in each wave, in its middle: a call meets no more than that.
        for wave in range(-WAVE // 2, 4000, WAVE):
            numbers = range(max(0, wave), min(4000, wave + WAVE))
            assert await asyncio.gather(*(one(number) for number in numbers)) == list(numbers)
        await nothing_is_left(pool, killer, before)
    assert killer.killed
    assert set(marks(marked)) == set(range(4000))
    assert max(marks(marked).values()) <= 2


async def test_a_batch_that_loses_a_worker_runs_nothing_twice(tmp_path: Path) -> None:
    """`map` fails as a whole; what has run of it has run once, also where another place could have run the rest."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(SIZE), LocalBackend()], strategy="auto") as rt:
        await pool.warm_up()
        for turn in range(20):
            pairs = [(str(marked), 1000 * turn + number) for number in range(1000)]
            mapped = asyncio.create_task(rt.map(tasks.mark_pair, pairs))
            done = len(marks(marked)) + 7 * turn
            await until(lambda done=done, mapped=mapped: len(marks(marked)) > done or mapped.done())
            await until(lambda: pool.pids, "it is known who the workers are")
            kill(pool.pids[turn % len(pool.pids)])
            (outcome,) = await asyncio.gather(mapped, return_exceptions=True)
            if isinstance(outcome, WorkerLost):
                assert outcome.started
            else:
                assert outcome == [number for _, number in pairs]
        assert max(marks(marked).values()) == 1
        await until(lambda: pool.stats().idle == SIZE, "the pool is back to size")


@pytest.mark.timeout(120)
def test_threads_that_use_workers_themselves_get_each_answer_once(tmp_path: Path) -> None:
    """The same holds where threads write and read the pipes with no event loop in between."""
    marked = tmp_path / "marks"
    with BlockingRuntime([pool := WorkerBackend(SIZE)], strategy="worker") as rt:
        rt.run(tasks.mark, str(marked), CALLS)
        killer = Killer(pool, every=100)

        def one(number: int) -> int | HybridComputeError:
            try:
                return rt.run(tasks.mark, str(marked), number)
            except HybridComputeError as error:
                return error
            finally:
                killer.ended()

        with ThreadPoolExecutor(4) as threads:
            outcomes = list(threads.map(one, range(CALLS)))
        assert rt.run(tasks.add, 1, 2) == 3
    each_ended_once([*outcomes, CALLS], marked, killer)
    assert not zombies()
