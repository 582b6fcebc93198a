"""What may not run twice, and what may not run at all any more."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, Task, WorkerBackend
from hybrid_compute.backends.crew import Lifetime
from hybrid_compute.backends.wrappers import Retrying
from hybrid_compute.errors import BackendClosed, BackendError, BackendUnavailable, NotTransferable, TaskFailed
from tests.faults import tasks
from tests.faults.watching import marks, until, wait_until


@pytest.mark.parametrize("around", ["nothing", "a wrapper"])
async def test_a_batch_of_which_anything_has_run_is_not_tried_elsewhere(tmp_path: Path, around: str) -> None:
    """Though the chunk that failed had not begun: others had, and the task is not pure."""
    marked, flag = tmp_path / "marks", tmp_path / "flag"
    pool = WorkerBackend(1, lifetime=Lifetime(max_calls=20), initializer=tasks.set_up_once, initargs=(str(flag),))
    place = pool if around == "nothing" else Retrying(pool, times=1, delay=0.0)
    async with Runtime([place, LocalBackend()], strategy="in_order") as rt:
        with pytest.raises(BackendUnavailable, match="cannot be set up") as caught:
            await rt.map(tasks.mark_pair, [(str(marked), number) for number in range(60)])
        assert caught.value.started
    assert max(marks(marked).values()) == 1


async def test_a_batch_of_which_nothing_has_run_is_tried_elsewhere(tmp_path: Path) -> None:
    marked, flag = tmp_path / "marks", tmp_path / "flag"
    flag.touch()
    pool = WorkerBackend(1, initializer=tasks.set_up_once, initargs=(str(flag),))
    async with Runtime([pool, LocalBackend()], strategy="in_order") as rt:
        assert await rt.map(tasks.mark_pair, [(str(marked), number) for number in range(60)]) == list(range(60))
    assert set(marks(marked).values()) == {1}


async def test_arguments_that_cannot_be_sent_again_end_their_own_call_only(tmp_path: Path) -> None:
    """The caller has put something into them while they were under way."""
    flag = tmp_path / "flag"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        await pool.warm_up()
        given: list[object] = [np.zeros(1 << 16)]
        first = asyncio.ensure_future(rt.run(tasks.change_and_die_once, given, str(flag)))
        others = [asyncio.ensure_future(rt.run(tasks.add, number, 1)) for number in range(5)]
        given.append(threading.Lock())
        with pytest.raises(NotTransferable, match="lock"):
            await first
        assert await asyncio.gather(*others) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("worker_first", [False, True])
async def test_closing_starts_nothing(tmp_path: Path, worker_first: bool) -> None:
    """What waited in line at one place is not begun at another."""
    marked = tmp_path / "marks"
    pool, here = WorkerBackend(1), LocalBackend()
    rt = Runtime([pool, here] if worker_first else [here, pool], strategy=lambda _task, _places: [pool, here])
    async with rt:
        running = asyncio.ensure_future(rt.run(tasks.mark_pid, str(marked), 3600.0))
        await until(lambda: marks(marked).total() == 1)
        waiting = [asyncio.ensure_future(rt.run(tasks.mark, str(marked), 7)) for _ in range(5)]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(running, *waiting, return_exceptions=True)
    assert all(isinstance(each, BackendError) for each in outcomes), outcomes
    assert marks(marked)[7] == 0


def test_a_closed_runtime_runs_nothing_here_either() -> None:
    """Not even what was learned to be quick."""
    quick = Task(lambda value: value, name="quick")
    with BlockingRuntime() as rt:
        for number in range(50):
            assert rt.run(quick, number) == number
    with pytest.raises(BackendClosed):
        rt.run(quick, 1)
    with BlockingRuntime([LocalBackend()]) as rt:
        for number in range(5):
            assert rt.run(quick, number) == number
    with pytest.raises(BackendClosed):
        rt.run(quick, 1)

    async def main() -> None:
        async with Runtime() as rt:
            for number in range(50):
                assert await rt.run(quick, number) == number
        with pytest.raises(BackendClosed):
            await rt.run(quick, 1)

    asyncio.run(main())


async def interrupts_later() -> None:
    raise KeyboardInterrupt


def interrupts() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "task",
    [Task(interrupts_later), Task(interrupts), Task(interrupts, cost="trivial")],
    ids=["later", "now", "trivial"],
)
def test_an_interrupt_raised_by_a_task_ends_no_event_loop(task: Task[[], object]) -> None:
    """It runs where nobody types one."""
    with BlockingRuntime([LocalBackend()]) as rt:
        for _ in range(3):
            with pytest.raises(TaskFailed, match="KeyboardInterrupt"):
                rt.options(timeout=20.0).run(task)
        assert rt.run(abs, -1) == 1


class Refusing(LocalBackend):
    name = "refusing"

    async def start(self) -> None:
        raise OSError("not today")


def test_a_runtime_that_does_not_start_leaves_nothing_behind() -> None:
    """Neither a thread nor an open place; and it does not start the second time either."""
    before = set(threading.enumerate())
    opened = LocalBackend()
    rt = BlockingRuntime([opened, Refusing()])
    for _ in range(3):
        with pytest.raises(OSError, match="not today"):
            rt.run(abs, -1)
        assert opened.closed
    wait_until(lambda: set(threading.enumerate()) <= before, "its threads have gone")
    rt.close()


async def test_the_second_event_loop_is_told_where_its_calls_go() -> None:
    """`explain` says what happens: the workers belong to the first."""
    rt = Runtime([WorkerBackend(1), LocalBackend()])
    assert await rt.run(tasks.add, 1, 2) == 3

    def elsewhere() -> str:
        async def main() -> str:
            assert await rt.run(tasks.add, 1, 2) == 3
            return str(rt.explain(tasks.divide, 1, 2))

        return asyncio.run(main())

    told = await asyncio.to_thread(elsewhere)
    assert "runs at local" in told
    assert "another event loop" in told
    await rt.aclose()
