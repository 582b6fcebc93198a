"""Uses that nobody planned for: many threads, other event loops, forks, nesting, a loop that is never free."""

import asyncio
import gc
import os
import select
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, WorkerBackend, WorkerExecutor
from hybrid_compute.errors import BackendClosed, HybridComputeError, TaskFailed
from tests.faults import tasks
from tests.faults.watching import alive, descendants, kill, marks, until, wait_until

# Threads.


def test_many_threads_use_one_runtime() -> None:
    """Sixteen threads, all verbs, from the first call on: each gets its own answers."""
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as rt:
        start = threading.Barrier(16)

        def use(number: int) -> None:
            start.wait()
            assert [rt.run(tasks.add, number, n) for n in range(100)] == [number + n for n in range(100)]
            assert rt.map(tasks.add_one, range(200)) == list(range(1, 201))
            with rt.stream(tasks.count_to, 40) as items:
                assert list(items) == list(range(40))
            with pytest.raises(TaskFailed):
                rt.run(tasks.fail, ValueError(number))
            with rt.as_completed(tasks.add_one, range(20)) as results:
                assert sorted(results) == [(n, n + 1) for n in range(20)]
            assert rt.run(tasks.echo, [number]) == [number]

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(use, range(16)))


@pytest.mark.parametrize("round_", range(5))
def test_many_threads_may_open_a_runtime_at_once(round_: int) -> None:
    """The first call opens it, once, whoever makes it."""
    rt = BlockingRuntime([WorkerBackend(1)], strategy="worker")
    start = threading.Barrier(8)

    def use(number: int) -> int:
        start.wait()
        return rt.run(tasks.add, number, 1)

    before = threading.active_count()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(use, range(8))) == list(range(1, 9))
    assert threading.active_count() == before + 1
    rt.close()


def test_threads_and_loop_share_workers_fairly() -> None:
    """While threads hammer the workers themselves, calls that must wait in line get their turn."""
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        rt.run(tasks.add, 0, 0)
        stop = threading.Event()

        def hammer() -> int:
            count = 0
            while not stop.is_set():
                rt.run(tasks.add, count, 1)
                count += 1
            return count

        with ThreadPoolExecutor(2) as threads:
            hammers = [threads.submit(hammer) for _ in range(2)]
            for _ in range(20):
                assert rt.map(tasks.add_one, range(100)) == list(range(1, 101))
            stop.set()
            assert all(each.result() > 0 for each in hammers)


def test_a_worker_that_dies_unused_under_threads_is_no_trap() -> None:
    """Idle workers that no thread ever used are killed, and so are their successors; the next call works."""
    with BlockingRuntime([pool := WorkerBackend(2)], strategy="worker") as rt:
        rt.run(tasks.add, 1, 2)
        for _ in range(4):
            killed = set(pool.pids)
            for pid in killed:
                kill(pid)
            wait_until(lambda killed=killed: pool.pids and not set(pool.pids) & killed, "they are replaced")
        assert rt.run(tasks.add, 1, 2) == 3
        assert rt.map(tasks.add_one, range(10)) == list(range(1, 11))


def test_a_call_from_the_runtimes_own_loop_is_refused() -> None:
    """A hook that makes a blocking call would wait for itself: an error instead."""
    caught: list[BaseException] = []
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:

        def hook(_: object) -> None:
            try:
                rt.run(tasks.add, 1, 2)
            except RuntimeError as error:
                caught.append(error)

        rt.hooks.append(hook)
        assert rt.run(tasks.add, 1, 2) == 3
    assert "own event loop" in str(caught[0])


# Event loops.


