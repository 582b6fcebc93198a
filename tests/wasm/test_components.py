"""Components: whole records go in and come out, and what a component may use is limited as for modules."""

import dataclasses
import enum
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute import Runtime, task
from hybrid_compute.backends.wasm import WasmBackend
from hybrid_compute.errors import InvalidInput, LimitExceeded, TaskFailed, TaskTimeout
from hybrid_compute.wasm import GuestError, Limits, Trap, WasmComponent, WasmModule

ALLOCATOR = """
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 64))
    (func (export "realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
                              (i32.sub (i32.const 0) (local.get $align))))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
        (then (if (i32.lt_s (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16))))
                            (i32.const 0)) (then unreachable))))
      (local.get $at))"""
CANON = '(memory (core memory $i "memory")) (realloc (core func $i "realloc"))'
NAMED = """
    (type $size' (enum "small" "very-large")) (export $size "size" (type $size'))
    (type $ways' (flags "by-air" "by-sea")) (export $ways "ways" (type $ways'))
    (type $item' (record (field "unit-count" u32) (field "price" f64))) (export $item "item" (type $item'))
    (type $order' (record
      (field "name" string) (field "first-item" $item) (field "items" (list $item)) (field "note" (option string))
      (field "size" $size) (field "ways" $ways) (field "pair" (tuple s8 char)) (field "data" (list u8))))
    (export $order "order" (type $order'))"""


def echo(wit: str) -> WasmComponent:
    """A component that gives a list back as it was: of anything, for only where it is crosses."""
    return WasmComponent.from_wat(
        f"""(component {NAMED}
          (core module $m {ALLOCATOR}
            (func (export "echo") (param i32 i32) (result i32)
              (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1)) (i32.const 0)))
          (core instance $i (instantiate $m))
          (func (export "echo") (param "values" (list {wit})) (result (list {wit}))
            (canon lift (core func $i "echo") {CANON})))"""
    )


def echoing(wit: str, hint: Any, **options: Any) -> Callable[[Any], Any]:
    """A task of it, for a list of this type."""

    def stub(values: Any) -> Any: ...

    stub.__annotations__ = {"values": hint, "return": hint}
    made: Callable[[Any], Any] = echo(wit).task(export="echo", **options)(stub)
    return made


@dataclass(frozen=True)
class Item:
    unit_count: int
    price: float


class Size(enum.Enum):
    SMALL = "small"
    HUGE = "very_large"


class Order(msgspec.Struct, frozen=True):
    name: str
    first_item: Item
    items: list[Item]
    note: str | None
    size: Size
    ways: set[str]
    pair: tuple[int, str]
    data: bytes


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
items = st.builds(Item, st.integers(0, 2**32 - 1), st.floats(allow_nan=False))
orders = st.builds(
    Order,
    name=texts,
    first_item=items,
    items=st.lists(items, max_size=3),
    note=st.none() | texts,
    size=st.sampled_from(Size),
    ways=st.sets(st.sampled_from(["by-air", "by-sea"])),
    pair=st.tuples(st.integers(-128, 127), st.characters(exclude_categories=["Cs"])),
    data=st.binary(max_size=50),
)


@pytest.fixture(scope="module")
def echo_orders() -> Callable[[list[Order]], list[Order]]:
    return echoing("$order", list[Order])


@given(given=st.lists(orders, max_size=3))
def test_whole_records_cross_and_come_back(
    given: list[Order], echo_orders: Callable[[list[Order]], list[Order]]
) -> None:
    """With lists, options, enums, flags, tuples and other records in them, to the last bit."""
    assert echo_orders(given) == given


SCALARS: list[tuple[str, Any, st.SearchStrategy[Any]]] = [
    *((f"s{bits}", int, st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)) for bits in (8, 16, 32, 64)),
    *((f"u{bits}", int, st.integers(0, 2**bits - 1)) for bits in (8, 16, 32, 64)),
    ("f64", float, st.floats(allow_nan=False)),
    ("f32", float, st.floats(allow_nan=False, width=32)),
    ("bool", bool, st.booleans()),
]


