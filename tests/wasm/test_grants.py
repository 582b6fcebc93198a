"""Grants: what a guest may call of the host, how its arguments are checked, and what it is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray

from hybrid_compute import task
from hybrid_compute.errors import InvalidInput, LimitExceeded, NotPermitted
from hybrid_compute.wasm import Limits, Trap, WasmModule

HEAD = """
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 8192))
  (func (export "alloc") (param $size i32) (result i32) (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (global.get $next) (local.get $size)))
    (local.get $at))
"""
ASKING = WasmModule.from_wat(f"""
(module
  (import "host" "run" (func $run (param i32 i32 i32 i32) (result i64)))
  {HEAD}
  (func (export "ask") (param i32 i32 i32 i32) (result i64)
    (call $run (local.get 0) (local.get 1) (local.get 2) (local.get 3))))
""")
LOGGING = WasmModule.from_wat(f"""
(module
  (import "host" "log" (func $log (param i32 i32)))
  {HEAD}
  (func (export "log") (param i32 i32) (call $log (local.get 0) (local.get 1)))
  (func (export "twice") (param i32 i32)
    (call $log (local.get 0) (local.get 1)) (call $log (local.get 0) (local.get 1)))
  (func (export "spin") (param i32 i32) (loop (call $log (local.get 0) (local.get 1)) (br 0))))
