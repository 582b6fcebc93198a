"""Tables that may not grow: the guest gets -1, and one that fails after that is told which limit it was."""

import random
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute.errors import LimitExceeded
from hybrid_compute.wasm import Limits, Trap, WasmModule, tables
from hybrid_compute.wasm.encoding import PREFIX, UNREADABLE, Reader, sections
from hybrid_compute.wasm.instructions import instructions
from hybrid_compute.wasm.tables import telling
from tests.wasm import guests

GROWING = WasmModule.from_wat("""
(module
  (type $none (func))
  (memory (export "memory") 1)
  (table $plain 2 funcref) (table $bounded 2 20 externref)
  (func (export "fail") (param i32) (if (i32.eq (table.grow $plain (ref.null func) (local.get 0)) (i32.const -1))
    (then unreachable)))
  (func (export "call") (param i32)
    (drop (table.grow $plain (ref.null func) (local.get 0)))
    (call_indirect $plain (type $none) (local.get 0)))
  (func (export "size") (result i32) (table.size 0))
  (func (export "same") (param i32) (result i32) (local.get 0))
  (func $grow (export "grow") (param i32) (result i32) (table.grow $plain (ref.null func) (local.get 0)))
  (func (export "bounded") (param i32) (if (i32.eq (table.grow $bounded (ref.null extern) (local.get 0)) (i32.const -1))
    (then unreachable)))
  (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1))))
""")
LIMITS = Limits(table=100)
BEYOND = r"{} asked for {} elements, and then failed: its limit of table is 100 elements \(Limits.table\)"


@pytest.mark.parametrize("reuse", [False, True])
def test_a_guest_that_cannot_do_with_a_smaller_table_is_told_the_limit(reuse: bool) -> None:
    """Whether it gives up, or goes on as if it had got it; what is within the limit, it gets."""
    fail = GROWING.task("fail", limits=LIMITS, reuse=reuse)
    fail(98)
    for _ in range(3):
        with pytest.raises(LimitExceeded, match=BEYOND.format("fail", "(102|200)")) as caught:
            fail(100)
        assert caught.value.started
        assert isinstance(caught.value.__cause__, Trap)
    with pytest.raises(LimitExceeded, match=BEYOND.format("call", "4294967297")):
        GROWING.task("call", limits=LIMITS, reuse=reuse)(-1)


def test_a_guest_that_can_do_with_a_smaller_table_is_not_failed() -> None:
    grow = GROWING.task("grow", limits=LIMITS, reuse=True)
    assert [grow(90), grow(9), grow(8), grow(1)] == [2, -1, 92, -1]


def test_what_was_denied_in_one_call_is_forgotten_in_the_next() -> None:
    """An instance that was denied something, and has lived with it, is not told so at a later trap of another kind."""
    with GROWING.open(limits=LIMITS) as instance:
        assert instance["grow"](1000) == -1
        with pytest.raises(Trap, match="divided an integer by zero"):
            instance["divide"](1, 0)


def test_what_the_type_of_a_table_forbids_is_no_limit_of_ours() -> None:
    """It said itself that there would be twenty at most."""
    with pytest.raises(Trap, match="unreachable"):
        GROWING.task("bounded", limits=LIMITS)(19)
    with pytest.raises(LimitExceeded, match=r"bounded asked for 20 elements.* limit of table is 10 elements"):
        GROWING.task("bounded", limits=Limits(table=10))(18)


def test_who_knows_of_no_export_of_ours_does_not_see_one() -> None:
    """The word for us is an export; what lists functions does not show it, and names lead to the same places."""
    with pytest.raises(LimitExceeded) as caught:
        GROWING.task("fail", limits=LIMITS)(1000)
    assert isinstance(caught.value.__cause__, Trap)
    assert len(caught.value.__cause__.frames) == 1, "the function that grows the table has returned"
    with GROWING.open(limits=LIMITS) as instance, instance.fork() as other:
        assert instance.snapshot() == other.snapshot()
        assert instance.snapshot().globals == ()


# The binary format.

