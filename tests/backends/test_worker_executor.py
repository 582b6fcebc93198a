"""`WorkerExecutor` keeps the contract of `concurrent.futures.Executor`, and what libraries expect of one."""

import asyncio
import concurrent.futures as cf
import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import unittest
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from pickle import PicklingError
from typing import Any, ClassVar

import pytest

from hybrid_compute import Task, WorkerExecutor
from hybrid_compute.errors import NotTransferable, TaskTimeout
from tests.faults import odd, tasks
from tests.faults.watching import alive, descendants, kill, marks, wait_until

SIZE = 2


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerExecutor]:
    """An executor for the tests that do it no harm. All its workers run before the first of them."""
    marked = tmp_path_factory.mktemp("shared") / "marks"
    with WorkerExecutor(SIZE) as executor:
        hold_up(executor, marked)
        let_go(marked)
        wait_until(lambda: len(workers_of(executor)) == SIZE)
        yield executor


@pytest.fixture
def family(shared: WorkerExecutor) -> Callable[[], list[int]]:
    """The processes below this one that have come since the test began: those of its own executors."""
    before = set(descendants())
    return lambda: [each.pid for each in descendants() if each not in before]


def workers_of(executor: WorkerExecutor) -> list[int]:
    return executor._desk._backend.pids


def hold_up(executor: WorkerExecutor, marked: Path, size: int = SIZE) -> list[cf.Future[Any]]:
    """Calls that keep every worker busy until `let_go`."""
    held = [executor.submit(tasks.mark_and_wait_for_file, str(marked), number) for number in range(size)]
    wait_until(lambda: len(marks(marked)) == size, "every worker is held up")
    return held


def let_go(marked: Path) -> None:
    marked.with_suffix(".go").touch()


def let_go_when(condition: Callable[[], object], marked: Path) -> None:
    """From another thread, while this one waits."""
    threading.Thread(target=lambda: (wait_until(condition), let_go(marked))).start()


# submit.


def test_submit_gives_a_future_of_the_result(shared: WorkerExecutor) -> None:
    """With arguments by position and by name, whatever they are called."""
    assert shared.submit(pow, 2, 8).result() == 256
    assert shared.submit(tasks.add.fn, 2, b=8).result() == 10
    assert shared.submit(tasks.capture, 1, self=2, fn=3).result() == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        shared.submit(fn=pow)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        shared.submit()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        shared.submit("not a function")  # type: ignore[arg-type]


def test_thousands_may_be_submitted_from_many_threads(shared: WorkerExecutor) -> None:
    """Each future gets its own result."""

    def submit(start: int) -> list[int]:
        futures = [shared.submit(pow, start + number, 1) for number in range(500)]
        return [future.result(30) for future in futures]

    with cf.ThreadPoolExecutor(8) as threads:
        for start, got in zip(range(0, 8000, 1000), threads.map(submit, range(0, 8000, 1000)), strict=True):
            assert got == list(range(start, start + 500))


def test_a_future_has_the_exception_that_was_raised(shared: WorkerExecutor) -> None:
    """The original one, not wrapped; the traceback of the worker is its cause and is printed with it."""
    future = shared.submit(odd.raise_it, KeyError("gone"))
    with pytest.raises(KeyError, match="gone") as caught:
        future.result()
    assert type(future.exception()) is KeyError
    assert "in raise_it" in str(caught.value.__cause__) + str(getattr(caught.value.__cause__, "remote_traceback", ""))
    with pytest.raises(SystemExit):
        shared.submit(sys.exit, 3).result()


def test_what_cannot_be_sent_or_read_is_an_exception_of_its_future(shared: WorkerExecutor) -> None:
    """`submit` itself does not fail, and the executor goes on."""
    for future in (
        shared.submit(tasks.echo, threading.Lock()),
        shared.submit(odd.make, "lock"),
        shared.submit(odd.make, "unreadable"),
        shared.submit(odd.make, "exits when read"),
    ):
        assert isinstance(future.exception(10), NotTransferable)
        assert isinstance(future.exception(), TypeError)
        assert isinstance(future.exception(), PicklingError)
    assert shared.submit(pow, 2, 2).result() == 4