def test_a_second_event_loop_is_told_so() -> None:
    """While the first one runs, and after it has gone: an error that says what to do, and no harm to the first."""
    pool = WorkerBackend(1)
    rt = Runtime([pool], strategy="worker")
    refused: list[BaseException] = []

    async def elsewhere() -> None:
        for verb in (
            lambda: rt.run(tasks.add, 1, 2),
            lambda: rt.run(tasks.short_wait, 0.0),
            lambda: rt.map(tasks.add_one, [1, 2]),
            lambda: _items(rt),
            pool.warm_up,
        ):
            try:
                await asyncio.wait_for(verb(), 5)
            except HybridComputeError as error:
                refused.append(error)

    async def first() -> None:
        assert await rt.run(tasks.add, 1, 2) == 3
        await asyncio.to_thread(asyncio.run, elsewhere())
        assert await rt.run(tasks.add, 1, 2) == 3
        assert pool.stats().running == pool.stats().queued == 0

    asyncio.run(first())
    assert [("another event loop" in str(each)) for each in refused] == [True] * 5, refused
    asyncio.run(elsewhere())
    assert len(refused) == 10
    asyncio.run(rt.aclose())
    for pid in pool.pids:
        kill(pid)


async def _items(rt: Runtime) -> list[int]:
    async with rt.stream(tasks.count_to, 3) as items:
        return [item async for item in items]


def test_two_runtimes_in_two_loops_do_not_meet() -> None:
    """One for each is how it is meant."""

    async def use(number: int) -> list[int]:
        async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
            return await asyncio.gather(*(rt.run(tasks.add, number, n) for n in range(100)))

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda number: asyncio.run(use(number)), [0, 1000]))
    assert outcomes == [list(range(100)), list(range(1000, 1100))]


async def test_a_loop_that_is_never_free_loses_nothing() -> None:
    """User code holds the event loop while workers reply with more than a pipe takes; all of it arrives."""
    async with Runtime([WorkerBackend(2)], strategy="worker") as rt:
        await rt.map(tasks.echo, ["warm"] * 10)
        calls = [rt.run(tasks.echo, ["x" * 1000, number]) for number in range(2000)]
        await asyncio.sleep(0)
        until_then = time.monotonic() + 0.5
        while time.monotonic() < until_then:  # never yields
            pass
        assert await asyncio.gather(*calls) == [["x" * 1000, number] for number in range(2000)]
        limited = rt.options(timeout=0.3)
        in_time = [limited.run(tasks.add, number, 1) for number in range(2)]
        await asyncio.sleep(0)
        until_then = time.monotonic() + 0.6
        while time.monotonic() < until_then:
            pass
        assert await asyncio.gather(*in_time) == [1, 2]  # they were done in time, only not yet read


# Forks.


