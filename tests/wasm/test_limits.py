"""Limits: each is enforced, named with its value when it is exceeded, and gone with the guest that exceeded it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hybrid_compute.errors import BackendUnavailable, LimitExceeded
from hybrid_compute.wasm import Limits, WasmModule
from tests.wasm.guests import bad, good

BAD, GOOD = bad(), good()


def packed(text: str) -> str: ...


def log(text: str) -> None:
    """A function of the host."""


CHATTY = WasmModule.from_wat("""
(module
  (import "host" "log" (func $log (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "chat") (loop (call $log (i32.const 0) (i32.const 1)) (br 0)))
  (func (export "once") (call $log (i32.const 0) (i32.const 1))))
""")
LARGE = WasmModule.from_wat('(module (memory 2000) (func (export "run")))', "large.wasm")
WIDE = WasmModule.from_wat('(module (table 20000 funcref) (func (export "run")))', "wide.wasm")
TWO = WasmModule.from_wat("""
(module (memory 600) (memory $second 1)
  (func (export "run") (result i32) (memory.grow $second (i32.const 600)))
  (func (export "fail") (if (i32.eq (memory.grow $second (i32.const 600)) (i32.const -1)) (then unreachable))))
""")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (BAD.task("spin", limits=Limits(time=0.02)), r"spin ran for longer: its limit of time is 0\.02 s"),
        (BAD.task("spin", limits=Limits(fuel=50_000)), "spin used it up: its limit of fuel is 50000 units"),
        (BAD.task("recurse"), "recurse nested its calls more deeply: its limit of stack is 256 KiB"),
        (
            BAD.task("hoard", limits=Limits(memory=2 << 20)),
            r"hoard asked for 2\.062 MiB, and then failed: its limit of memory is 2 MiB",
        ),
        (LARGE.task("run"), "run asks for 125 MiB from the beginning: its limit of memory is 64 MiB"),
        (WIDE.task("run"), "run asks for more from the beginning: its limit of table is 10000 elements"),
        (TWO.task("fail"), r"fail asked for 75\.06 MiB, and then failed: its limit of memory is 64 MiB"),
        (
            partial(GOOD.task(limits=Limits(output=1000))(packed), "a" * 1001),
            "gave 1001 bytes: its limit of output is 1000 bytes",
        ),
        (
            CHATTY.task("chat", grants={"log": log}, limits=Limits(host_calls=100)),
            "called functions of the host more often: its limit of host_calls is 100",
        ),
    ],
    ids=["time", "fuel", "stack", "memory", "memory at first", "table", "two memories", "output", "host calls"],
)
def test_what_exceeds_a_limit_is_stopped_and_told_which(call: Callable[..., Any], reason: str) -> None:
    """Each time anew: the next call has a guest of its own."""
    for _ in range(3):
        with pytest.raises(LimitExceeded, match=reason) as caught:
            call()
        assert caught.value.started


def test_a_guest_that_is_denied_again_and_again_is_stopped() -> None:
    """Each denial takes a moment of ours."""
    greedy = WasmModule.from_wat("""
        (module (memory 1) (func (export "run") (loop (drop (memory.grow (i32.const 30000))) (br 0))))
    """)
    with pytest.raises(LimitExceeded, match=r"asked for 1\.831 GiB, again and again: its limit of memory is 64 MiB"):
        greedy.task("run", limits=Limits(time=None))()


@pytest.mark.parametrize("many", ["(table 1 funcref)", "(memory 1)"])
def test_a_guest_may_have_eight_tables_and_memories(many: str) -> None:
    """So that what each may have bounds what all may have."""
    for count in (8, 9):
        task = WasmModule.from_wat(f'(module {many * count} (func (export "run")))').task("run")
        if count == 8:
            assert task() is None
        else:
            with pytest.raises(LimitExceeded, match="run asks for more than 8 tables, 8 memories"):
                task()


def test_guests_that_call_each_other_have_room_for_all() -> None:
    """Each may use all of its stack: when the thread's is used up, the next one is refused, and nothing crashes."""
    module = WasmModule.from_wat("""
        (module (import "host" "again" (func $again (result i32)))
          (func $deeper (param i32) (result i32)
            (if (result i32) (local.get 0)
              (then (i32.add (i32.const 1) (call $deeper (i32.sub (local.get 0) (i32.const 1)))))
              (else (call $again))))
          (func (export "run") (result i32) (call $deeper (i32.const 15000))))
    """)
    depth = 0

    def again() -> int:
        nonlocal depth
        depth += 1
        return run()

    run = module.task("run", grants={"again": again}, limits=Limits(stack=1 << 20))
    for _ in range(3):
        depth = 0
        with pytest.raises(BackendUnavailable, match=r"of which \d+ are left, and the guest may use 1024"):
            run()
        assert 1 < depth < 20


def test_what_stays_within_its_limits_is_not_touched() -> None:
    """Exactly as much as allowed is allowed."""
    assert GOOD.task(limits=Limits(output=1000))(packed)("a" * 1000) == "a" * 1000
    assert CHATTY.task("once", grants={"log": log}, limits=Limits(host_calls=1))() is None
    assert (
        BAD.task("hoard_politely", limits=Limits(memory=2 << 20))() == 17
    )  # pages, of 32: it asks for sixteen at a time
    assert TWO.task("run")() == -1


def test_a_guest_that_can_do_with_less_memory_is_not_failed() -> None:
    """`memory.grow` gives -1, as WASM has it, and what the guest makes of that is its own affair."""
    grow = GOOD.task("grow", limits=Limits(memory=1 << 20))
    assert [grow(15), grow(16)] == [1, -1]


def test_fuel_is_the_same_each_time() -> None:
    """Unlike time: a call that has enough of it always has."""
    least = 1
    while not _enough(least):
        least *= 2
    assert all(_enough(least) for _ in range(10))
    assert not any(_enough(least // 2) for _ in range(10))


def _enough(fuel: int) -> bool:
    try:
        return bool(GOOD.task("sum_to", limits=Limits(fuel=fuel))(1000) == 500500)
    except LimitExceeded:
        return False


def test_more_stack_is_had_for_the_asking() -> None:
    """The same recursion fits into 4 MiB that does not fit into 64 KiB."""
    deep = WasmModule.from_wat("""
        (module (func $deeper (export "run") (param i32) (result i32)
          (if (result i32) (local.get 0)
            (then (i32.add (i32.const 1) (call $deeper (i32.sub (local.get 0) (i32.const 1)))))
            (else (i32.const 0)))))
    """)
    assert deep.task("run", limits=Limits(stack=4 << 20))(20_000) == 20_000
    with pytest.raises(LimitExceeded, match="its limit of stack is 64 KiB"):
        deep.task("run", limits=Limits(stack=64 << 10))(20_000)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"time": 0}, "Limits.time must be positive, not 0"),
        ({"time": -1.0}, "Limits.time must be positive"),
        ({"fuel": 1.5}, "Limits.fuel must be a number, not 1.5"),
        ({"memory": None}, "Limits.memory must be a number, not None"),
        ({"memory": True}, "Limits.memory must be a number, not True"),
        ({"stack": 1000}, "Limits.stack must be between 64 KiB and 4 MiB, not 1000 bytes"),
        ({"stack": 8 << 20}, "Limits.stack must be between"),
    ],
)
def test_limits_that_make_no_sense_are_refused(given: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Limits(**given)
