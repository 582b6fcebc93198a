"""The portable path: spawned processes, `multiprocessing` connections, shared memory by name.

What every backend promises, this one promises in `tests/backends/test_contract.py`. Here is what is its own.
"""

import asyncio
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
import pytest
import pytest_asyncio

from hybrid_compute import BlockingRuntime, Runtime, WorkerBackend, WorkerExecutor
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendUnavailable, WorkerLost
from hybrid_compute.events import Progress
from hybrid_compute.links import named
from tests.faults.watching import alive, descriptors, kill, until, wait_until
from tests.links import spawned_tasks as tasks

shared = pytest.mark.asyncio(loop_scope="module")

MILLION = 1_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[WorkerBackend]:
    """Two workers for all tests that do them no harm."""
    backend = WorkerBackend(2, portable=True)
    await backend.warm_up()
    yield backend
    await backend.aclose()


def names_left(family: str = "hc-") -> list[str]:
    """The names of shared memory that begin like this, where the system lets us see them."""
    folder = Path("/dev/shm")
    return sorted(path.name for path in folder.glob(f"{family}*")) if folder.exists() else []


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def family_of(backend: WorkerBackend) -> str:
    arena = backend._arena
    assert isinstance(arena, named.NamedArena)
    return arena.family


# Memory.


@shared
async def test_large_arrays_cross_in_shared_memory(pool: WorkerBackend) -> None:
    """What lies there already is not copied; anything else is copied once, and into no pickle."""
    call = Call(tasks.ones, (MILLION,))
    made = await pool.run_call(call)
    assert call.received < 1000
    call = Call(tasks.double, (made,))
    doubled = await pool.run_call(call)
    assert (doubled == 2).all()
    assert call.sent < 1000
    assert pool._arena.locate(doubled.ctypes.data, doubled.nbytes)


@shared
async def test_memory_of_one_worker_reaches_all_others(pool: WorkerBackend, tmp_path: Path) -> None:
    """What a task has made in shared memory is lent on under its own name, to its maker and to everybody else."""
    made = await pool.run_task(tasks.ones, MILLION)
    ways = [str(tmp_path / "one"), str(tmp_path / "two")]
    calls = [Call(tasks.total, (made, *order)) for order in (ways, ways[::-1])]
    answers = dict(await asyncio.gather(*map(pool.run_call, calls)))
    assert set(answers) == set(pool.pids)
    assert set(answers.values()) == {MILLION}
    assert max(call.sent for call in calls) < 1000


