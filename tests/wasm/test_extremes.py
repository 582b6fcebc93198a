"""What is larger, stranger or more of it than anybody means: it is refused, and told for what it is."""

import sys

import numpy as np
import pytest

from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.wasm import Limits, WasmComponent, WasmModule
from hybrid_compute.wasm.encoding import leb, section
from hybrid_compute.wasm.instances import binary
from tests.wasm.guests import GOOD, good
from tests.wasm.outside import ran


@pytest.mark.parametrize("id", [2, 4, 5, 6, 7, 10], ids=["imports", "tables", "memories", "globals", "exports", "code"])
def test_a_section_has_no_more_entries_than_bytes(id: int) -> None:
    """Here it says that it has 2**60, in nine bytes: to count them would take all time, or all memory."""
    source = b"\0asm\1\0\0\0" + section(id, leb(1 << 60))
    visible = binary.exposed(source)
    assert visible.source == source
    if id not in (4, 10):  # which hold no state
        assert "cannot be read" in (visible.state.obstacle or "")
    with pytest.raises(InvalidInput, match="is no module that can be run"):
        WasmModule.from_bytes(source).open()


def test_a_number_has_no_more_than_ten_bytes() -> None:
    source = b"\0asm\1\0\0\0" + section(5, b"\xff" * 1_000_000 + b"\1")
    assert "more than ten bytes" in (binary.exposed(source).state.obstacle or "")


def component(instances: int) -> WasmComponent:
    globals = "(global (mut v128) (v128.const i64x2 1 1))" * 100
    made = "".join(f"(core instance $i{number} (instantiate $m))" for number in range(instances))
    return WasmComponent.from_wat(f"""
        (component (core module $m {globals} (func (export "one") (result i32) i32.const 1)) {made}
          (func (export "one") (result s32) (canon lift (core func $i0 "one"))))
    """)


def test_the_instances_in_a_component_are_counted() -> None:
    """Their globals are in no memory that anybody limits."""

    def one() -> int: ...  # type: ignore[empty-body]

    assert component(32).task(one)() == 1
    with pytest.raises(LimitExceeded, match="more than 8 tables, 8 memories or 32 instances"):
        component(33).task(one)()


def test_objects_that_fill_up_the_memory_are_told_from_a_memory_that_begins_too_large() -> None:
    hoard = WasmModule.from_wat("""
        (module (type $node (struct (field (ref null $node)) (field i64) (field i64)))
          (global $all (mut (ref null $node)) (ref.null $node))
          (func (export "hoard") (loop $more
            (global.set $all (struct.new $node (global.get $all) (i64.const 1) (i64.const 1))) (br $more))))
    """).task("hoard", limits=Limits(memory=1 << 20))
    with pytest.raises(LimitExceeded, match=r"hoard asked for 2 MiB, and then failed: its limit of memory is 1 MiB"):
        hoard()


@pytest.mark.parametrize("length", [(64 << 20) + 1, 3 << 30, 1 << 32, 1 << 40, (1 << 20, 1 << 20)])
def test_an_array_that_no_guest_may_have_is_refused(length: int | tuple[int, int]) -> None:
    with good().open() as instance:
        with pytest.raises(LimitExceeded, match=r"at once: its limit of memory is 64 MiB"):
            instance.empty(length, "uint8")
        assert instance["add"](1, 2) == 3


def test_sizes_of_numpy_do_not_overflow() -> None:
    with good().open() as instance:
        for shape in ((np.int32(65536), np.int32(65536)), np.uint64(1 << 63)):
            with pytest.raises(InvalidInput, match="bytes at 0 are asked for"):
                instance.view(0, shape)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="10 bytes at 4294967295"):
            instance.view(np.uint32(4294967295), 10)  # type: ignore[arg-type]


def test_a_large_memory_takes_a_large_argument() -> None:
    """More than 2 GiB, which are negative for a guest that counts with signs; it is asked for as many all the same."""
    seen = WasmModule.from_wat("""
        (module (memory (export "memory") 1) (global $asked (mut i32) (i32.const 0))
          (func (export "alloc") (param i32) (result i32) (global.set $asked (local.get 0)) (i32.const -1))
          (func (export "asked") (result i32) (global.get $asked)))
    """)
    with seen.open(limits=Limits(memory=1 << 32)) as instance:
        with pytest.raises(InvalidInput, match=r"3221225472 bytes at 4294967295 are asked for"):
            instance.empty(3 << 30, "uint8")
        assert instance["asked"]() == (3 << 30) - (1 << 32)


@pytest.mark.parametrize("name", ["fuel", "memory", "table", "output", "host_calls"])
def test_a_limit_is_a_number_that_can_be_kept(name: str) -> None:
    assert getattr(Limits(**{name: (1 << 63) - 1}), name) == (1 << 63) - 1
    with pytest.raises(ValueError, match=rf"Limits\.{name} must be at most 9223372036854775807"):
        Limits(**{name: 1 << 63})


def test_half_a_character_is_the_fault_of_who_gives_it() -> None:
    @WasmModule.from_wat(GOOD).task
    def packed(text: str) -> str: ...  # type: ignore[empty-body]

    assert packed("whole") == "whole"
    with pytest.raises(InvalidInput, match=r"argument 'text' is no text that UTF-8 has: .*surrogates not allowed"):
        packed("\ud800")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("before", [False, True])
def test_who_takes_the_signals_of_traps_is_noticed(before: bool) -> None:
    """Only if it is after the first use; else wasmtime asks it for what is no trap."""
    out, err, code = ran(f"""
        def take():
            signal.signal(signal.SIGSEGV, lambda *_: None)

        far = WasmModule.from_wat('(module (memory 1) (func (export "f") (drop (i32.load (i32.const -1)))))').task("f")
        if {before}:
            take()
        LOOPS.task("add")(1, 2)
        if not {before}:
            take()
        try:
            far()
        except Exception as error:
            print(type(error).__name__, "SIGSEGV" in str(error))
    """)
    assert (out, err, code) == ("Trap False\n" if before else "BackendUnavailable True\n", "", 0)
