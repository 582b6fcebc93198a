"""Snapshots: after a restore everything is as it was, in this instance, another one, and another process."""

import pickle
import random
import struct
from typing import Any

import numpy as np
import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.wasm import Limits, WasmModule
from hybrid_compute.wasm.instances import binary
from hybrid_compute.wasm.instances.binary import exposed
from hybrid_compute.wasm.instances.instance import Instance
from hybrid_compute.wasm.instances.snapshot import Snapshot
from tests.wasm.kept import GRANTS, MODULE, opened

CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("work"), st.integers(1, 50), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just("count"), st.integers(-100, 100)),
        st.tuples(st.just("remember"), st.floats(allow_nan=False)),
        st.tuples(st.just("store"), st.integers(0, 131_000), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just("alloc"), st.integers(0, 100)),
    ),
    max_size=8,
)


def made(instance: Instance, calls: list[tuple[Any, ...]]) -> list[Any]:
    return [instance[name](*arguments) for name, *arguments in calls]


@settings(max_examples=60, deadline=None)
@given(before=CALLS, after=CALLS, other=CALLS)
def test_after_a_restore_the_same_calls_have_the_same_results(before: Any, after: Any, other: Any) -> None:
    with opened() as instance:
        made(instance, before)
        kept = instance.snapshot()
        results, then = made(instance, after), instance.snapshot()
        made(instance, other)
        instance.restore(kept)
        assert instance.snapshot() == kept
        assert made(instance, after) == results
        assert instance.snapshot().digest == then.digest
        with instance.fork() as twin, opened() as third:
            third.restore(pickle.loads(pickle.dumps(then)))
            assert made(twin, other) == made(third, other) == made(instance, other)
            assert twin.snapshot() == third.snapshot() == instance.snapshot()


def test_a_fork_goes_its_own_way() -> None:
    with opened(shared=True) as instance:
        instance["count"](5)
        with instance.fork() as twin:
            twin["count"](1)
            twin.memory[100] = 9
            assert twin.shared
            assert [instance["count"](0), twin["count"](0), int(instance.memory[100])] == [5, 6, 0]


def test_globals_that_nobody_exports_are_in_it() -> None:
    module = WasmModule.from_wat(
        """(module
          (memory 1) (memory $second 1)
          (global $a (mut i32) (i32.const -3)) (global $b (mut i64) (i64.const -4))
          (global $c (mut f32) (f32.const 0.5)) (global $d (mut f64) (f64.const nan))
          (global $e (mut v128) (v128.const i64x2 1 2)) (global i32 (i32.const 9))
          (func (export "change")
            (global.set $a (i32.const 7)) (global.set $b (i64.const 8)) (global.set $c (f32.const 1))
            (global.set $d (f64.const 2)) (global.set $e (v128.const i64x2 3 4))
            (i32.store8 $second (i32.const 5) (i32.const 1))))"""
    )
    with module.open() as instance:
        before = instance.snapshot()
        assert [len(each) for each in before.memories] == [65536, 65536]
        assert before.globals == (
            struct.pack("<i", -3),
            struct.pack("<q", -4),
            struct.pack("<f", 0.5),
            struct.pack("<d", float("nan")),
            struct.pack("<qq", 1, 2),
        )
        instance["change"]()
        after = instance.snapshot()
        assert after.globals[1] == struct.pack("<q", 8)
        assert after.memories[1][5] == 1
        instance.restore(before)
        assert instance.snapshot() == before != after


def test_it_is_small_on_the_way() -> None:
    with opened() as instance:
        instance["store"](70_000, 5)
        kept = instance.snapshot()
        assert len(pickle.dumps(kept)) < 1000
        assert pickle.loads(pickle.dumps(kept)) == kept
        assert repr(kept) == "<Snapshot 128 KiB, 4 globals>"


def test_that_of_another_module_is_refused() -> None:
    with opened() as one, MODULE.open(grants=GRANTS) as other:
        with pytest.raises(InvalidInput, match="kept: the snapshot is of another module"):
            other.restore(one.snapshot())
        with opened(deterministic=True, limits=Limits(fuel=10**6)) as same:
            same.restore(one.snapshot())


def test_memory_grows_to_what_is_restored_and_never_shrinks() -> None:
    with opened(limits=Limits(memory=4 << 20)) as instance:
        small = instance.snapshot()
        instance["grow"](30)
        instance["store"](31 << 16, 77)
        large = instance.snapshot()
        with pytest.raises(InvalidInput, match=r"of 128 KiB, and the memory has grown to 2 MiB.*in a new instance"):
            instance.restore(small)
        assert instance["load"](31 << 16) == 77  # and nothing has happened
    with opened(limits=Limits(memory=4 << 20)) as fresh:
        fresh.restore(small)
        fresh.restore(large)
        assert fresh["load"](31 << 16) == 77
        assert len(fresh.memory) == 2 << 20
    with opened(limits=Limits(memory=1 << 20)) as narrow:
        with pytest.raises(LimitExceeded, match="plain cannot hold the snapshot: its limit of memory is 1 MiB"):
            narrow.restore(large)


