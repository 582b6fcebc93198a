"""Calls that run out of time or lose their caller: what runs is really stopped, what waits never begins."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, WorkerBackend
from hybrid_compute.backends.placing import LONGEST_AHEAD
from hybrid_compute.errors import LimitExceeded, NoBackendAvailable, TaskTimeout, WorkerLost
from tests.faults import tasks
from tests.faults.watching import alive, marks, until, wait_until

RUNNING = [tasks.mark_and_wait, tasks.wait_for_ever, tasks.refuse_to_stop, tasks.block_the_loop, tasks.busy_in_c]


async def learn(rt: Runtime, task: Any, *args: Any) -> None:
    """Let the pool see how quick a task is, so that it will send several calls ahead to one worker."""
    (pool,) = rt.backends
    assert isinstance(pool, WorkerBackend)
    cost = 1.0
    while cost > LONGEST_AHEAD / 4:
        await rt.run(task, *args)
        cost = pool._functions.of(task).cost


@pytest.mark.parametrize("task", RUNNING, ids=lambda task: task.name)
@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_running_call_is_really_stopped(tmp_path: Path, task: Any, how: str) -> None:
    """Whatever it is doing; its worker is replaced if there is no gentler way, and the pool is as good as new."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        if how == "timeout":
            with pytest.raises(TaskTimeout, match=rf"{task.name}.*was stopped after 0\.1 s"):
                await rt.options(timeout=0.1).run(task, str(marked), 1)
        else:
            running = asyncio.ensure_future(rt.run(task, str(marked), 1))
            await until(lambda: marks(marked)[1], "it has begun")
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert marks(marked)[1] == 1
        if task is not tasks.wait_for_ever:  # that one ends when it is asked to
            await until(lambda: not alive([worker]), "its worker is gone")
        await until(lambda: pool.stats().running == 0, "nothing runs")
        assert await rt.run(tasks.add, 1, 2) == 3
        await until(lambda: pool.stats().idle == 1, "the pool is back to size")


async def test_what_a_stopped_call_was_about_to_do_never_happens(tmp_path: Path) -> None:
    """The side effect at the end of the call does not come late."""
    marked = tmp_path / "marks"
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        with pytest.raises(TaskTimeout):
            await rt.options(timeout=0.05).run(tasks.mark_after, str(marked), 1, 0.3)
        await until(lambda: not alive([worker]), "its worker is gone")
        await rt.run(tasks.mark_after, str(marked), 2, 0.4)  # longer than the other would have taken
    assert marks(marked) == {2: 1}


def test_a_thread_has_its_timeout_too(tmp_path: Path) -> None:
    """In ordinary code the same limits hold."""
    marked = tmp_path / "marks"
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        limited = rt.options(timeout=0.1)
        with pytest.raises(TaskTimeout):
            limited.run(tasks.mark_and_wait, str(marked), 1)
        assert rt.run(tasks.add, 1, 2) == 3
        with pytest.raises(TaskTimeout):
            limited.map(tasks.nap, [0.0, 3600.0, 0.0])
        assert rt.map(tasks.add_one, [1, 2]) == [2, 3]