def test_submit_after_shutdown_is_refused() -> None:
    """`RuntimeError`, as of any executor."""
    executor = WorkerExecutor(1)
    assert executor.submit(pow, 2, 2).result() == 4
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 2, 2)
    with pytest.raises(RuntimeError):
        executor.map(str, [1])


@pytest.mark.parametrize("number", [0, -1])
def test_what_makes_no_sense_is_refused(number: int) -> None:
    """In the words of the standard library."""
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        WorkerExecutor(number)
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        WorkerExecutor(1, max_tasks_per_child=number)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        WorkerExecutor(1, initializer="not a function")  # type: ignore[arg-type]


# map.


def test_map_gives_results_in_order(shared: WorkerExecutor) -> None:
    """Over one iterable or several of different lengths, endless ones included if one ends."""
    assert list(shared.map(pow, range(10), range(10))) == [number**number for number in range(10)]
    assert list(shared.map(pow, range(100), range(3))) == [1, 1, 4]
    assert list(shared.map(str, [])) == []
    for size in (1, 3, 40, 50):
        assert list(shared.map(pow, range(40), range(40), chunksize=size)) == [n**n for n in range(40)]
    for size in (0, -1):
        with pytest.raises(ValueError, match="chunksize"):
            shared.map(pow, range(4), range(4), chunksize=size)


@pytest.mark.parametrize("size", [1, 2])
def test_map_raises_where_the_result_would_be(shared: WorkerExecutor, size: int) -> None:
    """What comes before the failure is delivered, for chunks too."""
    results = shared.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5], chunksize=size)
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_has_a_timeout(tmp_path: Path) -> None:
    """What is ready is delivered, then `TimeoutError`, and what has not been sent ahead to a worker is given up."""
    marked = tmp_path / "marks"
    with WorkerExecutor(1) as executor:
        results = executor.map(tasks.mark_or_wait_for_file, [str(marked)] * 5000, range(5000), timeout=0.05)
        wait_until(lambda: marks(marked)[1], "the first call is done, and the second under way")
        assert next(results) == 0
        with pytest.raises(cf.TimeoutError):
            next(results)
        let_go(marked)
    assert {0, 1} <= set(marks(marked)) < set(range(4000))


@pytest.mark.parametrize("size", [1, 2])
def test_every_kind_of_function_may_be_submitted(shared: WorkerExecutor, tmp_path: Path, size: int) -> None:
    """Coroutines are awaited, and what generators yield comes as a list; decorated or not."""
    marked = str(tmp_path / "marks")
    for coroutine in (tasks.mark_in_coroutine, tasks.mark_in_coroutine.fn):
        assert shared.submit(coroutine, marked, 3).result(10) == 3
        assert list(shared.map(coroutine, [marked] * 3, range(3), chunksize=size)) == [0, 1, 2]
    for generator in (tasks.count_to, tasks.count_to.fn, tasks.count_slowly_to, tasks.count_slowly_to.fn):
        assert shared.submit(generator, 3).result(10) == [0, 1, 2]
        assert list(shared.map(generator, [1, 0, 2], chunksize=size)) == [[0], [], [0, 1]]
    with pytest.raises(ValueError, match="at the end"):
        shared.submit(tasks.count_and_fail, 2).result(10)


def test_results_are_not_held_on_to(shared: WorkerExecutor) -> None:
    """Neither `map` nor the executor refers to a result that has been delivered."""
    for made in shared.map(tasks.make_object, range(10)):
        seen = weakref.ref(made)
        del made
        wait_until(lambda: seen() is None, "it has gone")  # noqa: B023  # asked at once


def test_functions_and_arguments_are_not_held_on_to(shared: WorkerExecutor) -> None:
    """When the call is done and its future dropped, what was submitted is free again."""
    owner, argument = tasks.Thing(), tasks.Thing()
    seen = [weakref.ref(owner), weakref.ref(argument)]
    shared.submit(owner.method, argument)
    del owner, argument
    wait_until(lambda: not any(each() for each in seen), "they have gone")


