"""Exported functions as functions of Python: what crosses, and what is refused."""

import math
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray

from hybrid_compute import Task, WorkerBackend
from hybrid_compute.calls import Call
from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import Trap, WasmComponent, WasmModule, task
from hybrid_compute.wasm.encoding import leb, section
from tests.wasm.guests import bad, good

GOOD = good()


@GOOD.task
def add(a: int, b: int = 4) -> int: ...


@GOOD.task(export="packed")
def echo(text: str) -> str: ...


@GOOD.task(export="pair")
def echo_bytes(data: bytes) -> bytes: ...


@GOOD.task
def count() -> int: ...


same32, same64, half32, half64 = (GOOD.task(name) for name in ("same32", "same64", "half32", "half64"))


# What crosses.


def test_a_function_of_numbers_is_called_as_any_other() -> None:
    """By position, by name, with its defaults."""
    assert add(2, 3) == 5
    assert add(b=1, a=2) == 3
    assert add(1) == 5


def test_a_stub_is_typed_and_documented_as_it_stands() -> None:
    """The task is the function that was written down: its name, its pureness, what tools see of it."""
    assert isinstance(add, Task)
    assert (add.name, add.pure, add.kind) == ("add", True, "function")
    assert GOOD.task("add", name="plus", timeout=2.0, pure=False).timeout == 2.0
    assert repr(add.fn) == "<WasmFunction 'add' of good.wasm>"


@given(some.integers(-(2**31), 2**31 - 1))
def test_integers_of_32_bits_come_back_as_they_went(value: int) -> None:
    assert same32(value) == value


@given(some.integers(-(2**63), 2**63 - 1))
def test_integers_of_64_bits_come_back_as_they_went(value: int) -> None:
    assert same64(value) == value


@pytest.mark.parametrize(("same", "bits"), [(same32, 32), (same64, 64)], ids=["i32", "i64"])
def test_unsigned_integers_are_taken_and_come_back_signed(same: Callable[[int], int], bits: int) -> None:
    """C's `size_t` takes them: WASM's integers have no sign, and Python's get one."""
    assert same(2**bits - 1) == -1
    assert same(2 ** (bits - 1)) == -(2 ** (bits - 1))
    for far in (2**bits, -(2 ** (bits - 1)) - 1):
        with pytest.raises(InvalidInput, match="too large"):
            same(far)


@given(some.floats())
def test_floats_of_64_bits_come_back_as_they_went(value: float) -> None:
    assert struct.pack("d", half64(value)) == struct.pack("d", value) or math.isnan(value)


@given(some.floats())
def test_floats_of_32_bits_are_rounded_as_numpy_rounds(value: float) -> None:
    """What is too large is infinite."""
    with np.errstate(all="ignore"):
        expected = float(np.float32(value))
    assert half32(value) == expected or (math.isnan(value) and math.isnan(half32(value)))


def test_a_float_takes_an_int_and_a_bool_is_a_bool() -> None:
    @GOOD.task
    def negate(value: bool) -> bool: ...

    assert half64(3) == 3.0
    assert negate(False) is True
    with pytest.raises(InvalidInput, match="'value' must be bool, not 2"):
        negate(2)


@given(some.text())
def test_text_comes_back_as_it_went(text: str) -> None:
    assert echo(text) == text


@given(some.binary())
def test_bytes_come_back_as_they_went(data: bytes) -> None:
    assert echo_bytes(data) == data


def test_much_text_makes_the_guest_grow() -> None:
    text = "ü" * 1_000_000
    assert echo(text) == text


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_arrays_come_back_as_they_went(dtype: str) -> None:
    scalar = np.dtype(dtype).type

    def same(data: Any) -> Any: ...

    same.__annotations__ = {"data": NDArray[scalar], "return": NDArray[scalar]}
    array = np.arange(100).astype(dtype)
    back = GOOD.task(export="packed")(same)(array)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)
    back[0] = 7  # it is the caller's own


