"""Memories of guests: nothing is left in them for the next guest, nothing is reached beyond them, none is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from hybrid_compute.wasm import Trap, WasmModule, slots
from hybrid_compute.wasm.guest import Guest
from hybrid_compute.wasm.leash import Leash

pytestmark = pytest.mark.skipif(not slots.own, reason="memories are wasmtime's here")

PAGE = 1 << 16
STAINS = WasmModule.from_wat("""
(module
  (memory (export "memory") 1)
  (func (export "stain") (param $pages i32) (result i32) (local $at i32) (local $found i32)
    (drop (memory.grow (local.get $pages)))
    (loop $more
      (local.set $found (i32.or (local.get $found) (i32.load (local.get $at))))
      (i32.store (local.get $at) (i32.const -1))
      (local.set $at (i32.add (local.get $at) (i32.const 1024)))
      (br_if $more (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))
    (i32.store (i32.sub (local.get $at) (i32.const 4)) (i32.const -1))
    (local.get $found))
  (func (export "peek") (param $pages i32) (param $at i32) (result i32)
    (drop (memory.grow (local.get $pages)))
    (i32.load (local.get $at))))
""")
stain, peek = STAINS.task("stain"), STAINS.task("peek")


@given(some.lists(some.integers(0, 40), min_size=1, max_size=10))
def test_no_guest_finds_anything_in_its_memory(pages: list[int]) -> None:
    """Each writes all over its own, however large it has grown; the next finds zeros."""
    assert [stain(each) for each in pages] == [0] * len(pages)


@given(some.integers(0, 40), some.integers(-(2**31), 2**31 - 1))
@settings(max_examples=200)
def test_a_guest_reaches_its_own_memory_and_no_byte_more(pages: int, at: int) -> None:
    """However far it reaches, and though a guest before it had more in the same place."""
    stain(40)
    size = (1 + pages) * PAGE
    if at % 2**32 <= size - 4:
        assert peek(pages, at) == 0
    else:
        with pytest.raises(Trap, match="MEMORY_OUT_OF_BOUNDS"):
            peek(pages, at)


def test_the_last_byte_is_reached_and_the_next_is_not() -> None:
    for pages in (0, 1, 5):
        size = (1 + pages) * PAGE
        assert peek(pages, size - 4) == 0
        for beyond in range(size - 3, size + 5):
            with pytest.raises(Trap, match="MEMORY_OUT_OF_BOUNDS"):
                peek(pages, beyond)


def test_memories_are_used_again() -> None:
    """A guest that has gone leaves its block to the next; blocks of guests that are alive are their own."""
    stain(0)
    before = len(slots._free), set(slots.used)
    for _ in range(100):
        stain(0)
    assert (len(slots._free), set(slots.used)) == before


def test_several_at_a_time_have_each_their_own() -> None:
    """More than are kept: what is beyond is given back to the system."""
    peek(0, 0)
    before = set(slots.used)
    program = peek.fn._ready.program  # type: ignore[attr-defined]
    guests: list[Guest] = []
    for _ in range(slots.KEPT + 3):
        guests.append(Guest(program, Leash()))
        guests[-1].end()
    for number, guest in enumerate(guests):
        guest.write(0, number.to_bytes(4, "little"))
    assert [int.from_bytes(guest.read(0, 4), "little") for guest in guests] == list(range(len(guests)))
    for guest in guests:
        guest.close()
        guest.close()
    assert len(slots._free) == slots.KEPT
    assert set(slots.used) == before
