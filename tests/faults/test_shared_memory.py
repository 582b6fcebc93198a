"""Shared memory when something goes wrong: the data stays right, and the memory comes back."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_compute import BlockingRuntime, Runtime, WorkerBackend
from hybrid_compute.errors import BackendClosed, NotTransferable, TaskFailed
from hybrid_compute.links import pipe, spawned
from hybrid_compute.links.arena import Arena, NoMemory
from tests.faults import lending, tasks
from tests.faults.watching import alive, descriptors, kill, memfds, wait_until

SIZE = 1 << 16


@pytest.mark.parametrize("wrap", ["alone", "in a list"])
def test_a_call_that_is_made_again_gets_the_arguments_of_the_first_time(tmp_path: Path, wrap: str) -> None:
    """The worker that died may have changed the copy that was made for it."""
    flag = str(tmp_path / "flag")
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        assert rt.run(tasks.add, 1, 2) == 3
        values = np.zeros(SIZE)
        given: Any = values if wrap == "alone" else [values]
        assert rt.run(tasks.change_and_die_once, given, flag) == 1.0
    assert os.path.exists(flag)


@pytest.mark.parametrize("portable", [False, True])
async def test_a_batch_of_arrays_survives_a_worker_that_died_at_rest(portable: bool) -> None:
    """Nobody can show it any memory, so the calls go another way, and to another worker."""
    async with Runtime([pool := WorkerBackend(1, portable=portable)], strategy="worker") as rt:
        await pool.warm_up()
        kill(pool.pids[0])
        wait_until(lambda: not alive(pool.pids))  # the loop stands still, and does not know of it yet
        assert await rt.map(tasks.total, [np.full(SIZE, 2)] * 3) == [2 * SIZE] * 3


def test_failing_tasks_give_their_arguments_back() -> None:
    """Forty calls of half a megabyte each, in the memory of one or two."""
    gc.collect()  # what other tests have left
    before = memfds()
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        for _ in range(40):
            with pytest.raises(TaskFailed):
                rt.run(tasks.fail_with, np.zeros(SIZE))
        assert memfds() <= before + 6


async def test_an_item_that_cannot_be_read_ends_its_stream_and_nothing_else() -> None:
    """Those behind it are not read at all, and calls beside it are answered."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        assert await rt.run(tasks.add, 1, 2) == 3
        with pytest.raises(NotTransferable, match="not in the parent"):
            async with rt.stream(lending.unreadable_items, 20, os.getpid()) as items:
                async for _ in items:
                    pass
        assert await rt.run(tasks.add, 1, 2) == 3
        assert not [each for each in gc.get_objects() if isinstance(each, lending.Unreadable)]


def test_there_are_never_more_segments_than_were_allowed() -> None:
    """A larger one that is free serves as well; with all in use, there is no memory."""
    arena = Arena(most=2)
    small, _ = arena.allocate(SIZE)
    large, _ = arena.allocate(4 * SIZE)
    with pytest.raises(NoMemory, match="ulimit"):
        arena.allocate(SIZE)
    del large
    again, segment = arena.allocate(2 * SIZE)
    assert segment.size == 4 * SIZE
    assert len(again) == 2 * SIZE
    assert len(small) == SIZE


def test_free_segments_make_room_for_a_larger_one() -> None:
    """However many small ones there were before, and also where it is the bytes that are short."""
    for arena in (Arena(most=4), Arena(limit=4 * SIZE + (1 << 20))):
        views = [arena.allocate(SIZE)[0] for _ in range(4)]
        views.clear()
        _, large = arena.allocate(1 << 20)
        assert large.size == 1 << 20
        assert arena.allocated <= 4 * SIZE + (1 << 20)


@pytest.mark.parametrize("portable", [False, True])
async def test_many_small_results_leave_room_for_a_large_one(monkeypatch: pytest.MonkeyPatch, portable: bool) -> None:
    """What a worker gives up is given up here as well, and by the other worker that was shown it."""
    monkeypatch.setattr(pipe, "share_of_descriptors", lambda _: 8)
    monkeypatch.setattr(spawned, "share_of_descriptors", lambda _: 8)
    async with Runtime([pool := WorkerBackend(2, portable=portable)], strategy="worker") as rt:
        for turn in range(3):
            small = await asyncio.gather(*(rt.run(tasks.full, SIZE >> 2, number) for number in range(30)))
            assert await asyncio.gather(*(rt.run(tasks.total, each) for each in small))
            assert [int(each[-1]) for each in small] == list(range(30))
            del small
            gc.collect()
            large = await asyncio.gather(*(rt.run(tasks.full, 8 * SIZE, number) for number in range(4)))
            assert all(pool._arena.locate(each.ctypes.data, each.nbytes) for each in large), turn
            assert await asyncio.gather(*(rt.run(tasks.total, each) for each in large)) == [
                number * 8 * SIZE for number in range(4)
            ]
            del large
        assert len([key for key in pool._arena._segments if key >> 32]) <= 16  # those of the workers