# Cancelling, waiting, callbacks.


def test_a_future_knows_its_state(tmp_path: Path) -> None:
    """Pending, running, done, cancelled: and only what has not begun can be cancelled."""
    marked = tmp_path / "marks"
    with WorkerExecutor(1) as executor:
        (running,) = hold_up(executor, marked, 1)
        pending = [executor.submit(tasks.mark, str(marked), number) for number in (10, 11)]
        assert running.running()
        assert not running.done()
        assert not running.cancel()
        assert not pending[0].running()
        assert pending[0].cancel()
        assert pending[0].cancel()
        assert pending[0].cancelled()
        assert pending[0].done()
        with pytest.raises(cf.CancelledError):
            pending[0].result()
        let_go(marked)
        assert pending[1].result(10) == 11
        assert running.result(10) == 0
        assert not running.cancel()
        assert running.done()
    assert marks(marked)[10] == 0


def test_waiting_for_cancelled_futures_ends(tmp_path: Path) -> None:
    """`wait` and `as_completed` see them as soon as they are cancelled, whether taken in by the pool or not."""
    marked = tmp_path / "marks"
    with WorkerExecutor(1) as executor:
        (running,) = hold_up(executor, marked, 1)
        pending = [executor.submit(pow, number, 1) for number in range(100)]
        waiter = cf.ThreadPoolExecutor(1)
        waiting = waiter.submit(cf.wait, pending, 10)
        for future in pending:
            assert future.cancel()
        assert waiting.result() == (set(pending), set())
        assert cf.wait(pending, 5).not_done == set()
        assert set(cf.as_completed(pending, 5)) == set(pending)
        waiter.shutdown()
        let_go(marked)
        running.result(10)


def test_cancelling_races_with_sending_without_harm() -> None:
    """Whichever comes first: each future is cancelled or has its result, and nobody waits for ever."""
    with WorkerExecutor(2) as executor:
        executor.submit(pow, 1, 1).result()
        for _ in range(20):
            futures = [executor.submit(pow, number, 1) for number in range(200)]
            done = [future.cancel() for future in futures[::3]]
            finished, unfinished = cf.wait(futures, 10)
            assert not unfinished
            assert len(finished) == 200
            assert [future.cancelled() for future in futures[::3]] == done
            assert all(future.cancelled() or future.result() == n for n, future in enumerate(futures))


def test_callbacks_are_called_whatever_happens(shared: WorkerExecutor) -> None:
    """For results, failures, cancelled ones and those that are done already; one that raises harms no other."""
    seen: list[cf.Future[Any]] = []

    def broken(_: cf.Future[Any]) -> None:
        raise ValueError("a bad callback")

    futures = [shared.submit(pow, 2, 2), shared.submit(divmod, 1, 0)]
    for future in futures:
        future.add_done_callback(broken)
        future.add_done_callback(seen.append)
    cf.wait(futures, 10)
    wait_until(lambda: len(seen) == 2)
    futures[0].add_done_callback(seen.append)
    assert len(seen) == 3
    assert shared.submit(pow, 2, 3).result(10) == 8


def test_a_callback_may_submit_and_may_shut_down() -> None:
    """It runs in the executor's own thread, which must not wait for itself."""
    executor = WorkerExecutor(1)
    more: list[cf.Future[Any]] = []

    def follow(_: cf.Future[Any]) -> None:
        more.append(executor.submit(pow, 2, 3))
        executor.shutdown(wait=True)

    executor.submit(pow, 2, 2).add_done_callback(follow)
    wait_until(lambda: more)
    assert more[0].result(10) == 8
    with pytest.raises(RuntimeError):
        executor.submit(pow, 1, 1)


