"""The memory of kernels: what is handed out, what is shared, and what is copied."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import pytest

from hybrid_compute import BlockingRuntime, WorkerBackend, empty, kernels, task
from hybrid_compute.errors import LimitExceeded
from hybrid_compute.kernels import Array, Array2, KernelError, f64, i64, kernel, sharing
from hybrid_compute.kernels.memory import SIZE, LinearMemory
from hybrid_compute.kernels.process import machine
from hybrid_compute.kernels.regions import Regions
from hybrid_compute.kernels.visits import Visit, union
from hybrid_compute.shared import SharedArray

pytest.importorskip("wasmtime")
linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="segments have no descriptors here")


@kernel
def add(x: Array[f64], y: Array[f64]) -> None:
    for i in range(len(y)):
        y[i] += x[i]


@kernel
def fill(start: int, stop: int, value: float, out: Array[f64]) -> None:
    for i in range(start, stop):
        out[i] = value + i


@kernel
def put(x: Array2[i64], i: int, j: int, value: int) -> None:
    x[i, j] = value


def memory() -> LinearMemory:
    there = machine()
    assert there is not None
    assert isinstance(there.memory, LinearMemory)
    return there.memory


def is_copied(*arrays: Any) -> bool:
    """Whether `add` would be given a copy of any of these two."""
    there = machine()
    assert there is not None
    visit = Visit(add._signature, there)
    try:
        visit.begin(add._signature.views(arrays))
        return bool(visit.copies)
    finally:
        visit.end()


def test_arrays_in_the_memory_of_kernels_are_not_copied() -> None:
    """And their memory is free when the last view has gone."""
    before = memory().used
    x = kernels.empty((4, 5))
    assert memory().used == before + 4 * 5 * 8 + 32
    assert not is_copied(x[0], x[1])
    view = x[1:, :2]
    del x
    assert memory().used > before
    del view
    assert memory().used == before


def test_memory_is_handed_out_once_and_joined_again() -> None:
    memory = LinearMemory()  # one of its own
    offsets = [memory.allocate(size) for size in (1, 64, 65, 1000)]
    assert offsets == [65536, 65600, 65664, 65792]
    for offset in (65600, 65792, 65536, 65664):
        memory.release(offset)
    assert memory.used == 0
    assert memory.allocate(SIZE - 65536) == 65536
    with pytest.raises(LimitExceeded, match="have no room for 1 bytes more"):
        memory.allocate(1)
    memory.release(65536)


def test_pieces_of_memory_that_overlap_are_one() -> None:
    blocks = [(100, 10, False), (105, 10, True), (115, 5, False), (300, 1, False), (100, 2, True)]
    assert union(blocks) == [(100, 15, True), (115, 5, False), (300, 1, False)]


def test_a_release_may_come_at_any_moment() -> None:
    """A finaliser runs where it likes, also in a thread that holds the lock: then it waits for its turn."""
    before = memory().used
    x = kernels.empty(100)
    with memory()._lock:
        del x
    assert memory().used == before


def test_regions_are_found_first_fit() -> None:
    regions = Regions(64, 64 + 640)
    assert [regions.take(size) for size in (1, 64, 65, 1000)] == [64, 128, 192, None]
    assert regions.give_back(128) == 64
    assert regions.take(65) == 320
    assert regions.take(64) == 128
    assert regions.used == 64 * 6


# Shared memory.


@linux
def test_an_array_in_shared_memory_is_used_where_it_is() -> None:
    """One that the parent has made for its workers, its slices, and two of one segment."""
    with BlockingRuntime([workers := WorkerBackend(size=1)]):
        x, y = workers.empty(100_000), workers.empty(1000)
        x[:], y[:] = 2.0, 1.0
        assert not is_copied(x, y)
        add(x[:1000], y)
        assert (y == 3.0).all()
        expected = x.copy()
        add(x[:-1], x[1:])
        add.__wrapped__(expected[:-1], expected[1:])
        assert (x == expected).all()
        fill.parallel(len(x), 0.5, x, threads=2)
        assert (x == np.arange(100_000) + 0.5).all()
        ordinary = np.zeros(1000)
        assert is_copied(ordinary, y)
        add(y, ordinary)
        assert (ordinary == y).all()
        grid = workers.empty((10, 20), np.int64)
        grid[:] = 0
        put(grid, -1, 3, 7)
        assert grid[9, 3] == 7
        with pytest.raises(IndexError):
            put(grid, 10, 0, 1)


@linux
def test_a_shared_array_is_used_where_it_is() -> None:
    """By its lease: what lies outside of one is read-only, and a kernel that stores into it refuses."""
    before = memory().used, memory().sharing.mapped
    with SharedArray(1000) as x, SharedArray(1000) as y:
        with x.writing() as values:
            fill(0, 1000, 0.5, values)
        with x.reading() as values, y.writing() as sums:
            assert not is_copied(values, sums)
            add(values[:500], sums[500:])
        assert y.values[500:].tolist() == [number + 0.5 for number in range(500)]
        with pytest.raises(KernelError, match="can only be read"):
            fill(0, 1, 0.5, y.values)
    del x, y, values, sums
    gc.collect()
    assert (memory().used, memory().sharing.mapped) == before


@linux
def test_the_mapping_ends_with_the_memory() -> None:
    """When the arena has gone, and the last view of its memory."""
    before, mapped = memory().used, memory().sharing.mapped
    workers = WorkerBackend(size=1)
    x = workers.empty(100_000)
    x[:] = 1.0
    add(x, x)
    assert memory().sharing.mapped - mapped == 1 << 20
    view = x[10:20]
    with BlockingRuntime([workers]):
        pass
    del workers, x
    gc.collect()
    add(view, view)  # its arena is closed, so it is copied now
    assert view.tolist() == [4.0] * 10
    assert memory().sharing.mapped > mapped
    del view
    assert memory().sharing.mapped == mapped
    assert memory().used == before


@task
def look(x: "np.ndarray[Any, Any]") -> tuple[bool, "np.ndarray[Any, Any]", int]:
    """Whether a worker copies its argument or its result for a kernel; the result, and who it was."""
    result = empty(x.shape, x.dtype)
    result[:] = 1.0
    copied = is_copied(x, result)
    add(x, result)
    return copied, result, os.getpid()


@linux
def test_a_worker_uses_what_it_was_lent() -> None:
    """And its result comes back without a copy, and outlives it."""
    with BlockingRuntime([workers := WorkerBackend(size=1)]) as rt:
        x = workers.empty(100_000)
        for turn in range(3):
            x[:] = float(turn)
            copied, result, pid = rt.run(look, x)
            assert not copied
            assert (result == turn + 1.0).all()
        assert rt.stats()["look"]["worker"].received < 2000
        assert not is_copied(result, x)
        os.kill(pid, signal.SIGKILL)
        x[:] = 0.0
        add(result, x)  # whether the arena knows yet or not
        assert (x == 3.0).all()
        assert rt.run(look, x)[1][0] == 4.0


def test_what_cannot_be_mapped_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no descriptors, or no room is left: the results are the same."""
    with BlockingRuntime([portable := WorkerBackend(size=1, portable=True)]) as rt:
        x = portable.empty(1000)
        x[:] = 1.0
        assert is_copied(x, x)
        add(x, x)
        assert (x == 2.0).all()
        assert (rt.run(look, np.ones(10))[1] == 2.0).all()
    monkeypatch.setattr(sharing, "MOST", 0)
    y = WorkerBackend(size=1).empty(1000)
    y[:] = 1.0
    add(x, y)
    assert (y == 3.0).all()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every call gives back the memory that it used."""
    before = memory().used
    yield
    gc.collect()
    assert memory().used == before


def test_regions_are_known_after_any_step_was_left_undone() -> None:
    """What a signal leaves in the middle of: nothing is handed out twice, and nothing is lost."""
    for left_at in range(60):
        regions = Regions(0, 64 * 10)
        kept = [regions.take(64) for _ in range(4)]
        regions.give_back(64)
        sys.settrace(_interrupts(left_at))
        try:
            regions.take(128)
            regions.give_back(128)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        used = dict(regions._used)
        taken = [regions.take(64) for _ in range(10 - regions.used // 64)]
        assert None not in taken
        assert not set(taken) & set(used)
        assert regions.take(1) is None
        assert kept == [0, 64, 128, 192]


def _interrupts(after: int) -> Callable[[FrameType, str, Any], Any]:
    """Raises in a method of `Regions`, before the line with this number, counted as they come."""
    lines = iter(range(after))

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_globals.get("__name__") != Regions.__module__:
            return None
        if event == "line" and next(lines, None) is None:
            raise KeyboardInterrupt
        return trace

    return trace
