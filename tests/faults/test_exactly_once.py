"""Workers are killed at random while calls run: each call ends exactly once, and nothing is left behind."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hybrid_compute import BlockingRuntime, Runtime, WorkerBackend
from hybrid_compute.errors import WorkerLost
from tests.faults import tasks
from tests.faults.watching import alive, descendants, descriptors, kill, marks, memfds, until, zombies

CALLS = 20_000
SIZE = 2


@pytest.fixture
async def pool() -> AsyncIterator[WorkerBackend]:
    backend = WorkerBackend(SIZE)
    yield backend
    await backend.aclose()


class Killer:
    """Kills a random worker each time so many more calls have ended."""

    def __init__(self, pool: WorkerBackend, *, every: int, seed: int = 7) -> None:
        self.kills = 0
        self._pool = pool
        self._every = every
        self._random = random.Random(seed)
        self._ended = 0

    def ended(self, *_: object) -> None:
        self._ended += 1
        if self._ended % self._every == 0:
            pids = sorted(self._pool.pids)
            if pids and kill(self._random.choice(pids)):
                self.kills += 1


async def nothing_is_left(pool: WorkerBackend, before: list[str]) -> None:
    """The pool is back to size, with no zombie and no descriptor more than it needs."""
    await until(lambda: pool.stats().idle == SIZE and len(alive(pool.pids)) == SIZE, "the pool is back to size")
    await pool.warm_up()
    await until(lambda: len(descendants()) == SIZE + 1, "no process but the workers and their template")
    assert not zombies()
    assert pool.stats().running == pool.stats().queued == 0
    assert len(descriptors()) == len(before), (before, descriptors())
    for worker in pool.pids:
        assert len(descriptors(worker)) < 12, descriptors(worker)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("every", [20, 150])
async def test_each_of_20_000_calls_ends_exactly_once(tmp_path: Path, every: int) -> None:
    """Answered calls ran once; lost calls ran at most once; whatever died is replaced, and nothing leaks."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(SIZE)], strategy="worker") as rt:
        await pool.warm_up()
        before, killer = descriptors(), Killer(pool, every=every)

        async def one(number: int) -> int | WorkerLost:
            try:
                return await rt.run(tasks.mark, str(marked), number)
            except WorkerLost as lost:
                return lost
            finally:
                killer.ended()

        outcomes = await asyncio.gather(*(one(number) for number in range(CALLS)))
        await nothing_is_left(pool, before)
    lost = {number: outcome for number, outcome in enumerate(outcomes) if isinstance(outcome, WorkerLost)}
    ran = marks(marked)
    assert killer.kills > CALLS // every // 2
    assert [outcome for number, outcome in enumerate(outcomes) if number not in lost] == [
        number for number in range(CALLS) if number not in lost
    ]
    assert set(range(CALLS)) - set(ran) <= set(lost)
    assert max(ran.values()) == 1
    import collections
    print(collections.Counter((l.exit_code, l.started, str(l)[-60:]) for l in lost.values()))
    print(len(lost), killer.kills, sum(not l.started for l in lost.values()))