def test_wait_and_as_completed_work(shared: WorkerExecutor, tmp_path: Path) -> None:
    """First completed, first exception, all, and time-outs."""
    marked = tmp_path / "marks"
    (slow,) = hold_up(shared, marked, 1)
    quick, failing = shared.submit(pow, 2, 2), shared.submit(divmod, 1, 0)
    assert cf.wait([quick, slow], 10, cf.FIRST_COMPLETED).done == {quick}
    assert cf.wait([failing, slow], 10, cf.FIRST_EXCEPTION).done == {failing}
    assert cf.wait([slow], timeout=0.01).not_done == {slow}
    with pytest.raises(cf.TimeoutError):
        list(cf.as_completed([slow], timeout=0.01))
    completed = cf.as_completed([slow, failing])
    assert next(completed) is failing
    let_go(marked)
    assert list(completed) == [slow]


# Shutting down.


def test_shutdown_waits_for_what_was_submitted(tmp_path: Path, family: Callable[[], list[int]]) -> None:
    """All fifty are done when it returns, and the workers have left; leaving the block does the same."""
    marked = tmp_path / "marks"
    executor = WorkerExecutor(SIZE)
    held = hold_up(executor, marked)
    futures = [executor.submit(tasks.mark, str(marked), number) for number in range(50)]
    processes = family()
    assert len(processes) > SIZE
    let_go_when(lambda: executor._desk._shut_down, marked)
    executor.shutdown()
    assert all(future.done() for future in held + futures)
    assert sum(marks(marked).values()) == SIZE + 50
    assert not alive(processes)


def test_shutdown_without_waiting_lets_calls_finish(tmp_path: Path, family: Callable[[], list[int]]) -> None:
    """It returns at once; the results come all the same, and the workers leave after them."""
    marked = tmp_path / "marks"
    executor = WorkerExecutor(1)
    (held,) = hold_up(executor, marked, 1)
    waiting = [executor.submit(pow, number, 1) for number in range(50)]
    processes = family()
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError):
        executor.submit(pow, 1, 1)
    assert not held.done()
    let_go(marked)
    assert [future.result(10) for future in waiting] == list(range(50))
    executor.shutdown()  # this time it waits
    assert not alive(processes)


def test_all_who_shut_it_down_wait_for_the_end(tmp_path: Path, family: Callable[[], list[int]]) -> None:
    """From several threads at once: none returns before the workers have left."""
    marked = tmp_path / "marks"
    executor = WorkerExecutor(1)
    hold_up(executor, marked, 1)
    processes = family()

    def shut_down() -> list[int]:
        executor.shutdown()
        return alive(processes)

    with cf.ThreadPoolExecutor(4) as threads:
        left = [threads.submit(shut_down) for _ in range(4)]
        let_go_when(lambda: executor._desk._shut_down, marked)
        assert [each.result(20) for each in left] == [[]] * 4


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_can_give_up_what_has_not_begun(tmp_path: Path, wait: bool) -> None:
    """Running calls finish, the others are cancelled, and those who wait for them know."""
    marked = tmp_path / "marks"
    executor = WorkerExecutor(SIZE)
    held = hold_up(executor, marked)
    waiting = [executor.submit(tasks.mark, str(marked), 100 + number) for number in range(50)]
    let_go_when(lambda: all(future.cancelled() for future in waiting), marked)
    executor.shutdown(wait=wait, cancel_futures=True)
    assert cf.wait(waiting, 5).not_done == set()
    assert [future.result(10) for future in held] == [0, 1]
    assert set(marks(marked)) == {0, 1}


@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_an_executor_that_is_dropped_finishes_its_calls_and_leaves(
    tmp_path: Path, family: Callable[[], list[int]], in_a_cycle: bool
) -> None:
    """Nobody called `shutdown`; the results arrive, then threads and processes go."""
    marked = tmp_path / "marks"
    threads = set(threading.enumerate())
    executor = WorkerExecutor(SIZE)
    held = hold_up(executor, marked)
    results = executor.map(abs, range(-5, 5))
    processes, gone = family(), weakref.ref(executor)
    if in_a_cycle:
        executor.itself = executor  # type: ignore[attr-defined]
    del executor
    gc.collect()
    assert gone() is None
    let_go(marked)
    assert [future.result(10) for future in held] == [0, 1]
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    wait_until(lambda: set(threading.enumerate()) <= threads, "its threads have gone")
    assert not alive(processes)


