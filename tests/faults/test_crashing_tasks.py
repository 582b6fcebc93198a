"""Tasks that take their worker down, or try to: the caller is told how, and the next call works."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, WorkerBackend
from hybrid_compute.errors import TaskFailed, WorkerLost
from tests.faults import tasks
from tests.faults.watching import alive, descendants, marks, until, wait_until, zombies

CRASHES = [
    ("segfault", -signal.SIGSEGV, "SIGSEGV"),
    ("abort", -signal.SIGABRT, "SIGABRT"),
    ("exit", 7, "exited with code 7"),
    ("overflow the stack", -signal.SIGSEGV, "SIGSEGV"),
]


@pytest.fixture(scope="module")
def rt() -> Iterator[BlockingRuntime]:
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as runtime:
        yield runtime


@pytest.mark.parametrize(("how", "code", "text"), CRASHES)
def test_a_crash_ends_its_call_with_the_reason(rt: BlockingRuntime, how: str, code: int, text: str) -> None:
    """`WorkerLost` says which task it was and how the worker went; the next call finds a new one."""
    with pytest.raises(WorkerLost, match=text) as caught:
        rt.run(tasks.die, how)
    assert "'die'" in str(caught.value)
    assert (caught.value.exit_code, caught.value.started, caught.value.backend) == (code, True, "worker")
    assert rt.run(tasks.add, 1, 2) == 3


def test_a_crash_after_many_quick_calls_is_told_to_the_thread_that_waits(rt: BlockingRuntime) -> None:
    """Also where the thread reads the worker's pipe itself."""
    with pytest.raises(WorkerLost):
        rt.run(tasks.die, "exit")
    for _ in range(10):
        with pytest.raises(WorkerLost) as caught:
            rt.run(tasks.die, "exit")
        assert caught.value.exit_code == 7
        assert rt.run(tasks.add, 1, 2) == 3


async def test_many_crashes_in_a_row_are_not_mistaken_for_workers_that_cannot_start() -> None:
    """Workers that took a call and died of it could start well enough: the pool goes on making new ones."""
    async with Runtime([pool := WorkerBackend(2)], strategy="worker") as rt:
        outcomes = await asyncio.gather(*(rt.run(tasks.die, "exit") for _ in range(20)), return_exceptions=True)
        assert [type(each) for each in outcomes] == [WorkerLost] * 20
        assert await rt.run(tasks.add, 1, 2) == 3
        await until(lambda: pool.stats().idle == 2, "the pool is back to size")
        assert pool.stats().lost == 20
        assert not zombies()


async def test_a_crash_takes_no_other_call_with_it() -> None:
    """Calls that wait behind a crash, or run beside it, are answered."""
    async with Runtime([WorkerBackend(2)], strategy="worker") as rt:
        await asyncio.gather(*(rt.run(tasks.add, 0, 0) for _ in range(100)))
        calls = [rt.run(tasks.add, number, 1) for number in range(2000)]
        crash = rt.run(tasks.die, "segfault")
        more = [rt.run(tasks.add, number, 1) for number in range(2000)]
        with pytest.raises(WorkerLost):
            await crash
        assert await asyncio.gather(*calls, *more) == [*range(1, 2001), *range(1, 2001)]


async def test_a_crash_is_never_tried_in_this_process() -> None:
    """Not even for a pure task, with a place in this process next in order: it would take the caller down."""
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        with pytest.raises(WorkerLost):
            await rt.run(tasks.die_purely)
        assert await rt.run(tasks.add, 1, 2) == 3


@pytest.mark.parametrize("task", [tasks.fail, tasks.fail_in_coroutine, tasks.fail_in_stream])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError("far too much")])
async def test_what_is_no_ordinary_exception_fails_the_call_and_not_the_worker(
    task: object, error: BaseException
) -> None:
    """`sys.exit` and its kin end the call that raised them; the same worker goes on, and so do calls beside it."""
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        beside = rt.run(tasks.short_wait, 0.05)
        with pytest.raises(TaskFailed, match=type(error).__name__) as caught:
            await rt.run(task, error)  # type: ignore[call-overload]
        assert type(caught.value.__cause__) is type(error)
        assert "Traceback (most recent call last)" in caught.value.remote_traceback
        assert await beside == worker
        assert await rt.run(tasks.pid) == worker
        assert pool.stats().lost == 0


