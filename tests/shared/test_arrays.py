"""Arrays that several processes see: nothing is copied, who writes is alone, and a stale handle leads nowhere."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import numpy as np
import pytest

from hybrid_compute import BlockingRuntime, Runtime, WorkerBackend
from hybrid_compute.errors import (
    BackendUnavailable,
    HalfWritten,
    InvalidInput,
    LeaseHeld,
    NotTransferable,
    StaleHandle,
    TaskFailed,
    WorkerLost,
)
from hybrid_compute.shared import SharedArray, TripleBuffer, block
from hybrid_compute.shared.array import Lease
from tests.faults.watching import descriptors, wait_until
from tests.shared import places

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory shared by all places needs Linux")
SIZE = 1_000_000


@pytest.fixture(scope="module", params=[False, True], ids=["piped", "portable"])
def rt(request: pytest.FixtureRequest) -> Iterator[BlockingRuntime]:
    """Workers of either kind."""
    with BlockingRuntime([WorkerBackend(2, portable=request.param)], strategy="worker") as runtime:
        yield runtime


# It is the same memory everywhere


def test_a_worker_writes_to_the_memory_of_this_process(rt: BlockingRuntime) -> None:
    """What crosses is a handle of some hundred bytes, there and back."""
    with SharedArray(SIZE, "float32") as array:
        assert not array.values.any()
        assert rt.run(places.fill, array, 3) != os.getpid()
        assert (array.values == 3).all()
        moved = rt.stats()["fill"]["worker"]
        assert moved.sent < 1000 * moved.calls
        assert rt.run(places.total, array) == 3 * SIZE


@pytest.mark.parametrize("size", [0, 1, 7, 5000])
def test_small_arrays_are_shared_like_large_ones(rt: BlockingRuntime, size: int) -> None:
    """A handle is never a copy, however small the array: what would go through the pipe is shared here."""
    with SharedArray(size, "int16") as array:
        rt.run(places.fill, array, 2)
        assert array.values.tolist() == [2] * size


def test_it_comes_to_processes_that_no_backend_has_made() -> None:
    """The handle is all that is needed: it pickles by any protocol."""
    with SharedArray((2, 3)) as array:
        process = multiprocessing.get_context("spawn").Process(target=places.fill, args=(array, 1.5))
        process.start()
        process.join()
        assert array.values.tolist() == [[1.5] * 3] * 2
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(array, protocol))
            assert np.shares_memory(again.values, array.values)


def test_what_comes_back_is_the_same_memory(rt: BlockingRuntime) -> None:
    """An array that a task gives back is that which it was given."""
    with SharedArray(10) as array:
        assert np.shares_memory(rt.run(list, [array])[0].values, array.values)


def test_it_looks_like_an_array() -> None:
    """What code asks of arrays can be asked of it, without a copy unless one is wanted."""
    with SharedArray((2, 3), "<u2") as array:
        assert (array.shape, array.dtype, array.nbytes, array.size, array.ndim, len(array)) == (
            (2, 3),
            "<u2",
            12,
            6,
            2,
            2,
        )
        assert repr(array) == "<SharedArray uint16[2, 3]>"
        assert np.shares_memory(np.asarray(array), array.values)
        assert np.asarray(array, "f8").dtype == float
        assert not np.shares_memory(np.array(array), array.values)


def test_numpy_may_insist_on_no_copy() -> None:
    """Where it would take one, it is refused."""
    with SharedArray(3, "float32") as array:
        assert np.shares_memory(array.__array__(copy=False), array.values)
        with pytest.raises(ValueError, match="copy"):
            array.__array__("float64", copy=False)


def test_structures_are_shared_and_objects_are_refused() -> None:
    """A pointer means nothing in another process."""
    with SharedArray(4, [("x", "f4"), ("n", "i8")]) as array:
        with array.writing() as values:
            values["n"] = 5
        assert pickle.loads(pickle.dumps(array)).values["n"].tolist() == [5] * 4
    with pytest.raises(InvalidInput, match="objects of Python"):
        SharedArray(4, object)
    with pytest.raises(InvalidInput, match="negative"):
        SharedArray((2, -1))


# Many threads


def test_arrays_come_to_several_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others find arrays, and let go of them, while one looks through those that are open here."""

    class Open:
        """A block of another process. Another thread comes while it is looked at."""

        @property
        def words(self) -> dict[int, int]:
            recent.remove(self)
            recent.append(Open())
            return {block.GENERATION: block.CLOSED}

    recent: deque[object] = deque([Open(), Open()])
    monkeypatch.setattr(block, "_recent", recent)
    with SharedArray(3) as array:
        assert pickle.loads(pickle.dumps(array)).size == 3