def test_a_guest_computes_on_an_array() -> None:
    @GOOD.task
    def sum(data: NDArray[np.float64]) -> float: ...

    values = np.random.default_rng(1).random(1000)
    assert sum(values) == pytest.approx(values.sum())
    assert sum(values[::-2]) == pytest.approx(values[::-2].sum())
    assert sum(np.empty(0)) == 0.0
    with pytest.raises(InvalidInput, match=r"'data' must be NDArray\[float64\], not"):
        sum(values.astype("f4"))


def test_nothing_is_given_for_nothing() -> None:
    @GOOD.task
    def nothing() -> None: ...

    assert nothing() is None


# Fresh, and kept.


def test_each_call_has_a_sandbox_of_its_own() -> None:
    """What a call leaves in memory or globals is gone with it."""
    poke, peek = GOOD.task("poke"), GOOD.task("peek")
    assert [count(), count(), count()] == [1, 1, 1]
    poke(64, 42)
    assert peek(64) == 0


def test_state_is_kept_where_the_task_says_so() -> None:
    """In each thread by itself; after a trap there is a new guest."""
    kept = GOOD.task("count", reuse=True)
    assert [kept(), kept(), kept()] == [1, 2, 3]
    assert not kept.pure
    peek = GOOD.task("peek", reuse=True)
    for _ in range(3):
        assert peek(64) == 0
        with pytest.raises(Trap, match="MEMORY_OUT_OF_BOUNDS"):
            peek(-1)


