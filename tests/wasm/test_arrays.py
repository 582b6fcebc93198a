"""Arrays in the memory of a sandbox: what is copied and what is not, and that none ever points to what is not its."""

import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("wasmtime")

from hybrid_compute import BlockingRuntime, WorkerBackend, task
from hybrid_compute.errors import BackendUnavailable, InvalidInput, LimitExceeded
from hybrid_compute.links.arena import address_of
from hybrid_compute.links.commons import commons
from hybrid_compute.wasm import Limits, Trap, WasmModule, kinds, slots
from hybrid_compute.wasm.instances.instance import Instance
from tests.wasm.kept import double, opened

LARGE = 100_000
"""Elements: enough for shared memory, where small arrays go through the pipe."""


@pytest.fixture(params=[False, True], ids=["private", "shared"])
def instance(request: pytest.FixtureRequest) -> Iterator[Instance]:
    with opened(shared=request.param) as instance:
        yield instance


def address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_the_guest_and_python_see_the_same_bytes(instance: Instance) -> None:
    instance["store"](2048, 0x01020304)
    assert bytes(instance.memory[2048:2052]) == b"\x04\x03\x02\x01"
    instance.view(2048, 2, "uint16")[:] = 7, 9
    assert instance["load"](2048) == 7 + (9 << 16)


def test_an_array_in_its_memory_is_an_argument_without_a_copy(instance: Instance) -> None:
    values = instance.empty(1000, "float32")
    values[:] = 21
    call = instance.function(double)
    free = instance["alloc"](0)
    call(values)
    call(values[500:])
    assert values.tolist() == [42.0] * 500 + [84.0] * 500
    assert instance["alloc"](0) == free  # nothing was allocated


def test_any_other_array_is_copied_in(instance: Instance) -> None:
    values = np.full(1000, 21, "float32")
    free = instance["alloc"](0)
    instance.function(double)(values)
    assert values.tolist() == [21.0] * 1000
    assert instance["alloc"](0) == free + 4000
    assert instance.view(free, 1000, "float32").tolist() == [42.0] * 1000
    strided = instance.empty(1000, "float32")
    strided[:] = 1
    instance.function(double)(strided[::2])
    assert strided.tolist() == [1.0] * 1000


def test_an_array_of_another_instance_is_copied_in(instance: Instance) -> None:
    with instance.fork() as other:
        theirs = other.empty(10, "float32")
        theirs[:] = 1
        instance.function(double)(theirs)
        assert theirs.tolist() == [1.0] * 10


def test_an_array_stays_valid_when_the_memory_grows(instance: Instance) -> None:
    values, before = instance.empty(10, "int32"), instance.memory
    values[:] = range(10)
    assert instance["grow"](200) == 2
    assert len(before) == 2 << 16
    assert len(instance.memory) == 202 << 16
    assert address(before) == address(instance.memory)
    values[0] = 99
    assert instance["load"](address(values) - address(instance.memory)) == 99
    assert values.tolist()[1:] == list(range(1, 10))


def test_an_array_outlives_its_instance(instance: Instance) -> None:
    values, memory = instance.empty(LARGE, "int32"), instance.memory
    values[:] = 5
    instance.close()
    del instance
    gc.collect()
    others = [opened(shared=shared) for shared in (False, True, False)]
    for other in others:
        other.memory[:] = 1
    assert values.sum() == 5 * LARGE
    values[:] = 6
    assert memory[address(values) - address(memory)] == 6
    assert all(other.memory.min() == 1 == other.memory.max() for other in others)
    for other in others:
        other.close()


def test_the_memory_of_the_last_guest_is_never_seen_by_the_next(instance: Instance) -> None:
    """Neither while arrays over it live, nor afterwards."""
    memory = instance.memory
    memory[:] = 255
    instance.close()
    for _ in range(3):
        with opened() as private, opened(shared=True) as shared:
            assert not private.memory[1024:].any()
            assert not shared.memory[1024:].any()
        memory = private = shared = None  # type: ignore[assignment]  # and now with it free
        gc.collect()


def test_beyond_the_memory_there_is_nothing(instance: Instance) -> None:
    size = len(instance.memory)
    assert instance.view(size, 0).size == 0
    for offset, shape in ((size - 3, 4), (-1, 4), (0, size + 1), (0, (1 << 20, 1 << 20)), (size + 1, 0)):
        with pytest.raises(InvalidInput, match=f"its memory has {size}"):
            instance.view(offset, shape)
    with pytest.raises(InvalidInput, match="a length is negative"):
        instance.view(0, -1)
    with pytest.raises(InvalidInput, match="objects of Python"):
        instance.empty(3, object)
    with pytest.raises(Trap, match="beyond the end of its memory"):
        instance["load"](size)