def test_arrays_see_what_is_restored() -> None:
    with opened() as instance:
        values = instance.empty(10, "int32")
        values[:] = 1
        before = instance.snapshot()
        values[:] = 2
        instance.restore(before)
        assert values.tolist() == [1] * 10


def test_a_module_whose_state_cannot_be_captured_is_run_all_the_same() -> None:
    source = '(module (global (mut externref) (ref.null extern)) (func (export "f") (result i32) (i32.const 5)))'
    with WasmModule.from_wat(source, "odd").open() as instance:
        assert instance["f"]() == 5
        with pytest.raises(InvalidInput, match="odd: no snapshot can be taken of it, because its global 0 is a refer"):
            instance.snapshot()


# The binary format.

TYPES = {
    "i32": "i32.const 5",
    "i64": "i64.const -5",
    "f32": "f32.const 1.5",
    "f64": "f64.const 1",
    "funcref": "ref.null func",
}
GLOBALS = st.lists(st.tuples(st.sampled_from(sorted(TYPES)), st.booleans(), st.booleans()), max_size=150)


@settings(max_examples=100, deadline=None)
@given(given=GLOBALS, memories=st.lists(st.booleans(), max_size=3), seed=st.integers(0, 2**16))
def test_every_memory_and_mutable_global_is_exported_once(
    given: list[tuple[str, bool, bool]], memories: list[bool], seed: int
) -> None:
    """In modules of all makes, as wasmtime reads them afterwards; what was exported before still is."""
    fields, expected = [], []
    for index, (type, mutable, shown) in enumerate(given):
        export = f'(export "g{index}")' if shown else ""
        fields.append(f"(global {export} {f'(mut {type})' if mutable else type} ({TYPES[type]}))")
        if mutable:
            expected.append((index, type))
    for index, shown in enumerate(memories):
        export = f'(export "m{index}")' if shown else ""
        fields.append(f"(memory {export} 1)")
    extras = [
        "(func $s) (start $s)",
        '(data "abc")',
        "(table 3 funcref)",
        '(import "a" "b" (func))',
        '(func (export "x"))',
    ]
    chosen = random.Random(seed)
    some = [each for each in extras if chosen.random() < 0.5]
    text = "(module " + " ".join(sorted(some, key=lambda each: "import" not in each) + fields) + ")"
    source = bytes(wasmtime.wat2wasm(text))

    found = exposed(source)
    module = wasmtime.Module(ENGINE, found.source)
    names = {each.name: each.type for each in module.exports}
    before = {each.name for each in wasmtime.Module(ENGINE, source).exports}
    assert before <= names.keys()
    assert len(found.state.globals) == len(expected)
    for (name, type), (index, real) in zip(found.state.globals, expected, strict=True):
        assert name == f"g{index}" if given[index][2] else name.startswith(binary.PREFIX)
        exported = names[name]
        assert isinstance(exported, wasmtime.GlobalType)
        assert exported.mutable
        assert str(exported.content) == real
        assert type == ("ref" if real == "funcref" else real)
    assert len(found.state.memories) == len(memories)
    assert all(isinstance(names[name], wasmtime.MemoryType) for name in found.state.memories)
    assert (found.state.obstacle is None) == all(type != "funcref" for _, type in expected)
    assert names.keys() - before == {name for name in names if name.startswith(binary.PREFIX)}


ENGINE = wasmtime.Engine()
HEAD = b"\0asm\x01\0\0\0"


@given(rest=st.binary(max_size=60))
def test_bytes_that_are_no_module_are_given_as_they_are_or_refused(rest: bytes) -> None:
    """Whatever comes, nothing but `InvalidInput` is raised."""
    try:
        WasmModule.from_bytes(HEAD + rest).open().close()
    except InvalidInput:
        pass


@settings(max_examples=300, deadline=None)
@given(at=st.integers(8, len(MODULE.source.data) - 1), change=st.integers(1, 255))
def test_a_damaged_module_is_no_worse_for_being_read(at: int, change: int) -> None:
    """What wasmtime would take as it is, it takes with more exports; what it would not, it may refuse."""
    damaged = bytearray(MODULE.source.data)
    damaged[at] ^= change
    source = bytes(damaged)
    if is_valid(source):
        assert is_valid(exposed(source).source)
    else:
        exposed(source)


def is_valid(source: bytes) -> bool:
    try:
        wasmtime.Module.validate(ENGINE, source)
    except wasmtime.WasmtimeError:
        return False
    return True


def test_the_snapshot_of_one_process_is_that_of_another() -> None:
    """Its digest is made of contents alone."""
    kept = Snapshot("0" * 64, (b"\1\2\3", bytes(70_000)), (b"\0\0\0\1",))
    assert kept.digest == "6d835f0fb4d53dda30b0d821123448e981d2db98f950b1cfdfc71ea1b2fbabea"
    assert kept.digest != Snapshot("0" * 64, (b"\1\2", b"\3" + bytes(70_000)), (b"\0\0\0\1",)).digest
    assert np.frombuffer(pickle.loads(pickle.dumps(kept)).memories[1], "u1").sum() == 0