def test_an_executor_may_be_collected_in_the_middle_of_its_own_work() -> None:
    """The collector may come by anywhere, and in any thread: while locks are held, too."""
    executor = WorkerExecutor(1)
    future = executor.submit(pow, 2, 2)
    desk = executor._desk
    assert desk._portal is not None
    assert future.result(10) == 4
    wait_until(lambda: not desk._outstanding, "all that is left is the executor itself")
    with desk._lock, desk._portal._lock:
        del executor
        gc.collect()
    desk.shutdown(wait=True)


def run(program: str) -> tuple[int, str, str]:
    """Its exit status, output, and errors."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("ending", ["", "executor.shutdown(wait=False)", "del executor"])
def test_the_program_ends_when_what_was_submitted_is_done(ending: str, portable: bool) -> None:
    """Not before, and without a word of complaint, though every worker is replaced on the way."""
    assert run(f"""
        from hybrid_compute import WorkerExecutor
        from tests.faults.tasks import sleep_and_print
        if __name__ == "__main__":
            executor = WorkerExecutor(1, max_tasks_per_child=1, portable={portable})
            for number in range(3):
                executor.submit(sleep_and_print, 0.02, number)
            {ending}
    """) == (0, "0\n1\n2\n", "")


def test_a_child_of_multiprocessing_ends_when_what_it_submitted_is_done() -> None:
    """Such a process runs no exit handlers; the executors of the standard library do not depend on them either."""
    assert run("""
        import multiprocessing
        from hybrid_compute import WorkerExecutor
        from tests.faults.tasks import sleep_and_print
        def main():
            WorkerExecutor(1).submit(sleep_and_print, 0.1, "apple")
        if __name__ == "__main__":
            child = multiprocessing.get_context("fork").Process(target=main)
            child.start()
            child.join()
    """) == (0, "apple\n", "")


def test_submit_at_the_end_of_the_program_is_refused() -> None:
    """In an exit handler."""
    program = """
        import atexit
        @atexit.register
        def run_last():
            try:
                executor.submit(id, None)
            except RuntimeError as error:
                print(error)
        from hybrid_compute import WorkerExecutor
        executor = WorkerExecutor(1)
        executor.submit(id, 42).result()
    """
    assert run(program) == (0, "cannot schedule new futures after shutdown\n", "")


def test_a_program_that_fails_while_futures_are_pending_ends() -> None:
    """With its own traceback and nobody else's."""
    status, _, errors = run("""
        import time
        from hybrid_compute import WorkerExecutor
        with WorkerExecutor(1) as executor:
            futures = [executor.submit(time.sleep, 0.01) for _ in range(10)]
            raise KeyError("on purpose")
    """)
    assert status == 1
    assert errors.strip().endswith("KeyError: 'on purpose'")
    assert errors.count("Traceback") == 1


def test_an_interrupt_at_the_end_of_the_program_leaves_no_process() -> None:
    """Ctrl-C while it waits for futures that would take an hour."""
    program = textwrap.dedent("""
        import threading, time
        from hybrid_compute import WorkerExecutor
        executor = WorkerExecutor(2)
        futures = [executor.submit(time.sleep, 3600) for _ in range(2)]
        executor.submit(pow, 1, 1)
        while len(executor._desk._backend.pids) < 2:
            time.sleep(0.01)
        # Said last is done first: right before the wait for the futures.
        threading._register_atexit(print, *executor._desk._backend.pids, flush=True)
    """)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as ran:
        try:
            workers = [int(each) for each in ran.stdout.readline().split()]
            assert len(alive(workers)) == 2
            ran.send_signal(signal.SIGINT)
            _, errors = ran.communicate(timeout=20)
        finally:
            ran.kill()
    wait_until(lambda: not alive(workers), "its workers have gone")
    assert "KeyboardInterrupt" in errors


# Initializers, losses.


def test_the_initializer_runs_in_every_worker(tmp_path: Path) -> None:
    """Before its first call, with its arguments."""
    marked = tmp_path / "marks"
    with WorkerExecutor(SIZE, initializer=tasks.initialize, initargs=(str(marked), 7)) as executor:
        futures = [executor.submit(tasks.initialized) for _ in range(100)]
        assert {future.result(10) for future in futures} == {7}
    assert 1 <= marks(marked)[7] <= SIZE