@pytest.mark.parametrize(("wit", "type", "values"), SCALARS, ids=[wit for wit, *_ in SCALARS])
def test_lists_of_numbers_cross_whatever_their_size(wit: str, type: Any, values: st.SearchStrategy[Any]) -> None:
    """All of a type's range, and nothing outside it."""
    same = echoing(wit, list[type])

    @given(st.lists(values, max_size=20))
    def check(given: list[Any]) -> None:
        assert same(given) == given

    check()
    if type is int:
        for beyond in (2 ** int(wit[1:]), -(2 ** (int(wit[1:]) - 1)) - 1):
            with pytest.raises(InvalidInput, match="argument 'values' must be list<"):
                same([beyond])


def test_bytes_cross_as_bytes() -> None:
    """A list of u8 is either, as the hint says."""
    data = bytes(range(256)) * 100
    assert echoing("u8", bytes)(data) == data
    assert echoing("u8", list[int])(list(data)) == list(data)
    assert math.isnan(echoing("f32", list[float])([math.nan])[0])


def test_enums_can_be_literals_or_texts() -> None:
    """The names are WIT's; those of a hint may have `_` for `-`."""
    assert echoing("$size", list[Literal["small", "very_large"]])(["very_large"]) == ["very_large"]
    assert echoing("$size", list[str])(["very-large"]) == ["very-large"]