def test_an_address_is_looked_up_while_arrays_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a kernel in one thread, of arrays that another has: that makes one while the first of them is looked at."""
    made: list[SharedArray] = []

    def gone() -> None:
        made.append(SharedArray(1))

    known = weakref.WeakValueDictionary[object, object]()
    references: dict[object, object] = getattr(known, "data")  # noqa: B009  # which the type checker does not know
    references[gone] = gone  # a reference to what is no more
    monkeypatch.setattr(block, "_known", known)
    with SharedArray(3) as array:
        found = block.block_at(array.values.ctypes.data, array.nbytes)
    assert found is not None
    assert found.size == array.nbytes
    assert made


# Leases


def test_outside_of_a_lease_an_array_is_read_only() -> None:
    """Also what a lease has given, once it is over."""
    with SharedArray(3) as array:
        with array.writing() as values:
            values[0] = 1
        with array.reading() as seen:
            for each in (values, seen, array.values):
                with pytest.raises(ValueError, match="read-only"):
                    each[0] = 2


def test_writers_of_all_processes_and_threads_take_turns(rt: BlockingRuntime) -> None:
    """No step of any of them is lost."""
    with SharedArray(100, "int64") as array:
        threads = [threading.Thread(target=places.count_up, args=(array, 300)) for _ in range(2)]
        for thread in threads:
            thread.start()
        rt.map(lambda times: places.count_up(array, times), [300, 300])
        for thread in threads:
            thread.join()
        assert array.values[0] == 1200


def test_readers_read_together_and_keep_writers_out() -> None:
    """Who would wait for too long is told so."""

    def write() -> str:
        with pytest.raises(LeaseHeld) as told, array.writing(0.01):
            pass
        return str(told.value)

    with SharedArray(3) as array, array.reading(), array.reading(), ThreadPoolExecutor() as threads:
        told = threads.submit(write).result()
    assert told.endswith("could not be written within 0.01 s, because it is read by somebody")


async def test_who_waits_in_the_event_loop_does_not_hold_it_up() -> None:
    """The lease is somebody's of the same loop, who lets go of it meanwhile."""
    order: list[str] = []

    async def use(name: str, waits: asyncio.Event, goes: asyncio.Event) -> None:
        async with array.writing(10):
            order.append(name)
            goes.set()
            await waits.wait()

    with SharedArray(3) as array:
        first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(use("one", second, first))
            await first.wait()
            group.create_task(use("two", third, asyncio.Event()))
            with pytest.raises(LeaseHeld, match=f"written by process {os.getpid()}"):
                async with array.reading(0):
                    pass
            assert order == ["one"]
            second.set()
            third.set()
        assert order == ["one", "two"]


def test_a_thread_that_would_wait_for_itself_is_told() -> None:
    """It would wait for ever."""
    with SharedArray(3) as array:
        with array.reading(), pytest.raises(RuntimeError, match="wait for itself"), array.writing():
            pass
        with array.writing() as values:
            values[0] = 1


@pytest.mark.parametrize("at_first", ["with", "async with"])
async def test_a_task_that_would_wait_for_itself_is_told(at_first: str) -> None:
    """Another task of the same loop is not: it waits for the first."""
    with SharedArray(3) as array:

        async def write() -> None:
            async with array.writing() as values:
                values[0] = 1

        async with AsyncExitStack() as stack:
            if at_first == "with":
                stack.enter_context(array.reading())
            else:
                await stack.enter_async_context(array.reading())
            with pytest.raises(RuntimeError, match="this task has a lease"):
                await write()
            other = asyncio.create_task(write())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(other), 0.01)
        await other
        assert array.values[0] == 1