@shared
async def test_arrays_go_in_band_when_shared_memory_is_short(
    pool: WorkerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that gives no more of it is no reason to fail."""

    def full(name: str, size: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(named, "create", full)
    call = Call(tasks.double, (np.ones(2 * MILLION),))
    assert (await pool.run_call(call) == 2).all()
    assert call.sent > 16 * MILLION


@shared
async def test_more_than_a_worker_takes_in_keeps_nobody_waiting(
    pool: WorkerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a worker does not read, the event loop turns, and the other worker is served."""
    monkeypatch.setattr(pool._arena, "_limit", 0)
    slow, quick = pool.pids
    for worker in (slow, quick):
        os.kill(worker, signal.SIGSTOP)
    calls = [asyncio.create_task(pool.run_task(tasks.double, np.ones(MILLION))) for _ in range(2)]
    await asyncio.sleep(0)
    os.kill(quick, signal.SIGCONT)
    done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    beside = await pool.run_task(tasks.pid)
    os.kill(slow, signal.SIGCONT)
    assert beside == quick
    assert (len(done), len(waiting)) == (1, 1)
    assert all((each == 2).all() for each in await asyncio.gather(*calls))


# Calls.


@shared
async def test_a_burst_of_calls_is_answered_in_full(pool: WorkerBackend) -> None:
    """Many more bytes than a connection holds, both ways, in order."""
    answers = await asyncio.gather(*(pool.run_task(tasks.add, number, 1) for number in range(5000)))
    assert answers == list(range(1, 5001))


@shared
async def test_progress_of_a_stream_reaches_the_hooks(pool: WorkerBackend) -> None:
    """Items and progress arrive while the task runs."""
    seen: list[Any] = []
    pool.hooks.append(seen.append)
    async with pool.stream_call(Call(tasks.count, (100,))) as items:
        assert [item async for item in items] == list(range(100))
    pool.hooks.remove(seen.append)
    assert [event.done for event in seen if isinstance(event, Progress)] == list(range(100))


@shared
async def test_a_worker_is_at_home(pool: WorkerBackend) -> None:
    """It reads nothing from the terminal, has one thread for numbers, and may have processes of its own."""
    found = await pool.run_task(tasks.surroundings)
    assert found == {"input": b"", "threads": "1", "own session": True, "child of its own": 0}


@shared
async def test_workers_are_no_business_of_the_user(pool: WorkerBackend) -> None:
    """Who ends or joins all `multiprocessing` children does not mean them."""
    assert len(pool.pids) == 2
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@shared
async def test_a_forked_copy_of_a_worker_is_none(pool: WorkerBackend) -> None:
    """A task that comes back in two processes is answered by one; the other leaves, also after coroutines have run."""
    for _ in range(2):
        worker, copy = await pool.run_task(tasks.fork_and_return)
        assert worker in pool.pids
        await until(lambda copy=copy: not alive([copy]), "the copy has left")
        await asyncio.gather(*(pool.run_task(tasks.short) for _ in range(4)))


async def test_preload_and_initializer_run_before_the_first_call() -> None:
    """In each worker."""
    backend = WorkerBackend(
        1, portable=True, preload=["this_is_no_module", "colorsys"], initializer=tasks.initialize, initargs=(1, "two")
    )
    assert await backend.run_task(tasks.seen, "colorsys") == ([1, "two"], True)
    await backend.aclose()


def test_it_works_under_uvloop() -> None:
    """Threads hand over to any event loop in the same way."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> list[int]:
        async with Runtime([WorkerBackend(1, portable=True)], strategy="worker") as rt:
            return await asyncio.gather(*(rt.run(tasks.add, number, 1) for number in range(100)))

    assert uvloop.run(main()) == list(range(1, 101))


def test_threads_and_executors_use_it_too() -> None:
    """Threads do not read from these workers themselves, and need not know."""
    with BlockingRuntime([WorkerBackend(1, portable=True)], strategy="worker") as rt:
        assert [rt.run(tasks.add, number, 1) for number in range(10)] == list(range(1, 11))
    with WorkerExecutor(1, portable=True) as executor:
        assert list(executor.map(tasks.add.fn, range(10), range(10))) == list(range(0, 20, 2))


# Ends.


async def test_a_worker_that_dies_leaves_nothing_behind() -> None:
    """Its call ends with its exit code; its memory is unlinked, though nobody had seen it yet; another takes over."""
    backend = WorkerBackend(1, portable=True)
    first = await backend.run_task(tasks.pid)
    with pytest.raises(WorkerLost, match="exited with code 7") as lost:
        await backend.run_task(tasks.die_with_memory, MILLION)
    assert lost.value.exit_code == 7
    assert names_left(family_of(backend)) == [f"{family_of(backend)}-ledger"]
    second = await backend.run_task(tasks.pid)
    assert second != first
    kill(second)
    await until(lambda: backend.pids not in ([], [second]), "another worker")
    assert await backend.run_task(tasks.add, 1, 2) == 3
    assert backend.stats().lost == 2
    await backend.aclose()


async def test_each_call_ends_once_while_workers_are_killed() -> None:
    """Nothing is lost but what a killed worker had begun."""
    backend = WorkerBackend(2, portable=True)
    await backend.warm_up()
    ends: list[Any] = []

    async def one(number: int) -> None:
        try:
            ends.append(await backend.run_task(tasks.pure_add, number, 0))
        except WorkerLost:
            ends.append(number)
        if number % 1000 == 500:
            kill(backend.pids[0])

    await asyncio.gather(*map(one, range(3000)))
    assert sorted(ends) == list(range(3000))
    assert backend.stats().lost
    await backend.aclose()


async def test_closing_leaves_no_thread_no_process_no_memory_and_no_descriptor() -> None:
    """Whether a worker is idle, busy, or still on its way."""
    backend = WorkerBackend(1, portable=True)
    backend.empty(10)  # the resource tracker, which stays, is there from now on
    before, threads, processes = descriptors(), threading.active_count(), len(children())
    await backend.aclose()
    for state in ("idle", "busy", "on its way"):
        backend = WorkerBackend(1, portable=True)
        if state != "on its way":
            assert (await backend.run_task(tasks.double, np.ones(MILLION)))[0] == 2
        call = None if state == "idle" else asyncio.create_task(backend.run_task(tasks.touch_and_wait, os.devnull))
        await until(lambda: len(children()) == processes + 1, "the worker is there")
        await backend.aclose()
        assert call is None or isinstance(await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), 5), list)
        assert threading.active_count() == threads
        assert len(children()) == processes
        assert names_left(family_of(backend)) == []
    assert len(descriptors()) <= len(before), (before, descriptors())


async def test_what_was_received_outlives_the_backend() -> None:
    """The name of shared memory goes at the end, the memory with its last user."""
    backend = WorkerBackend(1, portable=True)
    result = await backend.run_task(tasks.ones, MILLION)
    await backend.aclose()
    assert result.sum() == MILLION


async def test_a_worker_that_cannot_start_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """`multiprocessing` lets no process have children that must not survive it."""
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    backend = WorkerBackend(1, portable=True)
    with pytest.raises(BackendUnavailable, match="daemonic processes are not allowed to have children"):
        await backend.run_task(tasks.add, 1, 2)
    await backend.aclose()
    assert names_left(family_of(backend)) == []


# Programs.

PROGRAM = """
import asyncio, json, os, signal, sys
from hybrid_compute import WorkerBackend, empty, task

print("the top of the program")

class Point:
    def __init__(self, x):
        self.x = x

def right_of(point):
    return Point(point.x + 1)

def wait_with_memory(path):
    array = empty(100_000)
    open(path, "w").close()
    while True:
        pass

async def main(ending, path):
    backend = WorkerBackend(1, portable=True)
    assert (await backend.run_task(task(right_of), Point(1))).x == 2
    backend.empty(100_000)
    busy = asyncio.create_task(backend.run_task(task(wait_with_memory), path))
    while not os.path.exists(path):
        await asyncio.sleep(0.001)
    print(json.dumps([backend._arena.family, backend.pids]), flush=True)
    if ending == "fork":
        copy = os.fork()
        if copy == 0:
            raise SystemExit
        os.waitpid(copy, 0)
        assert not busy.done()
        os.kill(backend.pids[0], 0)
    elif ending != "leave":
        await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def start(program: Path, ending: str) -> tuple[subprocess.Popen[str], str, list[int]]:
    """The program, in a process group of its own as under a shell; its memory's family; its workers."""
    started = subprocess.Popen(
        [sys.executable, str(program), ending, str(program.parent / "busy")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "the top of the program\n"
    line = started.stdout.readline()
    if not line:
        raise AssertionError(started.communicate()[1])
    family, pids = json.loads(line)
    assert len(names_left(family)) in (0, 3)
    return started, family, pids


def test_a_program_needs_no_guard_and_may_just_end(program: Path) -> None:
    """Its top runs once, not again in each worker; and if it closes nothing, nothing of it stays, nor does it hang."""
    started, family, pids = start(program, "leave")
    out, err = started.communicate(timeout=20)
    assert (out, err, started.returncode) == ("", "", 0)
    assert alive(pids) == []
    assert names_left(family) == []


def test_an_interrupt_is_for_the_program_alone(program: Path) -> None:
    """Ctrl-C reaches the whole process group; one traceback answers, and the workers go with the program."""
    started, family, pids = start(program, "wait")
    os.killpg(started.pid, signal.SIGINT)
    _, err = started.communicate(timeout=20)
    assert err.count("\nKeyboardInterrupt\n") == 1
    assert "spawn" not in err
    assert alive(pids) == []
    assert names_left(family) == []


def test_workers_go_with_a_parent_that_was_killed(program: Path) -> None:
    """However busy they are; and the resource tracker clears away what nobody else can."""
    started, family, pids = start(program, "wait")
    started.kill()
    started.wait()
    wait_until(lambda: not alive(pids), "the worker has gone", 1.0)
    wait_until(lambda: not names_left(family), "its memory as well")
    started.communicate(timeout=20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_copy_of_the_program_harms_nobody(program: Path) -> None:
    """It ends as a program does, exit handlers and all, and takes neither workers nor memory with it."""
    started, family, pids = start(program, "fork")
    _, err = started.communicate(timeout=20)
    assert started.returncode == 0, err
    assert alive(pids) == []
    assert names_left(family) == []


ELSEWHERE = """
import os, select, sys
sys.modules["fcntl"] = None
for module, name in [(os, "pidfd_open"), (os, "memfd_create"), (os, "pipe2"), (select, "poll")]:
    delattr(module, name)
from hybrid_compute import BlockingRuntime, WorkerBackend
with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
    print(rt.run(pow, 2, 5))
"""


def test_a_system_without_the_fast_path_gets_this_one() -> None:
    """Nothing that only Linux or only Unix has is needed, not even to import."""
    ran = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.stdout, ran.stderr) == ("32\n", "")