def test_a_failing_initializer_breaks_the_pool(tmp_path: Path) -> None:
    """Every future gets an error of the `BrokenExecutor` family that says why."""
    failing = WorkerExecutor(SIZE, initializer=tasks.fail_to_initialize, initargs=(str(tmp_path / "m"), "raise"))
    with failing as executor:
        futures = [executor.submit(pow, number, 1) for number in range(20)]
        for future in futures:
            assert isinstance(future.exception(10), BrokenProcessPool)
            assert isinstance(future.exception(), cf.BrokenExecutor)
        assert "not like this" in str(futures[0].exception())


def test_a_lost_worker_breaks_only_its_own_call(tmp_path: Path) -> None:
    """`BrokenProcessPool` for that future; the others, and all that are submitted later, are answered."""
    marked = tmp_path / "marks"
    with WorkerExecutor(SIZE) as executor:
        held = hold_up(executor, marked)
        others = [executor.submit(pow, number, 1) for number in range(100)]
        wait_until(lambda: len(workers_of(executor)) == SIZE)
        kill(workers_of(executor)[0])
        ((broken,), _) = cf.wait(held, 10, return_when=cf.FIRST_COMPLETED)
        assert isinstance(broken.exception(), BrokenProcessPool)
        let_go(marked)
        assert [future.result(10) for future in others] == list(range(100))
        assert executor.submit(pow, 2, 2).result() == 4


def test_workers_are_replaced_after_so_many_tasks() -> None:
    """`max_tasks_per_child` is kept to the letter."""
    with WorkerExecutor(1, max_tasks_per_child=3) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(9)]
        assert pids[0] == pids[1] == pids[2] != pids[3]
        assert len(set(pids)) == 3
    with WorkerExecutor(3, max_tasks_per_child=1) as executor:
        futures = [executor.submit(pow, number, 2) for number in range(6)]
    assert [future.result() for future in futures] == [number**2 for number in range(6)]


# In other hands.


async def test_an_event_loop_may_run_functions_in_it(shared: WorkerExecutor) -> None:
    """`loop.run_in_executor`, with failures and cancellation."""
    loop = asyncio.get_running_loop()
    assert await asyncio.gather(*(loop.run_in_executor(shared, pow, n, 2) for n in range(50))) == [
        n**2 for n in range(50)
    ]
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(shared, divmod, 1, 0)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.run_in_executor(shared, time.sleep, 0.3), 0.05)


def test_dask_runs_on_it(shared: WorkerExecutor) -> None:
    """As on any executor; it looks for the number of workers where those of the standard library keep it."""
    dask = pytest.importorskip("dask")
    assert shared._max_workers == SIZE
    squares = [dask.delayed(pow)(number, 2) for number in range(50)]
    total = dask.delayed(sum)(squares)
    assert total.compute(scheduler=shared) == sum(number**2 for number in range(50))
    with dask.config.set(scheduler=shared):
        assert dask.compute(*squares) == tuple(number**2 for number in range(50))
        with pytest.raises(ZeroDivisionError):
            dask.compute(dask.delayed(divmod)(1, 0))


def test_joblib_runs_on_it(family: Callable[[], list[int]]) -> None:
    """By way of joblib's own door for backends, with a backend of a few lines."""
    joblib = pytest.importorskip("joblib")
    from tests.backends.joblib_backend import register

    register()
    with joblib.parallel_config(backend="hybrid-compute", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(200)) == [n**2 for n in range(200)]
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(divmod)(1, n % 3) for n in range(20))
    wait_until(lambda: not family(), "its workers have left")


# The standard library's own tests.

