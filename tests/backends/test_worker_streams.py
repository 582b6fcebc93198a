"""Streams from workers: back-pressure, leaving early, sharing a worker, progress."""

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import BlockingRuntime, Runtime, WorkerBackend
from hybrid_compute.backends.worker import WINDOW
from hybrid_compute.errors import BackendClosed, TaskFailed, TaskTimeout, WorkerLost
from hybrid_compute.events import Event, Progress
from tests.faults import tasks
from tests.faults.watching import alive, kill, marks, until, wait_until

ENDED = 2**64 - 1
STREAMS = [tasks.count_to, tasks.count_slowly_to]


@pytest.mark.parametrize("task", STREAMS, ids=lambda task: task.name)
async def test_a_slow_reader_keeps_the_producer_within_the_window(tmp_path: Path, task: Any) -> None:
    """Nothing is made that nobody has asked for, however long the reader takes over an item."""
    marked = tmp_path / "marks"
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        async with rt.stream(task, 1000, str(marked)) as items:
            for number in range(200):
                assert await anext(items) == number
                made = len(marks(marked))
                assert made <= number + 1 + WINDOW, (number, made)
            await until(lambda: len(marks(marked)) >= 200 + WINDOW // 2, "it goes on as far as it may")
            made = len(marks(marked))
            assert await rt.run(tasks.nap, 0.05)
            assert len(marks(marked)) == made  # and no further
        await until(lambda: marks(marked)[ENDED], "the generator's `finally` has run")


@pytest.mark.parametrize("task", STREAMS, ids=lambda task: task.name)
@pytest.mark.parametrize("after", [0, 1, 10, 100])
async def test_leaving_early_ends_the_producer_and_not_its_worker(tmp_path: Path, task: Any, after: int) -> None:
    """Its `finally` runs, and the next stream is served by the same process."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        for _ in range(3):
            async with rt.stream(task, 10**9, str(marked)) as items:
                for number in range(after):
                    assert await anext(items) == number
            await until(lambda: pool.stats().running == 0, "it has ended")
        assert not after or marks(marked)[ENDED] == 3
        assert await rt.run(tasks.pid) == worker


async def test_a_producer_that_will_not_end_is_killed(tmp_path: Path) -> None:
    """A generator stuck between two items, or in its `finally`, loses its worker after a moment's grace."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        for where in ("between items", "at the end"):
            worker = await rt.run(tasks.pid)
            async with rt.stream(tasks.get_stuck, where, str(marked)) as items:
                assert await anext(items) == 0
                if where == "between items":
                    await until(lambda: marks(marked)[1], "it is stuck")
            await until(lambda worker=worker: not alive([worker]), "its worker is gone")
            assert await rt.run(tasks.add, 1, 2) == 3
        await until(lambda: pool.stats().idle == 1, "the pool is back to size")


async def test_a_reader_may_call_from_within_its_stream() -> None:
    """With one worker only, which the stream holds: the calls share it, and nothing waits for itself."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        seen = []
        async with rt.stream(tasks.count_to, 300) as items:
            async for item in items:
                seen.append(await rt.run(tasks.add, item, 1))
                if item % 100 == 0:
                    seen += await rt.map(tasks.add_one, [])
                    assert await rt.map(tasks.add_one, range(50)) == list(range(1, 51))
                    async with rt.stream(tasks.count_slowly_to, 5) as inner:
                        assert [each async for each in inner] == list(range(5))
        assert seen == list(range(1, 301))


async def test_many_streams_share_few_workers() -> None:
    """Fifty at a time on two workers, each whole and in order."""
    async with Runtime([WorkerBackend(2)], strategy="worker") as rt:

        async def read(count: int) -> list[int]:
            async with rt.stream(STREAMS[count % 2], count) as items:
                return [item async for item in items]

        assert await asyncio.gather(*map(read, range(100, 150))) == [list(range(count)) for count in range(100, 150)]


async def test_a_stream_of_arrays_leaves_no_memory_behind() -> None:
    """Items in shared memory are given back as they are dropped, also those that arrive after their reader left."""
    np = pytest.importorskip("numpy")
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        for _ in range(5):
            async with rt.stream(tasks.arrays, 1000, 1 << 16) as items:
                for number in range(40):
                    item = await anext(items)
                    assert item.sum() == number * (1 << 16)
                    assert isinstance(item, np.ndarray)
            item = None
        assert await rt.run(tasks.count_memfds) < 3 * WINDOW


async def test_what_a_stream_has_sent_is_given_back_when_its_reader_leaves(tmp_path: Path) -> None:
    """At once, and not when the garbage collector comes by."""
    marked = tmp_path / "marks"
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        gc.disable()
        try:
            for turn in range(1, 6):
                async with rt.stream(tasks.arrays, 1000, 1 << 16, str(marked)) as items:
                    await anext(items)
                    await until(lambda turn=turn: marks(marked).total() >= turn * WINDOW, "all it may send is made")
                    await rt.run(tasks.short_wait, 0.0)  # its answer comes behind them
        finally:
            gc.enable()
        assert await rt.run(tasks.count_memfds) < 3 * WINDOW  # two descriptors each


async def test_the_loss_of_a_worker_ends_its_streams() -> None:
    """What has arrived is read first; then comes `WorkerLost`. A stream is never begun again."""
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        with pytest.raises(WorkerLost) as caught:
            async with rt.stream(tasks.count_to, 10**9) as items:
                assert await anext(items) == 0
                kill(pool.pids[0])
                async for _ in items:
                    pass
        assert caught.value.started
        assert await rt.run(tasks.add, 1, 2) == 3


async def test_a_stream_has_a_deadline(tmp_path: Path) -> None:
    """The time of a stream is the time of all of it; the reader learns at its next item."""
    marked = tmp_path / "marks"
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        await rt.run(tasks.pid)
        for task in STREAMS:
            with pytest.raises(TaskTimeout):
                async with rt.options(timeout=0.2).stream(task, 10**9, str(marked)) as items:
                    async for _ in items:
                        pass
            await until(lambda: pool.stats().running == 0, "it has ended")
        assert marks(marked)[ENDED] == 2


async def test_closing_ends_a_stream_whose_reader_waits(tmp_path: Path) -> None:
    """The reader of an item that will never come is told."""
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        async with rt.stream(tasks.get_stuck, "between items", str(tmp_path / "marks")) as items:
            assert await anext(items) == 0
            waiting = asyncio.ensure_future(anext(items))
            await asyncio.sleep(0)
            await pool.aclose()
            with pytest.raises(BackendClosed):
                await waiting


async def test_what_a_stream_raises_comes_after_its_items() -> None:
    """Also when items and failure arrive in one piece, and the reader was away."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt, rt.stream(tasks.count_and_fail, 20) as items:
        await rt.run(tasks.nap, 0.05)
        with pytest.raises(TaskFailed, match="at the end"):
            for number in range(21):
                assert await anext(items) == number


def test_ordinary_code_streams_from_many_threads() -> None:
    """Each thread reads its own stream, and leaves some early."""
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as rt:
        got: list[list[int]] = []

        def read() -> None:
            for _ in range(5):
                with rt.stream(tasks.count_to, 10**9) as items:
                    got.append([next(items) for _ in range(50)])

        threads = [threading.Thread(target=read) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert got == [list(range(50))] * 20


# Progress.


async def seen_by_hooks(task: Any, *args: Any) -> tuple[Any, list[Progress]]:
    events: list[Event] = []
    async with Runtime([WorkerBackend(1)], strategy="worker", hooks=[events.append]) as rt:
        answer = await rt.run(task, *args)
    return answer, [event for event in events if isinstance(event, Progress)]


@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async_generator"])
async def test_progress_reaches_the_hooks(kind: str) -> None:
    """In order and complete, with the name and the number of the call, from every kind of task."""
    _, events = await seen_by_hooks(getattr(tasks, f"report_from_{kind}"), 50)
    assert [(event.done, event.total, event.note) for event in events] == [(n, 50, f"step {n}") for n in range(50)]
    assert len({event.call for event in events}) == 1
    assert {event.task for event in events} == {f"report_from_{kind}"}


async def test_progress_arrives_while_the_task_runs() -> None:
    """It is not kept until the end."""
    arrived = asyncio.Event()
    async with Runtime([WorkerBackend(1)], strategy="worker", hooks=[lambda _: None]) as rt:
        rt.hooks.append(lambda event: arrived.set() if isinstance(event, Progress) else None)
        running = asyncio.ensure_future(rt.run(tasks.report_and_wait))
        await asyncio.wait_for(arrived.wait(), 10)
        assert not running.done()
        running.cancel()


async def test_progress_from_threads_of_a_task_spoils_no_reply() -> None:
    """Threads that a task starts may report while the task itself returns megabytes: nothing is torn apart."""
    answer, events = await seen_by_hooks(tasks.report_from_threads, 4, 200)
    assert answer == b"x" * (1 << 20)
    assert {event.done for event in events} == set(range(200))
    answer, events = await seen_by_hooks(tasks.report_from_a_thread_of_a_plain_task, 200)
    assert answer == b"x" * (1 << 20)


async def test_progress_of_calls_side_by_side_is_told_apart() -> None:
    """Each report carries the number of its own call."""
    events: list[Progress] = []
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        rt.hooks.append(lambda event: events.append(event) if isinstance(event, Progress) else None)
        await asyncio.gather(*(rt.run(tasks.report_from_coroutine, 20) for _ in range(10)))
    calls = {event.call for event in events}
    assert len(calls) == 10
    for call in calls:
        assert [event.done for event in events if event.call == call] == list(range(20))


def test_progress_is_heard_in_ordinary_code() -> None:
    """Hooks of a blocking runtime hear it too."""
    events: list[Event] = []
    with BlockingRuntime([WorkerBackend(1)], strategy="worker", hooks=[events.append]) as rt:
        rt.run(tasks.report_from_plain, 3)
        wait_until(lambda: sum(isinstance(event, Progress) for event in events) == 3)


async def test_the_end_of_a_stream_does_not_wait_for_the_call_after_it() -> None:
    """A generator shares its worker with calls on its items: its end, made while such a call comes in, goes out too."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        for _ in range(100):  # one in three hung, when the end stayed in the worker
            async with rt.stream(tasks.count_to, 3) as items:
                pending = [rt.run(tasks.add_one, item) async for item in items]
            assert await asyncio.gather(*pending) == [1, 2, 3]
