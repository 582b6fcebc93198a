"""Shared arrays in sandboxes: the same pages, only those, and only for a while."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("wasmtime")

from hybrid_compute import BlockingRuntime, WorkerBackend
from hybrid_compute.errors import BackendUnavailable, InvalidInput, LimitExceeded, StaleHandle
from hybrid_compute.shared import SharedArray
from hybrid_compute.wasm import Limits, Trap, WasmModule, slots
from hybrid_compute.wasm.instances.instance import Instance
from tests.shared import places
from tests.wasm.kept import double, opened

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory shared by all places needs Linux")


@pytest.fixture
def instance() -> Iterator[Instance]:
    with opened() as instance:
        yield instance


@pytest.fixture
def array() -> Iterator[SharedArray]:
    with SharedArray(5000, "float32") as array:
        yield array


def double_there(array: SharedArray) -> None:
    """In a sandbox of the process that this runs in."""
    with opened() as instance, instance.showing(array) as values, array.writing():
        instance.function(double)(values)


def test_a_module_changes_a_shared_array_where_it_is(instance: Instance, array: SharedArray) -> None:
    """And a part of it."""
    places.fill(array, 3)
    with instance.showing(array) as values, array.writing():
        assert not values.flags.writeable
        instance.function(double)(values)
        instance.function(double)(values[4000:])
    assert array.values.tolist() == [6] * 4000 + [12] * 1000


def test_workers_sandboxes_of_workers_and_sandboxes_here_see_the_same(instance: Instance, array: SharedArray) -> None:
    """One array, three processes' worth of places, and a handle is all that crosses."""
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as rt, opened() as other:
        rt.run(places.fill, array, 1)
        with instance.showing(array) as here, other.showing(array) as there:
            instance.function(double)(here)
            other.function(double)(there)
            rt.run(double_there, array)
            assert (here == 8).all()
            assert (there == 8).all()
        assert rt.run(places.total, array) == 8 * 5000
        assert rt.stats()["double_there"]["worker"].sent < 1000


def test_after_the_block_the_module_has_memory_of_its_own_there(instance: Instance, array: SharedArray) -> None:
    """It is empty, and what the module does to it nobody else sees."""
    places.fill(array, 3)
    with instance.showing(array) as values:
        at = values.ctypes.data - instance.memory.ctypes.data
        assert instance.view(at, 1, "float32")[0] == 3
    assert instance["load"](at) == 0
    instance["store"](at, -1)
    assert (array.values == 3).all()
    assert not values[1:].any()


def test_a_guest_sees_the_array_and_nothing_else(instance: Instance) -> None:
    """Not the words about it, nor anything else that was not its own before."""
    with SharedArray(1, "uint8") as array:
        places.fill(array, 1)
        seen = instance.memory.sum()
        with instance.showing(array):
            assert instance.memory.sum() == seen + 1


def test_a_guest_sees_nothing_of_what_was_there_before(instance: Instance) -> None:
    """In memory that is used again, on the last page of the array and behind it; nor what another guest left there."""
    with SharedArray(20_000, "uint8") as first:
        places.fill(first, 7)
        with first.reuse(10, "uint8") as second, opened() as other:
            with second.writing(anew=True) as values:
                values[:] = 1
            seen = instance.memory.sum()
            with other.showing(second) as values:
                other["store"](values.ctypes.data - other.memory.ctypes.data + 100, -1)
            with instance.showing(second) as values:
                at = values.ctypes.data - instance.memory.ctypes.data
                assert not instance.memory[at + 10 : at + 24_000].any()
            assert instance.memory.sum() == seen