def test_arrays_come_in_all_shapes(instance: Instance) -> None:
    table = instance.empty((3, 4), ">i4")
    assert table.shape == (3, 4)
    assert table.dtype == "<i4"
    table[:] = np.arange(12).reshape(3, 4)
    assert table.flags.c_contiguous
    assert instance.empty((), "float64").shape == ()
    assert instance.empty(0).size == 0
    assert instance.view(address(table) - address(instance.memory), 12, "int32").tolist() == list(range(12))


def test_no_more_memory_than_the_limit(instance: Instance) -> None:
    with opened(limits=Limits(memory=1 << 20), shared=instance.shared) as small:
        small.empty(200_000, "uint8")
        with pytest.raises(LimitExceeded, match="its limit of memory is 1 MiB"):
            small.empty(1 << 20, "uint8")


def test_a_module_without_memory_says_so() -> None:
    with WasmModule.from_wat('(module (func (export "f")))', "bare").open() as bare:
        for use in (lambda: bare.memory, lambda: bare.empty(3), lambda: bare.view(0, 0)):
            with pytest.raises(
                BackendUnavailable, match="bare: no array can lie in its memory: it exports no `memory`"
            ):
                use()
        bare["f"]()
    with WasmModule.from_wat('(module (memory (export "memory") 1))', "lone").open() as lone:
        with pytest.raises(Trap, match="exports no function 'alloc'"):
            lone.empty(3)
        assert lone.memory.size == 1 << 16


def test_a_block_goes_to_the_next_guest_once_nobody_sees_it() -> None:
    before = set(slots.used)
    instance = opened()
    number = (set(slots.used) - before).pop()
    values = instance.memory[5:10]
    instance.close()
    gc.collect()
    assert number in slots.used
    assert all(slot.number != number for slot in slots._free)
    del values
    gc.collect()
    assert number not in slots.used
    assert any(slot.number == number for slot in slots._free)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_opened_closed_and_kept_in_any_order_each_array_has_its_own_bytes(seed: int) -> None:
    choice = random.Random(seed)
    instances: list[Instance] = []
    kept: list[tuple[int, npt.NDArray[Any]]] = []
    for step in range(60):
        what = choice.randrange(6)
        if what == 0 or not instances:
            instances.append(opened(shared=choice.random() < 0.5))
        elif what < 3:
            array = choice.choice(instances).empty(choice.randrange(1, 40_000), "int32")
            array[:] = step
            kept.append((step, array))
        elif what == 3 and kept:
            kept.pop(choice.randrange(len(kept)))
        elif what == 4:
            instances.pop(choice.randrange(len(instances))).close()
        else:
            instances.append(choice.choice(instances).fork())
    for step, array in kept:
        assert (array == step).all()
    for instance in instances:
        instance.close()
    kept.clear()
    array = None  # type: ignore[assignment]
    gc.collect()
    assert not commons