WRONG: list[tuple[Any, str]] = [
    ({"name": 5}, r"'values'\[0\]\.name must be string, not 5 of type int"),
    ({"name": "\ud800"}, r"\.name must be string"),
    ({"items": [Item(-1, 0.0)]}, r"\.items\[0\]\.unit_count must be u32, not -1"),
    ({"items": [Item(0, "x")]}, r"\.items\[0\]\.price must be f64, not 'x'"),  # type: ignore[arg-type]
    ({"first_item": None}, r"\.first_item must be Item, not None"),
    ({"size": "small"}, r"\.size must be one of <Size"),
    ({"ways": {"by-foot"}}, r"\.ways must be a set of some of 'by-air', 'by-sea'"),
    ({"pair": (128, "x")}, r"\.pair\[0\] must be s8, not 128"),
    ({"pair": (1, "xy")}, r"\.pair\[1\] must be char"),
    ({"data": "x"}, r"\.data must be list<u8>"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_value_of_another_type_is_refused_by_its_path(
    wrong: dict[str, Any], message: str, echo_orders: Callable[[list[Order]], list[Order]]
) -> None:
    """Nothing of the component has run, and the next call is as good as any."""
    good = Order("n", Item(1, 2.0), [], None, Size.SMALL, set(), (1, "x"), b"")
    with pytest.raises(InvalidInput, match=message):
        echo_orders([msgspec.structs.replace(good, **wrong)])
    assert echo_orders([good]) == [good]


@dataclass
class Other:
    unit_count: int


DIFFERING: list[tuple[str, Any, str]] = [
    ("string", list[int], r"is declared as int, and the component has string there"),
    ("u32", list[str], "is declared as str, and the component has u32 there"),
    ("u32", bytes, "the component has list"),
    ("$item", list[Other], "Other has the fields unit_count, and the record unit_count, price"),
    ("$size", list[Literal["small"]], "the enum has small, very-large, and its hint small"),
    ("(option u32)", list[int], "the component has option"),
    ("(tuple u32 u32)", list[tuple[int]], "the component has tuple"),
]


@pytest.mark.parametrize(("wit", "hint", "message"), DIFFERING, ids=[message for *_, message in DIFFERING])
def test_hints_and_wit_must_agree(wit: str, hint: Any, message: str) -> None:
    """It is said before anything runs, where both are."""
    with pytest.raises(InvalidInput, match=message):
        echoing(wit, hint)([])


# What it gives, asks and does


def component(core: str, functions: str) -> WasmComponent:
    return WasmComponent.from_wat(
        f"""(component
          (core module $m {ALLOCATOR} {core})
          (core instance $i (instantiate $m))
          {functions})"""
    )


RESULT = component(
    """(func (export "half") (param i32) (result i32)
         (i32.store8 (i32.const 0) (i32.and (local.get 0) (i32.const 1)))
         (if (i32.and (local.get 0) (i32.const 1))
           (then (i32.store (i32.const 4) (i32.const 32)) (i32.store (i32.const 8) (i32.const 3)))
           (else (i32.store (i32.const 4) (i32.div_u (local.get 0) (i32.const 2)))))
         (i32.const 0))
       (data (i32.const 32) "odd")""",
    f"""(func (export "half") (param "n" u32) (result (result u32 (error string)))
          (canon lift (core func $i "half") {CANON}))""",
)


def test_the_error_of_a_result_is_raised() -> None:
    """And its value is that which the component gave."""

    @RESULT.task
    def half(n: int) -> int: ...

    assert half(6) == 3
    assert half(n=6) == 3
    with pytest.raises(GuestError, match="odd") as caught:
        half(7)
    assert caught.value.value == "odd"
    with pytest.raises(InvalidInput, match="half: missing a required argument"):
        half()  # type: ignore[call-arg]


async def test_components_run_in_the_sandbox_of_a_runtime() -> None:
    """An error of a component is one of the task."""

    @RESULT.task
    def half(n: int) -> int: ...

    async with Runtime([WasmBackend(threads=2)]) as rt:
        assert await rt.map(half, range(0, 200, 2)) == list(range(100))
        with pytest.raises(TaskFailed) as caught:
            await rt.run(half, 7)
        assert isinstance(caught.value.__cause__, GuestError)


OWN = '(memory (core memory $own "memory")) (realloc (core func $own "realloc"))'
ASKING = WasmComponent.from_wat(
    f"""(component
      (import "acme:shop/prices@1.0.0" (instance $prices
        (export "price-of" (func (param "what" string) (result (result u32 (error string)))))))
      (alias export $prices "price-of" (func $price))
      (core module $memory {ALLOCATOR})
      (core instance $own (instantiate $memory))
      (core func $lowered (canon lower (func $price) {OWN}))
      (core module $m
        (import "host" "price" (func $price (param i32 i32 i32)))
        (func (export "ask") (param i32 i32) (result i32)
          (call $price (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16)))
      (core instance $i (instantiate $m (with "host" (instance (export "price" (func $lowered))))))
      (func (export "ask") (param "what" string) (result (result u32 (error string)))
        (canon lift (core func $i "ask") {OWN})))"""
)


def test_a_component_that_expects_an_operating_system_is_told_what_to_do() -> None:
    """To grant one function of it would help nobody."""
    expecting = WasmComponent.from_wat("""
        (component
          (import "wasi:cli/exit@0.2.6" (instance (export "exit" (func (param "code" s32)))))
          (core module $code (func (export "run")))
          (core instance $i (instantiate $code))
          (func (export "run") (canon lift (core func $i "run"))))
    """)

    @expecting.task
    def run() -> None: ...

    with pytest.raises(InvalidInput, match=r"imports wasi:cli/exit@0.2.6#exit, so it expects .* for wasm32-wasip1"):
        run()


def test_what_a_component_imports_must_be_granted() -> None:
    """It is told the name of it."""

    @ASKING.task
    def ask(what: str) -> int: ...

    with pytest.raises(InvalidInput, match=r"imports acme:shop/prices@1.0.0#price-of, .* grants=\{'price-of'"):
        ask("tea")


def test_a_granted_function_of_an_interface_may_answer_with_an_error() -> None:
    """It raises that error; the component gets it as the error of a `result<>`, and here gives it on."""

    def price_of(what: str) -> int:
        if what == "tea":
            return 3
        raise GuestError(f"no {what}")

    for name in ("price-of", "acme:shop/prices@1.0.0#price-of"):

        @ASKING.task(grants={name: price_of})
        def ask(what: str) -> int: ...

        assert ask("tea") == 3
        with pytest.raises(GuestError, match="no coffee"):
            ask("coffee")


PASSING = """(component
  (import "price" (func $price (param "n" u32) (result u32)))
  (core func $lowered (canon lower (func $price)))
  (core module $m (import "host" "price" (func $price (param i32) (result i32)))
    (func (export "ask") (param i32) (result i32)
      (loop $again (br_if $again (i32.lt_u (call $price (local.get 0)) (i32.const 10))))
      (call $price (local.get 0))))
  (core instance $i (instantiate $m (with "host" (instance (export "price" (func $lowered))))))
  (func (export "ask") (param "n" u32) (result u32) (canon lift (core func $i "ask"))))"""


def asking(grant: Any, **options: Any) -> Callable[[int], int]:
    @WasmComponent.from_wat(PASSING).task(grants={"price": grant}, **options)
    def ask(n: int) -> int: ...

    return ask


def test_a_component_calls_what_it_was_granted() -> None:
    """A function or a task, with plain values; and only as often as it may."""

    def price(n: int) -> int:
        return n * 2

    assert asking(price)(21) == 42
    assert asking(task(price))(21) == 42
    with pytest.raises(LimitExceeded, match=r"Limits\.host_calls"):
        asking(price, limits=Limits(host_calls=50))(1)


def test_what_a_granted_function_raises_is_raised_where_the_component_was_called() -> None:
    """The very error; and a result of another type is the fault of the host."""

    def fails(n: int) -> int:
        raise LookupError(f"no price of {n}")

    def wrong(n: int) -> int:
        return -1

    with pytest.raises(LookupError, match="no price of 3"):
        asking(fails)(3)
    with pytest.raises(TypeError, match="price: its result must be u32, not -1"):
        asking(wrong)(3)


def test_errors_of_granted_functions_stay_in_their_thread() -> None:
    """The classes of wasmtime keep the last one for all threads."""
    seen: dict[int, list[str]] = {}
    both = threading.Barrier(2)

    def raising(number: int) -> None:
        def fails(n: int) -> int:
            both.wait()
            raise LookupError(str(number))

        ask = asking(fails)
        for _ in range(20):
            with pytest.raises(LookupError) as caught:
                ask(1)
            seen.setdefault(number, []).append(str(caught.value))

    threads = [threading.Thread(target=raising, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {1: ["1"] * 20, 2: ["2"] * 20}


# Limits

HOSTILE = component(
    """(func (export "spin") (loop $l (br $l)))
       (func $deep (export "deep") (call $deep) (call $deep))
       (func (export "fail") unreachable)
       (func (export "divide") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
       (func (export "grow") (if (i32.lt_s (memory.grow (i32.const 1000)) (i32.const 0)) (then unreachable)))
       (func (export "text") (param i32) (result i32)
         (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (local.get 0)) (i32.const 0))
       (func (export "bomb") (result i32) (local $at i32)
         (loop $l
           (i32.store (i32.add (i32.const 68) (local.get $at)) (i32.const 60000))
           (local.set $at (i32.add (local.get $at) (i32.const 8)))
           (br_if $l (i32.lt_u (local.get $at) (i32.const 64000))))
         (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8000)) (i32.const 0))""",
    "\n".join(
        f'(func (export "{name}") {type} (canon lift (core func $i "{name}") {CANON}))'
        for name, type in {
            "spin": "",
            "deep": "",
            "fail": "",
            "divide": '(param "n" u32) (result u32)',
            "grow": "",
            "text": '(param "n" u32) (result string)',
            "bomb": "(result (list (list u8)))",
        }.items()
    ),
)


def hostile(name: str, returned: Any = None, parameters: int = 0, **limits: Any) -> Callable[..., Any]:
    def none() -> Any: ...
    def one(n: int) -> Any: ...

    stub: Any = one if parameters else none
    stub.__annotations__["return"] = returned
    made: Callable[..., Any] = HOSTILE.task(export=name, limits=Limits(**limits))(stub)
    return made


@pytest.mark.parametrize(
    ("name", "limits", "message"),
    [
        ("spin", {"time": 0.05}, r"Limits\.time"),
        ("spin", {"fuel": 10_000}, r"Limits\.fuel"),
        ("deep", {}, r"Limits\.stack"),
        ("grow", {"memory": 1 << 20}, r"Limits\.memory"),
    ],
)
def test_a_component_is_stopped_at_its_limits(name: str, limits: dict[str, Any], message: str) -> None:
    """The same ones as for modules."""
    with pytest.raises(LimitExceeded, match=message):
        hostile(name, **limits)()


def test_a_result_that_is_too_large_is_not_taken() -> None:
    """Nor one that is small in the guest, where each part is the same, and would be huge here."""
    assert len(hostile("text", str, 1)(1000)) == 1000
    with pytest.raises(LimitExceeded, match=r"Limits\.output"):
        hostile("text", str, 1, output=999)(1000)
    with pytest.raises(LimitExceeded, match="more than can cross at once"):
        hostile("bomb", list[bytes])()


def test_the_memories_of_a_component_have_one_limit() -> None:
    """Three modules of 1 MiB each are not within 2 MiB."""
    many = WasmComponent.from_wat(
        """(component (core module $m (memory 16))
             (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m))
             (core module $f (func (export "f"))) (core instance $i (instantiate $f))
             (func (export "f") (canon lift (core func $i "f"))))"""
    )

    def f() -> None: ...

    many.task(limits=Limits(memory=3 << 20))(f)()
    with pytest.raises(LimitExceeded, match=r"asks for 3 MiB from the beginning.*Limits\.memory"):
        many.task(limits=Limits(memory=2 << 20))(f)()


def test_a_component_has_only_so_many_memories() -> None:
    """Each takes up four gigabytes of addresses, however small it is."""
    many = WasmComponent.from_wat(
        f"""(component (core module $m (memory 0)) {"(core instance (instantiate $m))" * 9}
             (core module $f (func (export "f"))) (core instance $i (instantiate $f))
             (func (export "f") (canon lift (core func $i "f"))))"""
    )

    def f() -> None: ...

    with pytest.raises(LimitExceeded, match="more than 8 tables, 8 memories"):
        many.task(f)()


def test_a_trap_of_a_component_has_its_code_and_frames() -> None:
    """As that of a module; and the next call has a new instance."""
    divide = hostile("divide", int, 1)
    with pytest.raises(Trap, match=r"divided an integer by zero") as caught:
        divide(0)
    assert caught.value.code == "INTEGER_DIVISION_BY_ZERO"
    assert len(caught.value.frames) == 1
    assert divide(1) == 1
    with pytest.raises(Trap) as caught:
        hostile("fail")()
    assert caught.value.code == "UNREACHABLE"


async def test_a_spinning_component_can_be_stopped_by_its_runtime() -> None:
    """By the time limit of the call, which is not that of the task."""
    async with Runtime([WasmBackend(threads=1)]) as rt:
        with pytest.raises(TaskTimeout):
            await rt.options(timeout=0.05).run(hostile("spin", time=None))
        assert await rt.run(hostile("divide", int, 1), 1) == 1


def test_modules_and_components_are_told_apart() -> None:
    """Each names the class for the other."""
    with pytest.raises(InvalidInput, match="WasmComponent takes it"):
        WasmModule.from_bytes(HOSTILE.source.data)
    with pytest.raises(InvalidInput, match="is a module: WasmModule takes it"):
        WasmComponent.from_bytes(b"\0asm\1\0\0\0")


def test_a_function_that_is_not_there_is_named() -> None:
    """With those that are."""

    def nothing() -> None: ...

    with pytest.raises(InvalidInput, match="exports no function 'nothing'; it has bomb, deep"):
        HOSTILE.task(nothing)()


def test_a_record_may_be_a_dataclass_of_any_kind() -> None:
    """What counts is that it has the fields."""

    @dataclass(slots=True, kw_only=True)
    class Slotted:
        price: float
        unit_count: int

    values = [Slotted(price=1.5, unit_count=2)]
    assert [dataclasses.astuple(each) for each in _of(Slotted)(values)] == [(1.5, 2)]


def _of(type: Any) -> Callable[[Any], Any]:
    return echoing("$item", list[type])


def test_code_that_one_thread_throws_away_is_not_found_by_another() -> None:
    """An object of wasmtime that is being freed could still be found by weak references, and was used after that."""
    failed: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(100):
                assert hostile("divide", int, 1)(1) == 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