def test_nothing_is_restored_over_an_array_that_is_shown(
    instance: Instance, array: SharedArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it comes to be shown while somebody waits for his turn to restore: that counts before it is shown."""
    before = instance.snapshot()
    turn, show = instance._gate.turn, slots.Slot.show
    counted: list[int] = []

    @contextmanager
    def after_somebody_else() -> Generator[None]:
        with turn():
            instance._block.shown += 1
            try:
                yield
            finally:
                instance._block.shown -= 1

    with monkeypatch.context() as waiting:
        waiting.setattr(instance._gate, "turn", after_somebody_else)
        with pytest.raises(InvalidInput, match="is shown a shared array"):
            instance.restore(before)

    def counting(self: slots.Slot, at: int, size: int, fd: int, start: int) -> None:
        counted.append(instance._block.shown)
        show(self, at, size, fd, start)

    monkeypatch.setattr(slots.Slot, "show", counting)
    with instance.showing(array), pytest.raises(InvalidInput, match="is shown a shared array"):
        instance.restore(before)
    instance.restore(before)
    assert counted == [1]


def test_what_could_not_be_shown_leaves_all_as_it_was(
    instance: Instance, array: SharedArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its room is given back, and the instance can be restored."""

    def fails(self: slots.Slot, at: int, size: int, fd: int, start: int) -> None:
        raise BackendUnavailable("no memory")

    before = instance.snapshot()
    with monkeypatch.context() as short:
        short.setattr(slots.Slot, "show", fails)
        for _ in range(3):
            with pytest.raises(BackendUnavailable, match="no memory"), instance.showing(array):
                pass
    size = len(instance.memory)
    with instance.showing(array):
        assert len(instance.memory) == size
    instance.restore(before)


def test_a_guest_that_is_closed_meanwhile_takes_nothing_with_it(array: SharedArray) -> None:
    """Its memory goes to the next guest empty, and the array stays as it is."""
    places.fill(array, 3)
    for _ in range(70):  # more than there are blocks that are kept
        with opened() as instance, instance.showing(array) as values:
            instance.close()
            assert (values == 3).all()
        del values
        with opened() as instance:
            assert not instance.memory[2048:].any()
    assert (array.values == 3).all()


def test_memory_that_is_shown_is_never_cleared(array: SharedArray) -> None:
    """Whatever became of the block: who lived there is gone, and the memory is made ready for the next."""
    places.fill(array, 3)
    fd, start, size = array.pages()
    slot = slots.empty()
    slot.resize(1 << 16)
    slot.show(0, size, fd, start)
    slot.clear()
    slot.resize(1 << 16)
    assert not any(ctypes.string_at(slot.base, 1 << 16))
    slot.abandon()
    assert (array.values == 3).all()


def test_an_abandoned_block_does_not_clear_the_array(array: SharedArray) -> None:
    """Though nobody has left it in order, and the memory is given to others."""
    places.fill(array, 3)
    instance = opened()
    block = instance.showing(array)
    block.__enter__()
    instance.close()
    del instance, block
    gc.collect()
    with opened() as instance:
        assert not instance.memory[2048:].any()
    assert (array.values == 3).all()


def test_what_cannot_be_shown_is_refused(instance: Instance, array: SharedArray) -> None:
    """With the reason."""
    with opened(shared=True) as shared, pytest.raises(InvalidInput, match="shared=True"), shared.showing(array):
        pass
    with opened(limits=Limits(memory=1 << 20)) as small, SharedArray(1 << 20) as large:
        with pytest.raises(LimitExceeded, match=r"8\.004 MiB at once"), small.showing(large):
            pass
    without = WasmModule.from_wat('(module (func (export "f")))').open()
    with without, pytest.raises(BackendUnavailable, match="exports no `memory`"), without.showing(array):
        pass
    array.close()
    with pytest.raises(StaleHandle), instance.showing(array):
        pass


def test_a_module_that_lies_about_where_there_is_room_is_told(array: SharedArray) -> None:
    """What it names must be its own memory, all of it."""
    lying = '(module (memory (export "memory") 1) (func (export "alloc") (param i32) (result i32) (i32.const 60000)))'
    with WasmModule.from_wat(lying).open() as instance, pytest.raises(Trap, match="names"), instance.showing(array):
        pass


def test_two_arrays_are_not_shown_in_one_place(array: SharedArray) -> None:
    """One would look like the other. As soon as a place is free it may be taken again."""
    forgetful = (
        '(module (memory (export "memory") 9) (func (export "alloc") (param i32) (result i32) (i32.const 4096)))'
    )
    places.fill(array, 3)
    with WasmModule.from_wat(forgetful).open() as instance, SharedArray(5000, "float32") as other:
        with instance.showing(array) as values:
            for each in (other, array):
                with pytest.raises(Trap, match="shown another array already"), instance.showing(each):
                    pass
            assert (values == 3).all()
        with instance.showing(other) as values:
            assert not values.any()


@pytest.mark.parametrize("dtype", [">f4", [("x", "f4"), ("n", ">i2")]])
def test_numbers_that_a_guest_would_misread_are_not_shown(instance: Instance, dtype: object) -> None:
    """What wasm loads has its lowest byte first."""
    with SharedArray(3, dtype) as array:  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="the other way"), instance.showing(array):
            pass


def test_only_shared_arrays_are_shown(instance: Instance) -> None:
    """Others have no pages of their own."""
    with pytest.raises(InvalidInput, match="and not ndarray"), instance.showing(np.zeros(3)):  # type: ignore[arg-type]
        pass


def test_a_snapshot_is_not_restored_over_a_shared_array(instance: Instance, array: SharedArray) -> None:
    """It is not the module's own; a fork has a copy of it."""
    places.fill(array, 3)
    with instance.showing(array):
        snapshot = instance.snapshot()
        with pytest.raises(InvalidInput, match="shown a shared array"):
            instance.restore(snapshot)
        with instance.fork() as other:
            other.memory[:] = 0
    assert (array.values == 3).all()
    assert array.values.sum() == 15_000


def test_room_is_given_back_to_a_module_that_takes_it_back(array: SharedArray) -> None:
    """Showing it again and again takes no more memory."""
    module = WasmModule.from_wat(
        """(module (memory (export "memory") 4)
          (global $used (mut i32) (i32.const 0))
          (func (export "used") (result i32) (global.get $used))
          (func (export "alloc") (param i32) (result i32)
            (global.set $used (i32.add (global.get $used) (local.get 0))) (i32.const 1024))
          (func (export "dealloc") (param i32 i32)
            (global.set $used (i32.sub (global.get $used) (local.get 1)))))"""
    )
    with module.open() as instance:
        for _ in range(3):
            with instance.showing(array):
                assert instance["used"]() > array.nbytes
            assert instance["used"]() == 0


def test_a_fork_of_this_process_still_sees_it(instance: Instance, array: SharedArray) -> None:
    """The array is shared by all who have it, forks among them."""
    with instance.showing(array) as values:
        pid = os.fork()
        if not pid:
            instance.function(double)(values)
            places.fill(array, 5)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (values == 5).all()