async def test_calls_read_ahead_behind_a_stopped_one_are_answered_and_run_once(tmp_path: Path) -> None:
    """They had been sent to the worker that was killed: they are sent again, and none runs twice."""
    marked = tmp_path / "marks"
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        await learn(rt, tasks.mark_or_wait, str(marked), 0, False)
        stuck = rt.options(timeout=0.1).run(tasks.mark_or_wait, str(marked), 1, True)
        behind = [rt.run(tasks.mark_or_wait, str(marked), number, False) for number in range(2, 100)]
        with pytest.raises(TaskTimeout):
            await stuck
        assert await asyncio.gather(*behind) == [*range(2, 100)]
        ran = marks(marked)
        assert {number: ran[number] for number in range(1, 100)} == dict.fromkeys(range(1, 100), 1)


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_call_read_ahead_that_is_given_up_never_begins(tmp_path: Path, how: str) -> None:
    """It lies in the worker's hands already, behind one that runs; that one is not disturbed."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        await learn(rt, tasks.mark_after, str(marked), 0, 0.0)
        (worker,) = pool.pids
        first = rt.run(tasks.mark_after, str(marked), 1, 0.5)
        limited = rt.options(timeout=0.05) if how == "timeout" else rt
        second = asyncio.ensure_future(limited.run(tasks.mark_after, str(marked), 2, 0.0))
        third = rt.run(tasks.mark_after, str(marked), 3, 0.0)
        await until(lambda: pool.stats().running == 3, "all three are with the worker")
        if how == "cancel":
            second.cancel()
        with pytest.raises((TaskTimeout, asyncio.CancelledError)) as caught:
            await second
        assert "had not begun" in str(caught.value) or how == "cancel"
        assert await first == 1
        assert await third == 3
        assert marks(marked)[2] == 0
        assert pool.pids == [worker]


async def test_calls_given_up_before_the_worker_reads_them_never_begin(tmp_path: Path) -> None:
    """Also when the call and its cancellation reach the worker in one piece."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        await learn(rt, tasks.mark_after, str(marked), 0, 0.0)
        for number in range(1, 200, 4):
            first = rt.run(tasks.mark_after, str(marked), number, 0.002)
            given_up = [asyncio.ensure_future(rt.run(tasks.mark_after, str(marked), number + n, 0.0)) for n in (1, 2)]
            last = rt.run(tasks.mark_after, str(marked), number + 3, 0.0)
            await asyncio.sleep(0)  # one turn, in which they are sent
            for each in given_up:
                each.cancel()
            assert await asyncio.gather(first, last) == [number, number + 3]
        ran = marks(marked)
        assert not [number for number in range(1, 200) if number % 4 in (2, 3) and ran[number]]
        assert pool.stats().lost == 0


@pytest.mark.parametrize("how", ["timeout", "queue_timeout", "cancel"])
async def test_a_queued_call_that_is_given_up_never_begins(tmp_path: Path, how: str) -> None:
    """It waits in line, not in a worker: it is simply dropped, and those behind it move up."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        first = rt.run(tasks.mark_after, str(marked), 1, 0.3)
        limited = rt if how == "cancel" else rt.options(**{how: 0.05})
        second = asyncio.ensure_future(limited.run(tasks.mark, str(marked), 2))
        third = rt.run(tasks.mark, str(marked), 3)
        await until(lambda: pool.stats().queued == 2)
        if how == "cancel":
            second.cancel()
        with pytest.raises((TaskTimeout, NoBackendAvailable, LimitExceeded, asyncio.CancelledError)) as caught:
            await second
        assert {"timeout": "had not begun", "queue_timeout": "no worker was free", "cancel": ""}[how] in str(
            caught.value
        )
        assert await asyncio.gather(first, third) == [1, 3]
        assert marks(marked) == {1: 1, 3: 1}
        assert pool.stats().queued == 0


async def test_the_timeout_of_a_task_counts_from_submission(tmp_path: Path) -> None:
    """Time in line is time: a call that waits too long is late although it never began."""
    marked = tmp_path / "marks"
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        busy = asyncio.ensure_future(rt.run(tasks.mark_and_wait, str(marked), 1))
        await until(lambda: marks(marked)[1])
        with pytest.raises(TaskTimeout, match="had not begun"):
            await rt.run(tasks.timed_mark, str(marked), 2)
        busy.cancel()
        assert await rt.run(tasks.mark, str(marked), 3) == 3
        assert marks(marked)[2] == 0


async def test_a_call_refused_for_lack_of_a_free_worker_may_go_elsewhere(tmp_path: Path) -> None:
    """`queue_timeout` says how long this place may let a call wait, not how long the call may take."""
    marked = tmp_path / "marks"
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        busy = asyncio.ensure_future(rt.run(tasks.mark_and_wait, str(marked), 1))
        await until(lambda: marks(marked)[1])
        assert await rt.options(queue_timeout=0.05).run(tasks.mark, str(marked), 2) == 2
        busy.cancel()


async def test_stopping_one_coroutine_leaves_those_beside_it_alone(tmp_path: Path) -> None:
    """A hundred run on one worker: each other one is cancelled, the rest is answered by the same process."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        doomed = [asyncio.ensure_future(rt.run(tasks.wait_for_ever, str(marked), number)) for number in range(50)]
        spared = [rt.run(tasks.short_wait, 0.3) for _ in range(50)]
        await until(lambda: len(marks(marked)) == 50, "all have begun")
        for each in doomed:
            each.cancel()
        assert set(await asyncio.gather(*spared)) == {worker}
        assert {type(each) for each in await asyncio.gather(*doomed, return_exceptions=True)} == {
            asyncio.CancelledError
        }
        assert pool.stats().lost == 0


