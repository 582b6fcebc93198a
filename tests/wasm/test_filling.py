"""Guests that live on: what calls leave in their memory does not pile up, or they are replaced when it is full."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_compute.errors import LimitExceeded
from hybrid_compute.wasm import Limits, Trap, WasmModule

ALLOC = """
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 64))
  (global $calls (mut i32) (i32.const 0))
  (global $given (mut i32) (i32.const 0))
  (func $alloc (export "alloc") (param $size i32) (result i32) (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (global.get $next) (local.get $size)))
    (loop $more
      (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16))) (then
        (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
        (br $more))))
    (local.get $at))
  (func (export "measure") (param $at i32) (param $size i32) (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.load8_u (local.get $at)))
  (func (export "calls") (result i32) (global.get $calls))
  (func (export "given") (result i32) (global.get $given))
  (func (export "echo") (param i32 i32) (result i64)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (func (export "eat") (param $size i32) (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (drop (call $alloc (local.get $size)))
    (global.get $calls))
"""
DEALLOC = """
  (func (export "dealloc") (param $at i32) (param $size i32)
    (global.set $given (i32.add (global.get $given) (local.get $size)))
    (if (i32.eq (i32.add (local.get $at) (local.get $size)) (global.get $next)) (then
      (memory.fill (local.get $at) (i32.const 255) (local.get $size))
      (global.set $next (local.get $at)))))
"""
LEAKING = WasmModule.from_wat(f"(module {ALLOC})")
GIVING = WasmModule.from_wat(f"(module {ALLOC} {DEALLOC})")
LIMITS = Limits(memory=4 << 16)
TEXT = "a" * 10_000
"""Twenty-five of these fit."""


def echo(text: str) -> str: ...  # type: ignore[empty-body]


def measure(text: str) -> int: ...  # type: ignore[empty-body]


def test_what_was_taken_for_arguments_is_given_back() -> None:
    """After the result has been read, which may be the argument itself."""
    with GIVING.open(limits=LIMITS) as instance:
        call = instance.function(echo)
        for _ in range(100):
            assert call(TEXT) == TEXT
        assert instance["calls"]() == 100
        assert instance["given"]() == 100 * len(TEXT)
    kept = GIVING.task(export="echo", limits=LIMITS, reuse=True)(echo)
    assert [kept(TEXT) == TEXT for _ in range(100)] == [True] * 100


def test_what_is_the_callers_own_is_not_given_back() -> None:
    """An array that was made in the memory of the instance stays."""

    def measured(values: NDArray[np.uint8]) -> int: ...  # type: ignore[empty-body]

    measured.__name__ = "measure"
    with GIVING.open(limits=LIMITS) as instance:
        mine = instance.empty(10, "uint8")
        mine[:] = 7
        call = instance.function(measured)
        assert [call(mine), call(np.full(5, 8, "uint8")), call(mine)] == [7, 8, 7]
        assert instance["given"]() == 5


@pytest.mark.parametrize(
    ("declared", "odd"), [("(func (export \"dealloc\") (param i32) unreachable)", True), ("", False)]
)  # fmt: skip
def test_only_a_dealloc_of_that_type_is_called(declared: str, odd: bool) -> None:
    module = WasmModule.from_wat(f"(module {ALLOC} {declared})")
    with module.open() as instance:
        assert instance.function(echo)(TEXT) == TEXT


def test_a_kept_guest_that_is_full_is_replaced() -> None:
    """Without `dealloc`: no call fails, though a hundred texts do not fit into the memory of one guest."""
    kept = LEAKING.task(export="measure", limits=LIMITS, reuse=True)(measure)
    assert [kept(TEXT) for _ in range(100)] == [ord("a")] * 100
    with pytest.raises(LimitExceeded, match="its limit of memory is 256 KiB"):
        kept(30 * TEXT)
    assert kept(TEXT) == ord("a")


def test_a_kept_guest_that_fills_its_memory_itself_is_replaced() -> None:
    """It reaches nothing outside, so that the call may be made anew; what it had counted is gone with it."""
    eat = LEAKING.task("eat", limits=LIMITS, reuse=True)
    counted = [eat(100_000) for _ in range(8)]
    assert counted == [1, 2] * 4, "the second goes the short way"
    for _ in range(3):
        with pytest.raises(LimitExceeded, match=r"eat asked for .* and then failed: its limit of memory is 256 KiB"):
            eat(1_000_000)


def test_what_was_denied_in_one_call_is_not_the_reason_for_the_next_to_fail() -> None:
    """On the short way, by which a kept guest is entered from its second call on."""
    module = WasmModule.from_wat("""
        (module (memory 1) (func (export "run") (param i32) (result i32)
          (drop (memory.grow (local.get 0))) (i32.div_u (i32.const 6) (local.get 0))))
    """)
    run = module.task("run", limits=LIMITS, reuse=True)
    assert [run(2), run(100), run(1)] == [3, 0, 6]
    for _ in range(2):
        with pytest.raises(Trap, match="divided an integer by zero"):
            run(0)


def test_what_may_have_been_seen_outside_is_not_done_twice() -> None:
    """A guest that has called the host, and fails then for want of room, fails once; the next call has a new one."""
    told: list[int] = []

    def tell(number: int) -> None:
        told.append(number)

    module = WasmModule.from_wat("""
        (module (import "host" "tell" (func $tell (param i32)))
          (memory 1) (global $n (mut i32) (i32.const 0))
          (func (export "run") (result i32)
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (call $tell (global.get $n))
            (if (i32.eq (memory.grow (i32.const 2)) (i32.const -1)) (then unreachable))
            (global.get $n)))
    """)
    run = module.task("run", grants={"tell": tell}, limits=LIMITS, reuse=True)
    outcomes: list[Any] = []
    for _ in range(4):
        try:
            outcomes.append(run())
        except LimitExceeded:
            outcomes.append("full")
    assert outcomes == [1, "full", 1, "full"]
    assert told == [1, 2, 1, 2]


def test_an_instance_that_is_full_says_so() -> None:
    """Nobody replaces it: what is in it is its user's. A snapshot of a better time brings it back."""
    with LEAKING.open(limits=LIMITS) as instance:
        call, before = instance.function(echo), instance.snapshot()
        with pytest.raises(LimitExceeded, match="its limit of memory is 256 KiB"):
            for _ in range(100):
                call(TEXT)
        with pytest.raises(Trap, match="restore a snapshot, or open another instance"):
            call(TEXT)
    with LEAKING.open(limits=LIMITS) as instance:
        instance.restore(before)
        assert instance.function(echo)(TEXT) == TEXT