def test_a_refused_argument_leaves_what_is_kept() -> None:
    """Bad input changes nothing, on the short way and on the long one."""
    kept = GOOD.task("add", reuse=True)
    for _ in range(3):
        with pytest.raises(InvalidInput, match="'arg0' must be int, not 'x'"):
            kept("x", 1)
        with pytest.raises(InvalidInput, match="too many positional arguments"):
            kept(1, 2, 3)
        assert kept(1, 2**32 - 1) == 0
        assert kept(True, 2) == 3


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("one", 2), "add: argument 'a' must be int, not 'one' of type str"),
        ((1.5, 2), "add: argument 'a' must be int, not 1.5 of type float"),
        ((None,), "must be int, not None"),
        ((), "missing a required argument: 'a'"),
        ((1, 2, 3), "too many positional arguments"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(arguments: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        add(*arguments)


def stub(given: Any, gives: Any) -> Callable[..., Any]:
    def add(a: Any) -> Any: ...

    add.__annotations__ = {"a": given, "return": gives}
    return add


@pytest.mark.parametrize("hint", [dict, list[int], NDArray[np.object_], "int | str", object])
def test_a_hint_that_cannot_cross_is_refused(hint: Any) -> None:
    with pytest.raises(TypeError, match=r"a guest takes int, bool|objects of Python"):
        GOOD.task(stub(hint, int))(1)


def test_a_stub_without_hints_is_refused() -> None:
    def a_parameter(a) -> int: ...  # type: ignore[no-untyped-def]

    def a_result(a: int): ...  # type: ignore[no-untyped-def]

    def many(*a: int) -> int: ...

    for each, reason in ((a_parameter, "'a' needs a type hint"), (a_result, "its result"), (many, "fixed number")):
        with pytest.raises(TypeError, match=reason):
            GOOD.task(export="add")(each)(1)


@pytest.mark.parametrize(("given", "gives"), [(int, int), (str, str), (float, int)])
def test_a_stub_that_the_module_does_not_keep_is_refused(given: Any, gives: Any) -> None:
    with pytest.raises(InvalidInput, match=r"declared as \(a: .*the module's function is \(i32, i32\) -> \(i32\)"):
        GOOD.task(stub(given, gives))(1)


def test_what_the_module_does_not_export_is_refused() -> None:
    with pytest.raises(InvalidInput, match="exports no function 'ad'; it has add, alloc, count"):
        GOOD.task("ad")()
    with pytest.raises(InvalidInput, match="says too little: give it a signature"):
        GOOD.task("pair")(1, 2)


def test_what_is_no_module_is_refused(tmp_path: Any) -> None:
    with pytest.raises(InvalidInput, match="no WebAssembly"):
        WasmModule.from_bytes(b"\x7fELF")
    with pytest.raises(InvalidInput, match="expected"):
        WasmModule.from_wat("(module (func (export)))")
    with pytest.raises(InvalidInput, match="no module that can be run"):
        WasmModule.from_bytes(b"\0asm\1\0\0\0\x7f").task("f")()
    with pytest.raises(FileNotFoundError):
        WasmModule.from_file(tmp_path / "missing.wasm")


def many(count: int) -> bytes:
    """A module of so many functions, in which there is nothing."""
    return (
        b"\0asm\1\0\0\0"
        + section(1, b"\1\x60\0\0")
        + section(3, leb(count) + bytes(count))
        + section(10, leb(count) + b"\2\0\x0b" * count)
    )


def test_what_would_take_for_ever_to_compile_is_refused(tmp_path: Any) -> None:
    """A few megabytes could take a minute and all memory. It is said how many there are, and how to load it anyway."""
    large = many(100_001)
    with pytest.raises(InvalidInput, match=r"module has 100,001 functions; .* up to 67,108,864 bytes and"):
        WasmModule.from_bytes(large)
    (tmp_path / "large.wasm").write_bytes(large)
    with pytest.raises(InvalidInput, match=r"large.wasm has .* trusted=True if its author is"):
        WasmModule.from_file(tmp_path / "large.wasm").task("f")()
    component = b"\0asm\x0d\0\1\0" + section(1, many(60_000))
    nested = component + section(4, component)
    with pytest.raises(InvalidInput, match="component has 120,000 functions"):
        WasmComponent.from_bytes(nested)
    assert WasmModule.from_bytes(large, trusted=True).source.digest
    assert pickle.loads(pickle.dumps(WasmModule.from_bytes(large, trusted=True))).source.digest
    with pytest.raises(InvalidInput, match="has 67,108,872 bytes; what is not trusted"):
        WasmModule.from_bytes(b"\0asm\1\0\0\0" + bytes(64 << 20))
    with pytest.raises(InvalidInput, match="has more than 20,000 sections"):
        WasmModule.from_bytes(b"\0asm\1\0\0\0" + bytes(32 << 20))
    deep = b""
    for _ in range(100):
        deep = b"\0asm\x0d\0\1\0" + section(4, deep)
    with pytest.raises(InvalidInput, match="has components within components, 50 deep"):
        WasmComponent.from_bytes(deep)
    assert WasmModule.from_bytes(many(3)).task("f").name == "f"


@pytest.mark.parametrize("export", ["elsewhere", "endless", "no_text"])
def test_a_place_in_memory_that_a_guest_names_is_not_believed(export: str) -> None:
    """Beyond its memory, longer than it, or no text at all: its fault, not ours."""
    reason = {"elsewhere": "names 16 bytes at 2147418112", "endless": "output", "no_text": "no UTF-8"}[export]

    def give() -> str: ...

    with pytest.raises(Exception, match=reason):
        bad().task(export=export)(give)()


def test_an_alloc_that_lies_is_found_out() -> None:
    @bad().task
    def swallow(text: str) -> None: ...

    with pytest.raises(Trap, match=r"names 5 bytes at 2147418112, and its memory has 65536"):
        swallow("hello")


# Elsewhere.


def test_a_file_is_a_module(tmp_path: Any) -> None:
    """In the binary format, and as text."""
    (tmp_path / "plugin.wasm").write_bytes(GOOD.source.data)
    (tmp_path / "plugin.wat").write_text('(module (func (export "one") (result i32) (i32.const 1)))')

    def echo(text: str) -> str: ...

    assert task(tmp_path / "plugin.wasm", "add")(1, 2) == 3
    assert task(tmp_path / "plugin.wasm", "packed", echo)("hello") == "hello"
    assert task(str(tmp_path / "plugin.wat"), "one")() == 1


def test_a_function_pickles() -> None:
    """With its module, and without what was compiled of it."""
    again = pickle.loads(pickle.dumps(same32.fn))
    assert again(5) == 5


async def test_a_worker_process_runs_it_too() -> None:
    """In a sandbox of its own over there."""
    backend = WorkerBackend(1)
    await backend.start()
    try:
        assert await backend.run_call(Call(add, (2, 3))) == 5
        assert await backend.run_call(Call(GOOD.task("add"), (2, 3))) == 5
    finally:
        await backend.aclose()