@pytest.mark.parametrize("task", [tasks.fail, tasks.fail_in_coroutine])
async def test_a_task_that_cancels_itself_has_failed(task: object) -> None:
    """Its caller was not cancelled, and must not look as if it had been."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        with pytest.raises(TaskFailed, match="CancelledError") as caught:
            await rt.run(task, asyncio.CancelledError())  # type: ignore[call-overload]
        assert "Traceback (most recent call last)" in caught.value.remote_traceback


async def test_deep_recursion_fails_like_any_exception() -> None:
    """Python's own limit raises, and the worker goes on."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        with pytest.raises(TaskFailed, match="RecursionError") as caught:
            await rt.run(tasks.recurse, 0)
        assert isinstance(caught.value.__cause__, RecursionError)
        assert await rt.run(tasks.pid) == worker


async def test_a_real_shortage_of_memory_fails_like_any_exception() -> None:
    """A `MemoryError` of the system's making reaches the caller."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        with pytest.raises(TaskFailed, match="MemoryError"):
            await rt.run(tasks.take_memory, 1 << 60)
        assert await rt.run(tasks.pid) == worker


async def test_a_result_that_memory_does_not_suffice_to_send_fails_its_call_alone() -> None:
    """The shortage that comes only while the result is pickled is told as well, and the worker goes on."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        with pytest.raises((TaskFailed, TypeError), match="MemoryError"):
            await rt.run(tasks.return_more_than_can_be_copied)
        assert await rt.run(tasks.pid) == worker


def test_printing_a_lot_disturbs_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    """What tasks print goes where this program prints, all of it; the results are not touched."""
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as rt:
        assert rt.map(tasks.shout, [100_000] * 10) == [100_000] * 10
    out, err = capfd.readouterr()
    assert out.count("x") == err.count("y") == 1_000_000


def test_standard_streams_may_be_closed() -> None:
    """A task that closes descriptors 0 to 2 has its result delivered, and so has the next."""
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        worker = rt.run(tasks.close_descriptors, 0, 3)
        assert rt.run(tasks.pid) == worker
        with pytest.raises(TaskFailed, match="ValueError"):
            rt.run(tasks.fail, ValueError("still here"))
        assert rt.run(tasks.pid) == worker


@pytest.mark.parametrize("then", ["return", "sleep", "open"])
async def test_a_task_that_closes_all_descriptors_loses_its_worker(then: str) -> None:
    """Nothing it does can be told any more: the call ends at once, however long the task would go on."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        await rt.run(tasks.add, 1, 2)
        with pytest.raises(WorkerLost) as caught:
            await rt.run(tasks.close_everything, then)
        assert caught.value.started
        assert await rt.run(tasks.add, 1, 2) == 3


def test_a_task_that_closes_all_descriptors_is_seen_by_the_thread_that_waits() -> None:
    """The same for a thread that reads the pipe itself."""
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        for then in ("return", "sleep", "open"):
            for _ in range(2):
                rt.run(tasks.close_everything, "nothing")
            with pytest.raises(WorkerLost):
                rt.run(tasks.close_everything, then)
        assert rt.run(tasks.add, 1, 2) == 3


def test_processes_that_a_task_leaves_behind_hide_no_death() -> None:
    """A forked child of a worker that has died holds nothing that the caller waits for."""
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        for _ in range(2):
            for _ in range(2):
                rt.run(tasks.fork_and_die, "later")
            with pytest.raises(WorkerLost) as caught:
                rt.run(tasks.fork_and_die, "now")
            assert caught.value.exit_code == 9
        assert rt.run(tasks.add, 1, 2) == 3


def test_a_task_that_returns_in_two_processes_is_answered_once(tmp_path: Path) -> None:
    """A forked copy of a worker that comes back from its task is no worker: it leaves, and nobody hears of it."""
    marked = tmp_path / "marks"
    with BlockingRuntime([pool := WorkerBackend(1)], strategy="worker") as rt:
        for number in range(20):
            assert rt.run(tasks.fork_and_return, str(marked), number) == number
        assert [rt.run(tasks.add, number, 1) for number in range(100)] == list(range(1, 101))
        wait_until(lambda: set(marks(marked).values()) == {2}, "the copies are through")
        (worker,) = pool.pids
        wait_until(lambda: not alive(each.pid for each in descendants(worker)), "and have left")
        assert pool.stats().lost == 0