NOT_OURS = {
    "test_max_workers_too_large": "about a limit of Windows",
    "test_cancel_futures": "expects a call to have begun right after `submit`; a longer one is tested above",
    # Theirs breaks for good; ours goes on.
    "test_killed_child": "expects later calls to fail",
    "test_error_at_task_unpickle": "expects a broken pool; here it is that call's own failure",
    "test_exit_at_task_unpickle": "the same",
    "test_error_during_result_unpickle_in_result_handler": "the same",
    "test_exit_during_result_unpickle_in_result_handler": "the same",
    # About the inside of the other implementation.
    "test_traceback": "asks for `_RemoteTraceback` by class; the text is tested above",
    "test_shutdown_deadlock_pickle": "reaches for `_executor_manager_thread`",
    "test_saturation": "reaches for `_processes`",
    "test_idle_process_reuse_one": "reaches for `_processes`",
    "test_idle_process_reuse_multiple": "reaches for `_processes`",
    "test_max_tasks_per_child": "reaches for `_processes`; tested above",
    "test_max_tasks_per_child_defaults_to_spawn_context": "reaches for `_mp_context`",
    "test_ressources_gced_in_workers": "sends a proxy of a manager, which only children of multiprocessing may open",
    "test_python_finalization_error": "about its threads",
    # They import the executor from concurrent.futures; all three are told again above.
    "test_interpreter_shutdown": "",
    "test_submit_after_interpreter_shutdown": "",
    "test_hang_gh83386": "",
}


class ContextIgnored(WorkerExecutor):
    """There is one way to start a worker, whatever way is asked for."""

    def __init__(self, *args: Any, mp_context: object = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class OnOurWorkers:
    """Stands in for the mix-ins that say which executor to test."""

    executor_type = ContextIgnored
    executor_kwargs: ClassVar[dict[str, Any]] = {}
    worker_count = 5

    def setUp(self) -> None:
        self.executor = self.executor_type(self.worker_count, **self.executor_kwargs)
        self.addCleanup(self.executor.shutdown)  # type: ignore[attr-defined]  # of `TestCase`

    def get_context(self) -> Any:
        return multiprocessing.get_context("spawn")


def standard_test(module: str, name: str) -> type[Any]:
    """One of their mix-ins: of a module in the package that Python 3.12 and later have, or of the one module before."""
    try:
        everything = importlib.import_module("test.test_concurrent_futures")
    except ModuleNotFoundError:
        pytest.skip("this Python came without the standard library's own tests")
    if not hasattr(everything, "__path__"):
        return getattr(everything, name)
    return getattr(importlib.import_module(f"test.test_concurrent_futures.{module}"), name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("test_process_pool", "ProcessPoolExecutorTest"),
        ("test_wait", "WaitTests"),
        ("test_as_completed", "AsCompletedTests"),
        ("test_shutdown", "ExecutorShutdownTest"),
        ("test_init", "InitializerMixin"),
        ("test_deadlock", "ExecutorDeadlockTest"),
    ],
)
def test_the_standard_librarys_own_tests_pass(module: str, name: str) -> None:
    """As they are, but for those that are about the inside of the other implementation."""
    theirs = standard_test(module, name)
    case = type(f"Worker{name}", (theirs, OnOurWorkers, unittest.TestCase), {})
    names = unittest.defaultTestLoader.getTestCaseNames(case)
    result = unittest.TestResult()
    unittest.TestSuite(case(each) for each in names if each not in NOT_OURS).run(result)
    assert result.testsRun
    assert not result.errors + result.failures, "\n".join(text for _, text in result.errors + result.failures)


def raise_from_another() -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error


def test_an_exception_with_a_cause_keeps_the_traceback_of_the_worker_too() -> None:
    """Behind its own causes, which stay what they were."""
    with WorkerExecutor(1) as executor, pytest.raises(ValueError, match="outer") as caught:
        executor.submit(raise_from_another).result(20)
    assert isinstance(caught.value.__cause__, KeyError)
    assert "in raise_from_another" in "".join(traceback.format_exception(caught.value))


def test_the_time_a_task_may_take_counts_for_an_executor_too() -> None:
    """The worker is free again."""
    limited = Task(time.sleep, timeout=0.05)
    with WorkerExecutor(1) as executor:
        with pytest.raises(TaskTimeout):
            executor.submit(limited, 3600.0).result(20)
        assert executor.submit(pow, 2, 3).result(20) == 8
