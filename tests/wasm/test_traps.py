"""Traps: what a guest does wrong, in words, with wasmtime's code and the calls it was in."""

import pickle
from typing import Any

import pytest

from hybrid_compute.wasm import Trap, WasmModule
from tests.wasm.guests import bad, good

BAD = bad()


@pytest.mark.parametrize(
    ("export", "arguments", "code", "words"),
    [
        ("give_up", (), "UNREACHABLE", "where a program gives up"),
        ("divide", (1, 0), "INTEGER_DIVISION_BY_ZERO", "divided an integer by zero"),
        ("divide", (-(2**31), -1), "INTEGER_OVERFLOW", "overflowed"),
        ("convert", (1e10,), "INTEGER_OVERFLOW", "overflowed"),
        ("convert", (float("nan"),), "BAD_CONVERSION_TO_INTEGER", "does not fit"),
        ("far", (), "MEMORY_OUT_OF_BOUNDS", "beyond the end of its memory"),
        ("very_far", (), "MEMORY_OUT_OF_BOUNDS", "beyond the end of its memory"),
        ("beyond_table", (), "TABLE_OUT_OF_BOUNDS", "beyond the end of a table"),
        ("empty_entry", (), "INDIRECT_CALL_TO_NULL", "empty entry"),
    ],
)
def test_a_trap_says_what_happened(export: str, arguments: tuple[Any, ...], code: str, words: str) -> None:
    """For the person who reads it, and by its code for the program that does."""
    with pytest.raises(Trap, match=words) as caught:
        BAD.task(export)(*arguments)
    assert caught.value.code == code
    assert str(caught.value).startswith(f"{export}: ")
    assert str(caught.value).endswith(f"({code})")


def test_a_trap_tells_the_calls_it_was_in() -> None:
    """By the names that the module has for its functions, innermost first."""
    module = WasmModule.from_wat("""
        (module $shop
          (func $price unreachable)
          (func $order (call $price))
          (func (export "buy") (call $order)))
    """)
    with pytest.raises(Trap) as caught:
        module.task("buy")()
    assert [frame.partition(" at ")[0] for frame in caught.value.frames] == [
        "shop!price", "shop!order", "shop!function 2",
    ]  # fmt: skip
    assert caught.value.__notes__[0].startswith("in the guest, innermost call first:\n  shop!price at 0x")


def test_a_trap_while_the_guest_begins_is_one_too() -> None:
    """A start function, or data that does not fit."""
    starts = WasmModule.from_wat('(module (func $go unreachable) (start $go) (func (export "run")))')
    with pytest.raises(Trap, match="gives up"):
        starts.task("run")()
    spills = WasmModule.from_wat('(module (memory 1) (data (i32.const 65535) "two") (func (export "run")))')
    with pytest.raises(Trap, match="beyond the end of its memory"):
        spills.task("run")()


def test_a_trap_pickles() -> None:
    with pytest.raises(Trap) as caught:
        BAD.task("give_up")()
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.code, again.frames) == (str(caught.value), "UNREACHABLE", caught.value.frames)


def test_after_a_trap_others_go_on() -> None:
    add = good().task("add", reuse=True)
    for _ in range(50):
        with pytest.raises(Trap):
            BAD.task("give_up")()
        assert add(1, 2) == 3
