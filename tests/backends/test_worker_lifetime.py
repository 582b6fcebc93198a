"""How workers come and go: initializers, preloading, numbers of calls, idleness, warming up, closing."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Awaitable
from pathlib import Path

import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, WorkerBackend, WorkerExecutor
from hybrid_compute.backends.crew import Lifetime
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import BackendClosed, BackendUnavailable, TaskFailed, WorkerLost
from hybrid_compute.events import Event, WorkerStarted, WorkerStopped
from hybrid_compute.links.pipe import PipeNursery
from tests.faults import tasks
from tests.faults.watching import alive, descendants, descriptors, kill, marks, until, wait_until


async def test_the_initializer_runs_once_in_each_worker_before_its_first_call(tmp_path: Path) -> None:
    """Also in those that come later, in place of others."""
    marked = tmp_path / "marks"
    pool = WorkerBackend(2, initializer=tasks.initialize, initargs=(str(marked), 7))
    async with Runtime([pool], strategy="worker") as rt:
        assert await asyncio.gather(*(rt.run(tasks.initialized) for _ in range(100))) == [7] * 100
        await pool.warm_up()
        assert marks(marked)[7] == 2
        kill(pool.pids[0])
        await until(lambda: marks(marked)[7] == 3, "the new worker is set up")
        assert await rt.run(tasks.initialized) == 7


@pytest.mark.parametrize("how", ["raise", "exit", "segfault", "kill", "sys.exit", "unpicklable"])
async def test_an_initializer_that_fails_is_told_and_no_storm_breaks_loose(tmp_path: Path, how: str) -> None:
    """Each call is told that it has not begun; workers are made for calls, never one after the other by themselves."""
    told = how in ("raise", "sys.exit", "unpicklable")  # else a call may lose worker after worker, and is told that
    expected = (BackendUnavailable,) if told else (BackendUnavailable, WorkerLost)
    marked = tmp_path / "marks"
    pool = WorkerBackend(2, initializer=tasks.fail_to_initialize, initargs=(str(marked), how))
    async with Runtime([pool], strategy="worker") as rt:
        calls = (rt.options(strategy="worker").run(tasks.add, number, 1) for number in range(200))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in outcomes} <= set(expected), outcomes
        assert all(not each.started for each in outcomes)  # type: ignore[union-attr]
        if told:
            assert "initializer" in str(outcomes[0])
        for _ in range(2):
            with pytest.raises(expected) as raised:
                await pool.warm_up()
            assert not raised.value.started
        await until(lambda: pool.stats().workers == 0, "no worker is left")
        assert pool.stats().started < 20
        assert sum(marks(marked).values()) < 20
        started = pool.stats().started
        await asyncio.sleep(0.1)
        assert pool.stats().started == started


async def test_a_worker_that_fails_to_start_once_is_forgiven(tmp_path: Path) -> None:
    """When the reason is gone, the next call works."""
    marked = tmp_path / "marks"
    pool = WorkerBackend(1, initializer=tasks.fail_at_first, initargs=(str(marked), 2))
    async with Runtime([pool], strategy="worker") as rt:
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="not yet"):
                await rt.run(tasks.add, 1, 2)
        assert await rt.run(tasks.add, 1, 2) == 3


@pytest.mark.parametrize("error", [MemoryError("none left"), BackendUnavailable("no process")])
async def test_the_workers_there_are_do_the_work_of_those_that_cannot_start(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Nobody is refused or forgotten while one of them serves; without any, each call is told why."""

    def refuse(*_: object) -> None:
        raise error

    pool = WorkerBackend(2)
    async with Runtime([pool], strategy="worker") as rt:
        await pool.warm_up(1)
        monkeypatch.setattr(PipeNursery, "start", refuse)
        assert await asyncio.gather(*(rt.run(tasks.short_wait, 0.001) for _ in range(200)))
        assert await asyncio.gather(*(rt.run(tasks.add, number, 1) for number in range(200))) == list(range(1, 201))
        (last,) = pool.pids
        assert kill(last)
        await until(lambda: pool.stats().workers == 0)
        outcomes = await asyncio.gather(*(rt.run(tasks.add, number, 1) for number in range(20)), return_exceptions=True)
        assert all(isinstance(each, BackendUnavailable) and str(error) in str(each) for each in outcomes), outcomes
        monkeypatch.undo()
        assert await rt.run(tasks.add, 1, 2) == 3