""")
NUMBERS = WasmModule.from_wat(f"""
(module
  (import "host" "mix" (func $mix (param i32 i64 f32 f64) (result f64)))
  (import "env" "pair" (func $pair (param i32 i32) (result i32 i32)))
  {HEAD}
  (func (export "mix") (param i32 i64 f32 f64) (result f64)
    (call $mix (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
  (func (export "pair") (param i32 i32) (result i32 i32) (call $pair (local.get 0) (local.get 1))))
""")


@task
def double(x: int) -> int:
    return 2 * x


@task
async def greet(name: str, loud: bool = False) -> dict[str, str]:
    return {"text": name.upper() if loud else name}


def ask(name: str, input: str) -> str: ...


def asking(*tasks: Any, **options: Any) -> Any:
    return ASKING.task(grants={"run": tasks}, **options)(ask)


def logging(log: Any, **options: Any) -> Any:
    def twice(text: str) -> None: ...

    return LOGGING.task(grants={"log": log}, **options)(twice)


def test_a_granted_function_is_called_with_what_the_guest_says() -> None:
    heard: list[str] = []

    def log(text: str) -> None:
        heard.append(text)

    logging(log)("grüße")
    assert heard == ["grüße", "grüße"]


@given(
    some.integers(-(2**31), 2**31 - 1),
    some.integers(-(2**63), 2**63 - 1),
    some.floats(width=32, allow_nan=False),
    some.floats(allow_nan=False),
)
def test_numbers_of_all_kinds_cross(a: int, b: int, c: float, d: float) -> None:
    """There and back, each as it was."""
    heard: list[Any] = []

    def mix(a: int, b: int, c: float, d: float) -> float:
        heard.append((a, b, c, d))
        return d

    def pair(data: bytes) -> bytes:
        return data

    def given(a: int, b: int, c: float, d: float) -> float: ...

    call = NUMBERS.task(export="mix", grants={"mix": mix, "env.pair": pair})(given)
    assert call(a, b, c, d) == d
    assert heard == [(a, b, c, d)]


@given(some.lists(some.floats(allow_nan=False)))
def test_arrays_cross_both_ways(values: list[float]) -> None:
    """By two numbers for where and how many, in the result as well."""

    def mix(a: int, b: int, c: float, d: float) -> float:
        return 0.0

    def doubled(data: NDArray[np.float64]) -> NDArray[np.float64]:
        return 2 * data

    def pair(data: NDArray[np.float64]) -> NDArray[np.float64]: ...

    call = NUMBERS.task(grants={"mix": mix, "pair": doubled})(pair)
    with np.errstate(over="ignore"):
        assert call(np.array(values)).tolist() == [2 * value for value in values]


def test_granted_tasks_are_run_by_name() -> None:
    """With their input as JSON, as everywhere; a coroutine as well."""
    call = asking(double, greet)
    assert call("double", "21") == "42"
    assert call("greet", '{"name": "ann", "loud": true}') == '{"text":"ANN"}'


@pytest.mark.parametrize(
    ("name", "input", "error", "reason"),
    [
        ("triple", "1", NotPermitted, "asked for task 'triple', and was granted double"),
        ("__import__", '"os"', NotPermitted, "asked for task '__import__'"),
        ("double", '"many"', InvalidInput, "Expected `int`, got `str`"),
        ("double", "not JSON", InvalidInput, "double"),
        ("double", "[1, 2]", InvalidInput, "Expected `int`, got `array`"),
    ],
)
def test_a_task_that_was_not_granted_is_refused(name: str, input: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        asking(double)(name, input)


def test_without_a_grant_a_module_does_not_even_begin() -> None:
    with pytest.raises(InvalidInput, match=r"imports host\.log \(i32, i32\) -> \(\), which it was not granted"):
        LOGGING.task("log")()


def test_a_grant_that_does_not_fit_is_refused() -> None:
    def log(text: str, level: int) -> None: ...

    def unhinted(text): ...  # type: ignore[no-untyped-def]

    with pytest.raises(InvalidInput, match=r"host\.log is declared as \(text: str, level: int\)"):
        logging(log)("x")
    with pytest.raises(TypeError, match="needs a type hint"):
        logging(unhinted)("x")

    @task
    def many(n: int) -> Any:
        yield n

    with pytest.raises(TypeError, match="'many' gives a stream"):
        asking(many)("many", "1")


def test_only_functions_can_be_granted() -> None:
    module = WasmModule.from_wat('(module (import "env" "memory" (memory 1)) (func (export "run")))')
    with pytest.raises(InvalidInput, match=r"imports env\.memory, and only functions can be granted"):
        module.task("run", grants={"memory": print})()


def test_what_a_granted_function_raises_ends_the_call() -> None:
    """As it is; the guest runs no further."""
    calls: list[str] = []

    def log(text: str) -> None:
        calls.append(text)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        logging(log)("x")
    assert calls == ["x"]


def test_a_result_of_the_wrong_type_is_the_hosts_fault() -> None:
    def mix(a: int, b: int, c: float, d: float) -> float:
        return "much"  # type: ignore[return-value]

    def pair(data: bytes) -> bytes:
        return data

    with pytest.raises(TypeError, match="gave 'much', which is no float"):
        NUMBERS.task("mix", grants={"mix": mix, "pair": pair})(1, 2, 3.0, 4.0)


def test_what_a_guest_names_must_lie_in_its_memory() -> None:
    def log(text: str) -> None: ...

    for place in ((65530, 100), (-1, 1), (0, -1), (2**31 - 1, 2**31 - 1)):
        with pytest.raises((Trap, LimitExceeded), match=r"names .* and its memory has 65536|its limit of output"):
            LOGGING.task("log", grants={"log": log})(*place)
    with pytest.raises(Trap, match="no UTF-8"):
        LOGGING.task(export="log", grants={"log": log})(some_bytes)(b"\xff")


def some_bytes(data: bytes) -> None: ...


def test_each_call_has_its_own_count_of_host_calls() -> None:
    def log(text: str) -> None: ...

    kept = logging(log, limits=Limits(host_calls=2), reuse=True)
    for _ in range(3):
        kept("x")
    with pytest.raises(LimitExceeded, match="its limit of host_calls is 1"):
        logging(log, limits=Limits(host_calls=1))("x")
    with pytest.raises(LimitExceeded, match=r"its limit of time is 0\.05 s"):
        LOGGING.task(export="spin", grants={"log": log}, limits=Limits(time=0.05, host_calls=None))(some_bytes)(b"")