def in_a_fork(check: Callable[[], Any]) -> str:
    """What `check` raises or returns in a forked copy of this process, as text."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                outcome = f"{check()!r}"
            except BaseException as error:
                outcome = f"{type(error).__name__}: {error}"
            os.write(into, outcome.encode())
        finally:
            os._exit(0)
    os.close(into)
    answered, _, _ = select.select([out], [], [], 10)
    try:
        assert answered, "the forked copy hangs"
        text = os.read(out, 65536).decode()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(out)
    return text


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_copy_of_a_blocking_runtime_is_refused(tmp_path: Path) -> None:
    """Every verb, also those that would use a worker directly; the original and its workers notice nothing."""
    with BlockingRuntime([pool := WorkerBackend(2), LocalBackend()], strategy="worker") as rt:
        for _ in range(3):
            assert rt.run(tasks.add, 1, 2) == 3
        before = pool.pids
        for verb in (
            lambda: rt.run(tasks.add, 1, 2),
            lambda: rt.run(tasks.echo, [1]),
            lambda: rt.map(tasks.add_one, [1]),
            lambda: list(rt.stream(tasks.count_to, 3).__enter__()),
        ):
            assert "forked copy" in in_a_fork(verb)
        assert in_a_fork(rt.close) == "None"
        assert in_a_fork(lambda: gc.collect() >= 0) == "True"
        opened = in_a_fork(
            lambda: [os.close(os.open(tmp_path / f"{n}", os.O_CREAT)) for n in range(50)] and rt.run(tasks.add, 1, 2)
        )
        assert "forked copy" in opened
        assert pool.pids == before
        for _ in range(10):
            assert rt.run(tasks.add, 1, 2) == 3


async def test_a_forked_copy_of_an_event_loop_is_refused() -> None:
    """Code that goes on in the copy gets `BackendClosed`; closing there takes nothing from the original."""
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        array = pool.empty(100)
        array[:] = 1.0
        assert (await rt.run(tasks.echo, array)).sum() == 100

        def check() -> str:
            try:
                rt.run(tasks.add, 1, 2).send(None)  # type: ignore[attr-defined]
            except BaseException as error:
                return f"{type(error).__name__}: {error}"
            return "it began"

        assert "forked copy" in in_a_fork(check)
        assert await rt.run(tasks.add, 1, 2) == 3
        assert pool.stats().lost == 0


def test_a_forked_copy_may_make_a_runtime_of_its_own() -> None:
    """Nothing inherited stands in its way."""

    def check() -> int:
        with BlockingRuntime([WorkerBackend(1)], strategy="worker") as own:
            return own.run(tasks.add, 1, 2)

    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        assert rt.run(tasks.add, 1, 2) == 3
        assert in_a_fork(check) == "3"
        assert rt.run(tasks.add, 1, 2) == 3


def test_forking_after_closing_makes_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    """A closed pool that is still referred to has nothing left to close in the copy."""
    rt = BlockingRuntime([WorkerBackend(1)], strategy="worker")
    with rt:
        assert rt.run(tasks.add, 1, 2) == 3
    executor = WorkerExecutor(1)
    executor.submit(pow, 2, 2).result()
    executor.shutdown()
    assert in_a_fork(lambda: "quiet") == "'quiet'"
    assert capfd.readouterr().err == ""


def test_a_forked_copy_of_an_executor_is_refused() -> None:
    """`submit` raises there; a future of the copy would never be done."""
    with WorkerExecutor(1) as executor:
        assert executor.submit(pow, 2, 10).result() == 1024
        assert "fork" in in_a_fork(lambda: executor.submit(pow, 2, 10).result(5))
        assert in_a_fork(executor.shutdown) == "None"
        assert executor.submit(pow, 2, 10).result() == 1024


def test_the_workers_of_the_original_die_with_it_and_not_with_its_copies(tmp_path: Path) -> None:
    """A copy that outlives the original keeps nobody alive."""
    marked = tmp_path / "marks"
    program = textwrap.dedent(f"""
        import os, time
        from hybrid_compute import BlockingRuntime, WorkerBackend
        from tests.faults import tasks
        rt = BlockingRuntime([WorkerBackend(2)], strategy="worker")
        rt.start()
        rt.run(tasks.add, 1, 2)
        workers = rt.backends[0].pids
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        print(*workers, flush=True)
        tasks.mark({str(marked)!r}, 1)
        rt.run(tasks.mark_and_wait, {str(marked)!r}, 2)
    """)
    ran = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE, text=True)
    assert ran.stdout is not None
    workers = [int(each) for each in ran.stdout.readline().split()]
    wait_until(lambda: marks(marked)[2])
    copies = [each.pid for each in descendants(ran.pid) if each.ppid() == ran.pid and each.pid not in workers]
    try:
        ran.kill()
        ran.wait()
        wait_until(lambda: not alive(workers), "the workers have gone", 1.0)
    finally:
        ran.stdout.close()
        for pid in copies:
            kill(pid)


# Nesting.


@pytest.mark.timeout(90)
def test_a_task_may_use_a_runtime_of_its_own() -> None:
    """Workers below workers, several at a time; when all is done no process is left."""
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as rt:
        assert rt.map(tasks.sum_in_workers, [10, 20, 30]) == [55, 210, 465]
        assert rt.run(tasks.sum_in_workers_async, 10) == 55
        assert rt.run(tasks.sum_three_deep, 4) == 10
        (template,) = [each for each in descendants() if each.ppid() == os.getpid()]
        wait_until(lambda: len(alive(each.pid for each in descendants(template.pid))) == 2, "only the workers are left")


async def test_stopping_a_task_stops_the_workers_of_its_own(tmp_path: Path) -> None:
    """A killed worker takes its runtime's workers along, however busy they are."""
    marked = tmp_path / "marks"
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        running = asyncio.ensure_future(rt.run(tasks.run_nested, str(marked), 1))
        await until(lambda: marks(marked)[1])
        processes = [each.pid for each in descendants()]
        assert len(processes) >= 4
        running.cancel()
        await until(lambda: len(alive(processes)) <= 1, "all but the template have gone", 5.0)
        assert await rt.run(tasks.add, 1, 2) == 3