async def test_a_place_whose_workers_cannot_start_passes_its_calls_on() -> None:
    """They have not begun: the next place takes them."""
    pool = WorkerBackend(1, initializer=tasks.fail_to_initialize, initargs=(os.devnull, "raise"))
    async with Runtime([pool, LocalBackend()]) as rt:
        assert await asyncio.gather(*(rt.run(tasks.add, number, 1) for number in range(20))) == list(range(1, 21))
        assert await rt.map(tasks.add_one, range(20)) == list(range(1, 21))


@pytest.mark.parametrize("concurrent", [1, 50])
async def test_a_worker_is_replaced_after_its_number_of_calls(concurrent: int) -> None:
    """It never runs more than that, under whatever load, and all calls are answered."""
    pool = WorkerBackend(2, lifetime=Lifetime(max_calls=10))
    async with Runtime([pool], strategy="worker") as rt:
        served: list[int] = []
        for _ in range(300 // concurrent):
            served += await asyncio.gather(*(rt.run(tasks.pid) for _ in range(concurrent)))
        counts = {worker: served.count(worker) for worker in served}
        assert max(counts.values()) <= 10
        assert pool.stats().lost == 0
        await until(lambda: len(descendants()) <= 3, "those replaced have gone")


def test_a_worker_is_replaced_after_its_number_of_calls_by_threads() -> None:
    """The same where threads use workers themselves."""
    with BlockingRuntime([WorkerBackend(2, lifetime=Lifetime(max_calls=10))], strategy="worker") as rt:
        served = [rt.run(tasks.pid) for _ in range(100)]
        assert max(served.count(worker) for worker in served) <= 10


async def test_idle_workers_leave_when_their_time_has_come() -> None:
    """All but the minimum, once they have been idle that long; the next calls bring new ones."""
    clock = ManualClock()
    pool = WorkerBackend(3, lifetime=Lifetime(min_workers=1, idle_timeout=60.0))
    async with Runtime([pool], strategy="worker", clock=clock) as rt:
        await pool.warm_up()
        first = set(pool.pids)
        clock.advance(59.0)
        assert pool.stats().workers == 3
        await rt.run(tasks.add, 1, 2)
        clock.advance(61.0)
        await until(lambda: pool.stats().workers == 1, "two have left")
        clock.advance(600.0)
        await asyncio.sleep(0.05)
        assert pool.stats().workers == 1
        assert await asyncio.gather(*(rt.run(tasks.add, number, 1) for number in range(100))) == list(range(1, 101))
        await pool.warm_up()
        assert pool.stats().workers == 3
        assert len(set(pool.pids) & first) == 1
        clock.advance(130.0)
        await until(lambda: pool.stats().workers == 1, "and leave again")
        assert pool.stats().lost == 0


def test_idle_workers_of_threads_leave_too() -> None:
    """Where threads hand workers back themselves, somebody still looks after those that idle."""
    clock = ManualClock()
    pool = WorkerBackend(2, lifetime=Lifetime(idle_timeout=60.0))
    with BlockingRuntime([pool], strategy="worker", clock=clock) as rt:
        for turn in range(3):
            for _ in range(20):
                assert rt.run(tasks.add, 1, 2) == 3
            worker = rt.run(tasks.pid)
            for _ in range(4):
                rt._portal().call(_advance(clock, 61.0))
            wait_until(lambda worker=worker: not alive([worker]), f"it has left, in turn {turn}")


async def _advance(clock: ManualClock, seconds: float) -> None:
    clock.advance(seconds)


async def test_workers_stay_while_they_are_used() -> None:
    """A call now and then is enough."""
    clock = ManualClock()
    pool = WorkerBackend(1, lifetime=Lifetime(idle_timeout=60.0))
    async with Runtime([pool], strategy="worker", clock=clock) as rt:
        worker = await rt.run(tasks.pid)
        for _ in range(10):
            clock.advance(59.0)
            assert await rt.run(tasks.pid) == worker


async def test_preloaded_modules_are_there_before_the_first_call() -> None:
    """And a module that cannot be loaded harms only those who need it."""
    async with Runtime([WorkerBackend(1, preload=["colorsys", "no_such_module"])], strategy="worker") as rt:
        assert await rt.run(tasks.is_loaded, "colorsys")
        assert await rt.run(tasks.add, 1, 2) == 3


async def test_a_preload_that_kills_its_process_is_told() -> None:
    """No worker can start: a clear error, again and again, and no storm."""
    pool = WorkerBackend(2, preload=["tests.faults.deadly"])
    async with Runtime([pool], strategy="worker") as rt:
        for _ in range(3):
            with pytest.raises(BackendUnavailable, match="stderr"):
                await rt.run(tasks.add, 1, 2)
        started = pool.stats().started
        await asyncio.sleep(0.2)
        assert pool.stats().started == started < 20


async def test_hooks_hear_of_workers_that_come_and_go() -> None:
    """Each with its number, its exit code and the reason."""
    events: list[Event] = []
    pool = WorkerBackend(1)
    async with Runtime([pool], strategy="worker", hooks=[events.append]) as rt:
        await rt.run(tasks.add, 1, 2)
        kill(pool.pids[0])
        await until(lambda: any(isinstance(each, WorkerStopped) for each in events))
        with pytest.raises(WorkerLost):
            await rt.run(tasks.die, "exit")
        await until(lambda: sum(isinstance(each, WorkerStopped) for each in events) == 2)
    stopped = [(each.worker, each.exit_code, each.why) for each in events if isinstance(each, WorkerStopped)]
    assert [each.worker for each in events if isinstance(each, WorkerStarted)] == [1, 2, 3]
    assert stopped[:2] == [(1, -9, "it died"), (2, 7, "it died")]
    assert stopped[2][1:] == (0, "the worker backend is closed")


async def test_a_hook_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; calls and workers go on."""

    def broken(_: Event) -> None:
        raise RuntimeError("a bad hook")

    async with Runtime([pool := WorkerBackend(1)], strategy="worker", hooks=[broken]) as rt:
        with pytest.raises(WorkerLost):
            await rt.run(tasks.die, "exit")
        assert await rt.run(tasks.add, 1, 2) == 3
        await until(lambda: pool.stats().idle == 1)
    assert "a bad hook" in caplog.text


# Closing.


async def test_closing_answers_every_pending_call(tmp_path: Path) -> None:
    """Queued, read ahead, running, coroutine, batch: each ends with `BackendClosed`, and no process is left."""
    marked = tmp_path / "marks"
    pool = WorkerBackend(2)
    async with Runtime([pool], strategy="worker") as rt:
        await rt.run(tasks.add, 1, 2)
        calls = [asyncio.ensure_future(rt.run(tasks.mark_and_wait, str(marked), number)) for number in range(10)]
        calls += [asyncio.ensure_future(rt.run(tasks.wait_for_ever, str(marked), 100)) for _ in range(10)]
        calls += [asyncio.ensure_future(rt.run(tasks.add, number, 1)) for number in range(1000)]
        calls += [asyncio.ensure_future(rt.map(tasks.nap, [3600.0] * 10))]
        await until(lambda: len(marks(marked)) == 2, "both workers are held up")
        processes = [each.pid for each in descendants()]
        await rt.aclose()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in outcomes} == {BackendClosed}
        await until(lambda: not alive(processes), "no process is left")


async def test_closing_waits_for_no_worker_that_is_stuck(tmp_path: Path) -> None:
    """Not in an initializer, not in an import: after a second they are killed."""
    marked = tmp_path / "marks"
    pool = WorkerBackend(1, initializer=tasks.mark_and_wait.fn, initargs=(str(marked), 1))
    async with asyncio.timeout(5), Runtime([pool], strategy="worker") as rt:
        stuck = asyncio.ensure_future(rt.run(tasks.add, 1, 2))
        await until(lambda: marks(marked)[1])
        processes = [each.pid for each in descendants()]
        await rt.aclose()
        with pytest.raises(BackendClosed):
            await stuck
        await until(lambda: not alive(processes))


async def test_opening_and_closing_leaves_nothing_open() -> None:
    """Ten times, with calls and arrays in between: no descriptor, no process, no thread more than before."""
    np = pytest.importorskip("numpy")
    await _open_and_close(np)
    gc.collect()
    before, threads = len(descriptors()), threading.active_count()
    for _ in range(10):
        await _open_and_close(np)
    gc.collect()
    assert len(descriptors()) <= before
    assert threading.active_count() == threads
    await until(lambda: not descendants())


async def _open_and_close(np) -> None:  # type: ignore[no-untyped-def]
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        array = np.ones(1 << 20)
        assert (await rt.run(tasks.echo, array)).sum() == 1 << 20
        kill(pool.pids[0])
        assert await rt.run(tasks.mark_pure, os.devnull, 2) == 2


def test_closing_from_many_threads_at_once_is_harmless() -> None:
    """And so is closing twice, and closing what was never opened."""
    for _ in range(5):
        rt = BlockingRuntime([WorkerBackend(1)], strategy="worker")
        rt.start()
        rt.run(tasks.add, 1, 2)
        threads = [threading.Thread(target=rt.close) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        rt.close()
    BlockingRuntime([WorkerBackend(1)]).close()
    executor = WorkerExecutor(1)
    executor.shutdown()
    executor.shutdown()


@pytest.mark.parametrize("rounds", range(3))
def test_closing_answers_the_threads_that_wait(tmp_path: Path, rounds: int) -> None:
    """Also those that read the pipe of their worker themselves: `BackendClosed`, promptly."""
    marked = tmp_path / "marks"
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as rt:
        for _ in range(3):
            rt.run(tasks.mark_or_wait, str(marked), 0, False)
        outcomes: list[object] = []

        def call(number: int) -> None:
            try:
                outcomes.append(rt.run(tasks.mark_or_wait, str(marked), number, True))
            except BaseException as error:
                outcomes.append(error)

        threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(1, 6)]
        for each in threads:
            each.start()
        wait_until(lambda: len(marks(marked)) == 3, "two have begun")
        rt.close()
        for each in threads:
            each.join(5)
        assert [type(each) for each in outcomes] == [BackendClosed] * 5, outcomes
    with pytest.raises(BackendClosed):
        rt.run(tasks.add, 1, 2)


async def test_use_after_close_is_an_error_in_every_verb() -> None:
    """`BackendClosed`, or a refusal that says so."""
    rt = Runtime([WorkerBackend(1)], strategy="worker")
    async with rt:
        assert await rt.run(tasks.add, 1, 2) == 3
    for verb in (rt.run(tasks.add, 1, 2), rt.map(tasks.add_one, [1]), _first(rt)):
        with pytest.raises(Exception, match="closed"):
            await verb
    with pytest.raises(BackendClosed):
        await rt.start()
    pool = rt.backends[0]
    assert isinstance(pool, WorkerBackend)
    with pytest.raises(BackendClosed):
        await pool.warm_up()
    with pytest.raises(Exception, match="closed"):
        pool.empty(10)


async def _first(rt: Runtime) -> object:
    async with rt.stream(tasks.count_to, 3) as items:
        return await anext(items)


async def test_a_closed_place_passes_calls_on_to_the_next() -> None:
    """One place of a runtime may be closed by itself: calls go to the other."""
    async with Runtime([pool := WorkerBackend(1), LocalBackend()]) as rt:
        for _ in range(3):
            assert await rt.run(tasks.add, 1, 2) == 3
        await pool.aclose()
        for _ in range(3):
            assert await rt.run(tasks.add, 1, 2) == 3
        assert await rt.map(tasks.add_one, [1, 2]) == [2, 3]
        assert await rt.run(tasks.count_to, 3) == [0, 1, 2]


async def test_a_stopped_worker_process_is_no_reason_to_hang_on_closing() -> None:
    """SIGSTOP freezes a worker; closing kills it all the same."""
    async with asyncio.timeout(10), Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        worker = await rt.run(tasks.pid)
        os.kill(worker, signal.SIGSTOP)
        stuck = asyncio.ensure_future(rt.run(tasks.add, 1, 2))
        await until(lambda: pool.stats().running == 1)
        await rt.aclose()
        with pytest.raises(BackendClosed):
            await stuck
        await until(lambda: not alive([worker]))


async def test_a_failing_task_does_not_count_as_a_failing_worker() -> None:
    """Whatever number of calls fail."""
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        for _ in range(20):
            with pytest.raises(TaskFailed):
                await rt.run(tasks.fail, ValueError("as usual"))
        assert pool.stats().started == 1


@pytest.mark.parametrize("portable", [False, True])
def test_what_is_left_at_the_end_of_a_program_is_cancelled_in_silence(
    tmp_path: Path, portable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """`asyncio.run` cancels it between two turns of the loop, where no loop is running."""
    marked = tmp_path / "marks"
    left: list[asyncio.Future[object]] = []
    rt = Runtime([pool := WorkerBackend(2, portable=portable)], strategy="worker")

    async def main() -> None:
        await pool.warm_up()
        calls = [rt.run(tasks.wait_for_ever, str(marked), number) for number in range(3)]
        calls += [rt.run(tasks.mark_pid, str(marked), 3600.0) for _ in range(3)]
        left.extend(asyncio.ensure_future(_forward(call)) for call in calls)
        await until(lambda: marks(marked).total() >= 2)

    asyncio.run(main())
    assert all(each.cancelled() for each in left)
    assert not caplog.records, caplog.text
    asyncio.run(rt.aclose())
    wait_until(lambda: not descendants())


async def _forward(call: Awaitable[object]) -> object:
    return await call