async def test_a_worker_without_room_for_one_more_file_recovers() -> None:
    """The call whose memory it could not take in fails; once there is room, it is shown that memory again."""
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        values = pool.empty(SIZE)
        values[:] = 1.0
        await rt.run(tasks.total, np.ones(4))
        await rt.run(tasks.fill_files)
        with pytest.raises(TaskFailed, match="ulimit"):
            await rt.run(tasks.total, values)
        await rt.run(tasks.close_files)
        assert await rt.run(tasks.total, values) == SIZE


async def test_results_beyond_the_open_files_there_are_travel_in_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of them the caller keeps."""
    monkeypatch.setattr(pipe, "share_of_descriptors", lambda _: 8)
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        before = len(descriptors())
        kept = [await rt.run(tasks.full, SIZE, number) for number in range(100)]
        assert len(descriptors()) <= before + 2 * 8 + 8
        assert [int(each[-1]) for each in kept] == list(range(100))


def test_memory_goes_with_its_backend() -> None:
    """Also with one that was never opened, or that was asked when it was closed already."""
    before = memfds()
    for _ in range(5):
        WorkerBackend(1).empty(SIZE)
        with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
            for _ in range(2):
                assert rt.run(tasks.total, np.ones(SIZE)) == SIZE
        with pytest.raises(BackendClosed):
            rt.run(tasks.total, np.ones(SIZE))
        del rt

    async def use_after_close() -> None:
        async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
            assert await rt.run(tasks.total, np.ones(SIZE)) == SIZE
        with pytest.raises(BackendClosed):
            await rt.run(tasks.total, np.ones(SIZE))

    asyncio.run(use_after_close())
    gc.collect()
    assert memfds() <= before


def test_a_template_that_does_not_start_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        monkeypatch.setattr(sys, "executable", "/nonexistent/python")
        with pytest.raises(Exception, match="nonexistent"):
            rt.run(tasks.add, 1, 2)
        before = len(descriptors())
        for _ in range(5):
            with pytest.raises(Exception, match="nonexistent"):
                rt.run(tasks.add, 1, 2)
        assert len(descriptors()) <= before
        monkeypatch.undo()
        assert rt.run(tasks.add, 1, 2) == 3


def test_a_forked_copy_shares_no_memory_with_its_original() -> None:
    """What it makes by a backend that was never opened is its own."""
    program = """
        import os
        from hybrid_compute import WorkerBackend
        pool = WorkerBackend(1)
        pool.empty(100_000)  # free again at once, and kept warm
        child = os.fork()
        if child == 0:
            pool.empty(100_000)[:] = 7.0
            os._exit(0)
        os.waitpid(child, 0)
        print(pool.empty(100_000).max())
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.stdout, ran.stderr) == ("0.0\n", "")


async def test_results_of_a_batch_share_nothing() -> None:
    """A task may give the same object each time, and change it in between: `map` gives what `run` would."""
    async with Runtime([WorkerBackend(2)], strategy="worker") as rt:
        for task in (lending.scratch, lending.scratch_list):
            await rt.map(task, range(20))  # it is known to be quick: from here on many go in one frame
            got = await rt.map(task, range(1000))
            assert [int(each[0]) for each in got] == list(range(1000))
            assert len(set(map(id, got))) == 1000
        assert await rt.map(lending.sometimes_a_list, range(1000)) == [n if n % 7 else [n] for n in range(1000)]
        large = await rt.map(lending.large_scratch, range(50))
        assert [int(each.max()) for each in large] == list(range(50))


async def test_a_batch_that_fails_gives_back_what_it_had_made() -> None:
    """Though its first results were arrays in shared memory."""
    async with Runtime([WorkerBackend(1)], strategy="worker") as rt:
        for _ in range(10):
            with pytest.raises(TaskFailed):
                await rt.map(lending.arrays_until_thirteen, range(20))
            gc.collect()  # the results that had come are held by the traceback
        assert await rt.run(tasks.count_memfds) < 70