# Functions.


def test_a_function_defined_anew_is_run_anew() -> None:
    """What a closure or a global of a notebook refers to may change between two calls."""
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        for turn in range(30):
            factor = turn

            def scale(number: int, factor: int = factor) -> int:
                return number * factor

            assert rt.run(scale, 10) == 10 * turn
            assert rt.run(lambda number, turn=turn: number + turn, 1) == 1 + turn
        cell = [0]

        def read() -> int:
            return cell[0]

        for turn in range(30):
            cell[0] = turn
            assert rt.run(read) == turn
            assert rt.map(lambda _, read=read: read(), [1, 2]) == [turn, turn]


@pytest.mark.parametrize("blocking", [False, True])
def test_lambdas_by_the_thousand_are_forgotten(blocking: bool) -> None:
    """Neither this process nor the worker remembers functions that are gone."""

    async def use_async() -> tuple[int, int]:
        async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
            for number in range(3000):
                assert await rt.run(lambda a, number=number: a + number, 1) == 1 + number
            gc.collect()
            await rt.run(tasks.add, 1, 2)
            return len(pool._functions._known.values()), await rt.run(tasks.count_functions)

    def use_blocking() -> tuple[int, int]:
        with BlockingRuntime([pool := WorkerBackend(1)], strategy="worker") as rt:
            for number in range(3000):
                assert rt.run(lambda a, number=number: a + number, 1) == 1 + number
            gc.collect()
            rt.run(tasks.add, 1, 2)
            return len(pool._functions._known.values()), rt.run(tasks.count_functions)

    here, there = use_blocking() if blocking else asyncio.run(use_async())
    assert here < 400
    assert there < 400


def test_options_made_for_each_call_leave_nothing_behind() -> None:
    """`rt.options(...)` is cheap enough to be written where it is used, ten thousand times over."""
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        for _ in range(100):
            rt.options(priority=1).run(tasks.add, 1, 2)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(2000):
            rt.options(priority=1).run(tasks.add, 1, 2)
        gc.collect()
        assert len(gc.get_objects()) - before < 500


def test_a_closed_runtime_is_forgotten() -> None:
    """Tasks live as long as their module; they keep no runtime alive that once ran them."""
    import weakref

    def use() -> weakref.ref[Any]:
        with BlockingRuntime([pool := WorkerBackend(1)], strategy="worker") as rt:
            for _ in range(3):
                rt.run(tasks.add, 1, 2)
        return weakref.ref(pool)

    seen = [use() for _ in range(3)]
    gc.collect()
    assert [each() for each in seen] == [None] * 3


def test_a_closed_place_in_a_closed_runtime_says_so() -> None:
    """Used by the name of a place, too."""
    rt = BlockingRuntime([WorkerBackend(1)])
    with rt:
        rt.run(tasks.add, 1, 2)
    for _ in range(2):
        with pytest.raises(BackendClosed, match="closed"):
            rt.options(strategy="worker").run(tasks.add, 1, 2)