ENGINE = wasmtime.Engine()
LEAD = (
    "(i32.const 252)", "(i32.const -1009)", "(f64.const 1e300)", "(f32.const -1)", "(i64.const 2044)",
    "(block (result i32) (i32.const 15))", "(v128.const i64x2 4092 4092)", "(memory.size)", "(ref.null func)",
    "(if (result i32) (i32.const 1) (then (i32.const 3)) (else (i32.const 4)))", "(i32.load offset=4092 (i32.const 0))",
    "(i32x4.extract_lane 1 (v128.const i32x4 1 2 3 4))",
    "(select (result i32) (i32.const 1) (i32.const 2) (i32.const 0))",
    "(v128.load32_lane 1 (i32.const 0) (v128.const i32x4 1 2 3 4))", "(ref.is_null (ref.func $f))",
    "(i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (v128.const i32x4 1 2 3 4) (v128.const i32x4 1 2 3 4))",
    "(block (result i32) (br_table 0 0 (i32.const 9) (i32.const 1)))", "(i32.trunc_sat_f64_s (f64.const 2))",
    "(table.get 0 (i32.const 0))", "(call_indirect (type $num) (i32.const 1))",
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 40), imports=st.integers(0, 2), globals=st.integers(0, 2))
def test_whatever_stands_before_and_after_it_does_the_same(seed: int, count: int, imports: int, globals: int) -> None:
    """Any instructions around `table.grow`, any sections around its own: valid again, and what it gives is the same."""
    chosen = random.Random(seed)
    lead = " ".join(f"(drop {chosen.choice(LEAD)})" for _ in range(count))
    text = f"""(module (type $num (func (result i32)))
        {"".join(f'(import "a" "f{n}" (func (param i32)))' for n in range(imports))}
        (memory 1) (table 3 {chosen.choice(["", "50"])} funcref) {"(table 1 externref)" * chosen.randint(0, 1)}
        {"(global (mut i32) (i32.const 7))" * globals}
        (elem declare func $f) (elem (i32.const 1) $num) {'(data "x")' * chosen.randint(0, 1)}
        (func $num (result i32) (i32.const 4))
        (func $f (export "f") (param i32) (result i32) (local i64 f32) {lead}
          (table.grow 0 (ref.null func) (local.get 0)) {lead})
        {'(export "t" (table 0))' * chosen.randint(0, 1)})"""
    source = bytes(wasmtime.wat2wasm(text))
    changed = telling(source)
    assert changed != source
    assert results(changed) == results(source) == [3, 5, -1]


def results(source: bytes) -> list[Any]:
    store = wasmtime.Store(ENGINE)
    store.set_limits(table_elements=40)
    module = wasmtime.Module(ENGINE, source)
    nothing = wasmtime.FuncType([wasmtime.ValType.i32()], [])
    given = [wasmtime.Func(store, nothing, lambda _number: None) for _ in module.imports]
    exports = wasmtime.Instance(store, module, given).exports(store)
    grow: Any = exports["f"]
    return [grow(store, number) for number in (2, 30, 10)]


@settings(max_examples=300, deadline=None)
@given(at=st.integers(8, len(GROWING.source.data) - 1), change=st.integers(1, 255))
def test_a_damaged_module_is_no_worse_for_it(at: int, change: int) -> None:
    """What wasmtime would take, it takes then as well; and nothing is raised but what it says."""
    damaged = bytearray(GROWING.source.data)
    damaged[at] ^= change
    if is_valid(bytes(damaged)) and PREFIX.encode() not in damaged:
        assert is_valid(telling(bytes(damaged)))
    else:
        telling(bytes(damaged))


def is_valid(source: bytes) -> bool:
    try:
        wasmtime.Module.validate(ENGINE, source)
    except wasmtime.WasmtimeError:
        return False
    return True


@pytest.mark.parametrize("text", [guests.GOOD, guests.BAD])
def test_modules_without_it_are_compiled_as_they_are(text: str) -> None:
    source = bytes(wasmtime.wat2wasm(text))
    assert telling(source) is source


def test_a_great_deal_of_code_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take as long as its author likes; then a denial is a trap, as it is for a component."""
    monkeypatch.setattr(tables, "_MOST", 20)
    assert telling(GROWING.source.data) is GROWING.source.data


def test_all_instructions_of_the_plug_ins_are_known() -> None:
    """What compilers have made of C and AssemblyScript is read to its end, function by function."""
    found = 0
    for path in Path(__file__).parents[2].glob("examples/plugins/*.wasm"):
        source = path.read_bytes()
        for each in (each for each in sections(source) if each.id == 10):
            reader = Reader(source, each.start, each.end)
            for _ in range(reader.number()):
                size = reader.number()
                end = reader.position + size
                for _ in range(reader.number()):
                    reader.number()
                    reader.byte()
                found += sum(1 for _ in instructions(reader))
                assert reader.position == end
    assert found > 1000
    assert len(UNREADABLE) == 3