def test_a_forked_process_has_a_memory_of_its_own(instance: Instance) -> None:
    values = instance.empty(10, "int32")
    values[:] = 1
    at = address(values) - address(instance.memory)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            instance["store"](at, 77)
            os.write(write, b"%d %d" % (instance["load"](at), instance["load"](at + 4)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"77 1"
    assert instance["load"](at) == 1
    os.close(read)
    os.close(write)


# With workers.


@task
def doubled(values: Any) -> Any:
    values *= 2
    return values


@task
def looked_at(values: Any) -> tuple[float, bool]:
    return float(values.sum()), bool(values.flags.writeable)


@task
def fresh(count: int) -> Any:
    return np.full(count, 3, "float32")


needs_memfd = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory cannot be shared here")


@pytest.fixture(scope="module")
def runtime() -> Iterator[BlockingRuntime]:
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as runtime:
        yield runtime


def moved(runtime: BlockingRuntime, name: str) -> int:
    seen = runtime.stats()[name]["worker"]
    return int(seen.sent + seen.received)


@needs_memfd
def test_a_worker_writes_to_the_memory_of_the_guest(runtime: BlockingRuntime) -> None:
    """No byte is copied on the way there or back, and either side sees what the other has written."""
    with opened(shared=True) as instance:
        values = instance.empty(LARGE, "float32")
        values[:] = 21
        before = moved(runtime, "doubled") if "doubled" in runtime.stats() else 0
        back = runtime.run(doubled, values)
        assert moved(runtime, "doubled") - before < 1000
        assert values.tolist() == back.tolist() == [42.0] * LARGE
        assert address(back) == address(values)
        instance.function(double)(back)
        assert runtime.run(looked_at, values) == (84.0 * LARGE, True)
        assert runtime.run(looked_at, values[: LARGE // 2]) == (42.0 * LARGE, True)
        values.flags.writeable = False
        assert runtime.run(looked_at, values) == (84.0 * LARGE, False)


def backing(array: npt.NDArray[Any]) -> tuple[int, int]:
    """What an array lies in, as the system says: the file behind those addresses, 0 for none, and where in it."""
    at = address(array)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, inode, *_ = line.split(maxsplit=5)
        first, last = (int(each, 16) for each in span.split("-"))
        if first <= at < last:
            return int(inode), int(offset, 16) + at - first
    raise AssertionError("an array must lie somewhere")


@task
def backed_there(values: Any) -> tuple[Any, tuple[int, int]]:
    values += 1
    return values, backing(values)


@needs_memfd
def test_a_worker_has_the_very_pages_of_the_guest(runtime: BlockingRuntime) -> None:
    """From a guest to a worker and back nothing is copied: the array lies in the same place of the same file."""
    with opened(shared=True) as instance:
        values = instance.empty(LARGE, "float32")
        values[:] = 1
        slot = instance._block.slot
        assert slot is not None
        assert slot.common is not None
        expected = os.fstat(slot.common.fd).st_ino, address(values) - slot.base
        assert backing(values) == expected
        back, there = runtime.run(backed_there, values)
        assert there == backing(back) == expected
        instance["grow"](50)
        back, there = runtime.run(backed_there, values[1:])
        assert there == backing(back) == (expected[0], expected[1] + 4)
        instance.close()
        assert runtime.run(backed_there, values)[1] == expected
        assert values[5] == 4


@needs_memfd
def test_from_a_worker_to_a_guest_there_is_one_copy(runtime: BlockingRuntime) -> None:
    """Of the pages that the worker wrote to, into the memory of the guest. Nothing stands between the two."""
    made, there = runtime.run(backed_there, np.full(LARGE, 1, "float32"))
    assert backing(made) == there
    assert there[0] != 0
    taken = kinds.Array("float32").to_bytes(made)
    assert address_of(taken) == address(made)
    with opened() as instance:
        at = instance["alloc"](0)
        instance.function(double)(made)
        assert instance.view(at, LARGE, "float32").tolist() == [4.0] * LARGE
        assert backing(instance.view(at, LARGE, "float32"))[0] != there[0]
    assert made[0] == 2


@needs_memfd
def test_after_the_memory_has_grown_a_worker_sees_the_new_part(runtime: BlockingRuntime) -> None:
    with opened(shared=True) as instance:
        first = instance.empty(LARGE, "float32")
        first[:] = 1
        assert runtime.run(looked_at, first) == (LARGE, True)
        instance["grow"](100)
        second = instance.empty(LARGE, "float32")
        second[:] = 2
        assert runtime.run(looked_at, second) == (2 * LARGE, True)
        assert moved(runtime, "looked_at") < 10_000


@needs_memfd
def test_what_a_worker_made_comes_in_by_one_copy(runtime: BlockingRuntime) -> None:
    with opened(shared=True) as instance:
        given = runtime.run(fresh, LARGE)
        at = instance["alloc"](0)
        instance.function(double)(given)
        assert instance.view(at, LARGE, "float32").tolist() == [6.0] * LARGE
        assert given[0] == 3


@needs_memfd
def test_everybody_lets_go_of_the_memory_in_the_end(runtime: BlockingRuntime) -> None:
    """The worker still writes to it when its instance is gone; once no array is left, it is another guest's."""
    instance = opened(shared=True)
    values = instance.empty(LARGE, "float32")
    values[:] = 1
    back = runtime.run(doubled, values)
    instance.close()
    back = runtime.run(doubled, values)
    assert values[0] == back[-1] == 4
    assert len(commons) == 1
    del values, instance
    back = runtime.run(doubled, back)
    assert back[0] == 8
    del back
    gc.collect()
    for _ in range(3):  # what is given back travels with calls and replies
        runtime.run(looked_at, np.zeros(3))
    assert not commons
    assert all(slot.common is None for slot in slots.used.values())


def test_where_memory_has_names_it_is_copied() -> None:
    """The portable way, of systems that cannot hand a descriptor to another process."""
    with BlockingRuntime([WorkerBackend(1, portable=True)], strategy="worker") as runtime, opened(shared=True) as one:
        values = one.empty(LARGE, "float32")
        values[:] = 2
        assert runtime.run(looked_at, values) == (2 * LARGE, True)
        assert runtime.run(doubled, values)[0] == 4
        assert values[0] == 2


@task
def opened_there() -> Any:
    instance = opened(shared=True)
    values = instance.empty(LARGE, "float32")
    values[:] = 5
    instance.function(double)(values)
    return values


@needs_memfd
def test_a_guest_in_a_worker_gives_its_arrays_to_us(runtime: BlockingRuntime) -> None:
    made = runtime.run(opened_there)
    assert made.tolist() == [10.0] * LARGE
    assert moved(runtime, "opened_there") < 1000


def test_nothing_beyond_the_memory_can_be_touched_by_what_an_array_lies_in() -> None:
    """`base` is as large as what the guest has, not as what it may have."""
    with opened() as instance:
        base: Any = instance.memory.base
        while getattr(base, "base", None) is not None:
            base = base.base
        assert len(memoryview(base)) <= len(instance.memory)