def test_who_waits_can_be_interrupted() -> None:
    """By a signal, as Ctrl-C is one; then nothing is held."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with SharedArray(3) as array, ThreadPoolExecutor(1) as other:
            lease = array.reading()
            other.submit(lease.__enter__).result()
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                with array.writing():
                    pass
            other.submit(lease.__exit__, None, None, None).result()
            with array.writing(0):
                pass
    finally:
        signal.signal(signal.SIGALRM, before)


async def test_a_worker_that_is_killed_gives_up_its_lease() -> None:
    """Whoever waits for it goes on, and is told that the array is half written."""
    async with Runtime([pool := WorkerBackend(1)], strategy="worker") as rt:
        with SharedArray(1000) as array:
            async with rt.stream(places.hold, array) as items:
                assert await anext(items) == pool.pids[0]
                with pytest.raises(LeaseHeld, match=f"written by process {pool.pids[0]}"):
                    async with array.reading(0):
                        pass
                os.kill(pool.pids[0], 9)
                with pytest.raises(HalfWritten, match="process"):
                    async with array.reading():
                        pass
                with pytest.raises(WorkerLost):
                    async for _ in items:
                        pass


def test_an_array_whose_writer_was_killed_is_half_written_until_it_is_written_anew(rt: BlockingRuntime) -> None:
    """Nobody reads it or goes on with it unknowingly; what is there can be looked at."""
    with SharedArray(1000) as array:
        with pytest.raises(WorkerLost):
            rt.run(places.die_writing, array)
        for lease in (array.reading, array.writing):
            with pytest.raises(HalfWritten, match="anew=True") as told, lease():
                pass
        assert told.value.code == "half_written"
        assert array.values.sum() == 3500
        with array.writing(anew=True) as values:  # while the error, and what it holds, is still there
            values[:] = 1
        assert rt.run(places.total, array) == 1000


def test_a_block_that_is_left_by_an_error_leaves_the_array_half_written() -> None:
    """Nobody knows how far it came."""
    with SharedArray(3) as array:
        with pytest.raises(ZeroDivisionError), array.writing() as values:
            values[0] = 1 // 0
        with pytest.raises(HalfWritten), array.reading():
            pass


def test_a_fork_has_no_lease_of_its_parent() -> None:
    """It waits like all others, and when it leaves the block that it was made in, nothing comes of it."""
    with SharedArray(3) as array:
        with pytest.raises(ZeroDivisionError), (lease := array.writing()) as values:
            pid = os.fork()
            if not pid:
                os._exit(_leave(array, lease))
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            values[0] = 1 // 0
        with pytest.raises(HalfWritten), array.reading(0):
            pass


def _leave(array: SharedArray, lease: Lease) -> int:
    """Leave the block of the parent, in its fork. Whether anything is wrong."""
    lease.__exit__(None, None, None)
    try:
        with array.reading(0):
            return 1
    except LeaseHeld:
        return 0


def test_a_fork_that_lives_on_keeps_no_lease_of_its_parent() -> None:
    """The parent is killed while it writes, and its child has all that it had open."""
    with SharedArray(3) as array:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            lease = array.writing()
            lease.__enter__()
            if not os.fork():
                os.close(writing)
                os.read(reading, 1)  # until the test is over
                os._exit(0)
            os.kill(os.getpid(), 9)
        os.waitpid(pid, 0)
        with pytest.raises(HalfWritten), array.reading(20):
            pass
        os.close(writing)
        os.close(reading)


# Handles


def test_handles_of_an_array_that_was_given_back_are_stale(rt: BlockingRuntime) -> None:
    """Here, in workers that have it open, and on the way to one. What was taken out of it stays as it was."""
    with SharedArray(1000) as array:
        rt.run(places.fill, array, 3)
        kept, on_its_way = array.values, pickle.dumps(array)
    assert repr(array) == "<SharedArray float64[1000], stale>"
    for use in (lambda: array.values, lambda: array.reading().__enter__(), lambda: pickle.loads(on_its_way)):
        with pytest.raises(StaleHandle, match="given back"):
            use()
    with pytest.raises(NotTransferable, match="given back"):
        rt.run(places.total, array)
    with pytest.raises(TaskFailed) as failed:
        rt.run(pickle.loads, on_its_way)
    assert isinstance(failed.value.__cause__, StaleHandle)
    assert (kept == 3).all()


def test_memory_that_is_used_again_is_another_array() -> None:
    """It is the same memory, and no old handle leads to it, or gives it back."""
    first = SharedArray(1000)
    old, where = pickle.loads(pickle.dumps(first)), first.pages()
    with first.reuse((2, 5), "float32") as second:
        assert second.pages()[:2] == where[:2]
        for use in (lambda: old.values, lambda: first.values, lambda: first.reuse(5)):
            with pytest.raises(StaleHandle):
                use()
        first.close()
        assert second.values.shape == (2, 5)
        with pytest.raises(InvalidInput, match="8008 bytes do not fit into the 8000"):
            second.reuse(1001)


async def test_who_waits_while_an_array_goes_to_another_gets_nothing() -> None:
    """The turn comes, and it is not this array any more."""
    with SharedArray(1000) as array:
        async with array.writing():
            waiting = asyncio.create_task(_read(array))
            await asyncio.sleep(0)
            array.close()
        with pytest.raises(StaleHandle):
            await waiting


async def _read(array: SharedArray) -> None:
    async with array.reading():
        pass


def test_only_who_has_made_an_array_gives_it_back(rt: BlockingRuntime) -> None:
    """A task that closes what it was given, or a fork that ends, does nobody harm."""
    with SharedArray(1000) as array:
        rt.run(SharedArray.close, array)
        pid = os.fork()
        if not pid:
            array.close()
            os._exit(0)
        os.waitpid(pid, 0)
        assert not array.stale


def test_an_array_of_a_process_that_has_ended_is_gone() -> None:
    """Also where its number and that of its file are those of something else by now."""
    made = "import pickle, sys; from hybrid_compute.shared import SharedArray as A; a = A(9);"
    program = f"{made} sys.stdout.buffer.write(pickle.dumps(a))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=50).stdout
    with pytest.raises(StaleHandle, match="has ended"):
        pickle.loads(told)
    with SharedArray(9) as array, open(os.devnull) as other:
        own = array.__reduce__()[1][2].block.handle
        for handle in (own._replace(identity=1), own._replace(identity=1, fd=other.fileno())):
            with pytest.raises(StaleHandle):
                block.find(handle)


def test_memory_and_files_are_given_back() -> None:
    """Nothing is left when the last array has gone; a worker keeps no array for long that was given back."""
    gc.collect()
    before = descriptors()
    with BlockingRuntime([pool := WorkerBackend(1)], strategy="worker") as rt:
        rt.run(abs, 1)
        for number in range(30):
            with SharedArray(1000) as array:
                rt.run(places.fill, array, number)
            del array
        with SharedArray(1000) as array:
            assert not rt.run(places.look, array)
            theirs = [name for name in descriptors(pool.pids[0]) if "shared" in name]
            assert len(theirs) <= 4  # this array, and perhaps the one before, each with its mapping
        del array
    gc.collect()
    wait_until(lambda: [each for each in descriptors() if "shared" in each] == [e for e in before if "shared" in e])


def test_where_there_is_no_linux_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing breaks before that."""
    monkeypatch.setattr(sys, "platform", "darwin")
    for make in (SharedArray, TripleBuffer):
        with pytest.raises(BackendUnavailable, match="needs Linux"):
            make(3)


def test_importing_it_loads_no_numpy() -> None:
    """Who only names it does not pay for it."""
    program = "import sys, hybrid_compute.shared; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)