async def test_leaving_a_stream_does_not_kill_a_call_that_shares_its_worker(tmp_path: Path) -> None:
    """The worker is deep in another call and cannot answer at once: that is no reason to stop it."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        async with rt.stream(tasks.count_to, 1000, str(marked)) as items:
            assert await anext(items) == 0
            call = rt.run(tasks.nap, 0.4)
            await until(lambda: pool.stats().running == 2, "the call shares the worker")
        assert await call == worker
        await until(lambda: marks(marked)[2**64 - 1], "the generator has ended all the same")
        assert pool.pids == [worker]


async def test_a_call_that_is_stopped_takes_coroutines_beside_it_down_and_says_so(tmp_path: Path) -> None:
    """A worker can only be killed whole: what had begun there is lost with the reason, what had not is re-sent."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        beside = asyncio.ensure_future(rt.run(tasks.wait_for_ever, str(marked), 1))
        await until(lambda: marks(marked)[1])
        with pytest.raises(TaskTimeout):
            await rt.options(timeout=0.1).run(tasks.mark_and_wait, str(marked), 2)
        with pytest.raises(WorkerLost, match="ran out of time") as caught:
            await beside
        assert caught.value.started
        assert await rt.run(tasks.add, 1, 2) == 3
        assert pool.stats().workers == 1


async def test_giving_up_thousands_of_calls_leaves_nothing_behind(tmp_path: Path) -> None:
    """Whether queued, read ahead or running when their callers left."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(2)], strategy="worker") as rt:
        await learn(rt, tasks.mark, str(marked), 0)
        for turn in range(10):
            calls = [asyncio.ensure_future(rt.run(tasks.mark, str(marked), 1 + turn * 1000 + n)) for n in range(1000)]
            await until(calls[turn * 50].done)
            for each in calls:
                each.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: pool.stats().running == pool.stats().queued == 0, "nothing runs or waits")
        await until(lambda: pool.stats().idle == 2, "the pool is back to size")
        assert await rt.run(tasks.add, 1, 2) == 3
        ran = marks(marked)
        del ran[0]
        assert max(ran.values()) == 1


@pytest.mark.parametrize("sequence", list(itertools.product("tc", repeat=2)))
async def test_stopping_again_and_again_wears_nothing_out(tmp_path: Path, sequence: tuple[str, str]) -> None:
    """Timeouts and cancellations in any order; each time the worker is replaced and answers."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        for number, how in enumerate(sequence * 3):
            if how == "t":
                with pytest.raises(TaskTimeout):
                    await rt.options(timeout=0.03).run(tasks.mark_and_wait, str(marked), number)
            else:
                running = asyncio.ensure_future(rt.run(tasks.mark_and_wait, str(marked), number))
                await until(lambda number=number: marks(marked)[number])
                running.cancel()
        assert await rt.run(tasks.add, 1, 2) == 3
        await until(lambda: pool.stats().idle == pool.stats().workers == 1, "one worker, idle")


def test_an_impatient_thread_gets_its_worker_back(tmp_path: Path) -> None:
    """A stopped call leaves a worker that threads can use themselves again."""
    marked = tmp_path / "marks"
    with BlockingRuntime([pool := WorkerBackend(1)], strategy="worker") as rt:
        for number in range(5):
            assert [rt.run(tasks.add, n, 1) for n in range(20)] == list(range(1, 21))
            with pytest.raises(TaskTimeout):
                rt.options(timeout=0.05).run(tasks.mark_and_wait, str(marked), number)
        wait_until(lambda: pool.stats().idle == pool.stats().workers == 1, "one worker, idle")


async def test_ordinary_code_may_be_called_from_within_an_event_loop() -> None:
    """As in a notebook: a loop turns in this very thread, and is simply kept waiting."""
    with BlockingRuntime([WorkerBackend(1), LocalBackend()]) as rt:
        for strategy in ("auto", "worker", "local"):
            chosen = rt.options(strategy=strategy)
            for _ in range(3):
                assert chosen.run(tasks.add, 1, 2) == 3
            assert chosen.map(tasks.add_one, [1, 2, 3]) == [2, 3, 4]
            assert chosen.run(tasks.short_wait, 0.0) > 0
            with chosen.stream(tasks.count_to, 3) as items:
                assert list(items) == [0, 1, 2]
