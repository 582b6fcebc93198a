"""All ways into a guest take the same arguments, refuse the same ones, and give the same."""

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from hybrid_compute import BlockingRuntime, WorkerBackend
from hybrid_compute.backends.wasm import WasmBackend
from hybrid_compute.errors import InvalidInput, TaskFailed
from hybrid_compute.wasm import WasmModule

SAME = WasmModule.from_wat("""
(module
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "i64") (param i64) (result i64) (local.get 0))
  (func (export "f32") (param f32) (result f32) (local.get 0))
  (func (export "f64") (param f64) (result f64) (local.get 0)))
""")
TYPES = ("i32", "i64", "f32", "f64")


class Index(NamedTuple):
    """A number by its looks; one that fails at it with this error, if there is one."""

    number: int
    error: type[Exception] | None = None

    def __index__(self) -> int:
        if self.error is not None:
            raise self.error("no number")
        return self.number


def ways(type: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """By name: those of a call in this thread. The second call of what is kept goes the short way."""
    fresh, kept = SAME.task(type), SAME.task(type, reuse=True)
    yield "fresh", fresh
    yield "kept", twice(kept, 1)
    with SAME.open() as instance:
        yield "instance", twice(instance.function(type), 1)


def twice(call: Callable[..., Any], good: Any) -> Callable[..., Any]:
    def called(*args: Any) -> Any:
        call(good)
        return call(*args)

    return called


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[dict[str, Callable[..., Any]]]:
    """The other ways: by a place of guests, one by one and many at once, and in a worker."""
    tasks = {type: SAME.task(type) for type in TYPES}
    with (
        BlockingRuntime([WasmBackend(threads=1)]) as wasm,
        BlockingRuntime([WorkerBackend(1)], strategy="worker") as worker,
    ):
        yield {
            "backend": lambda type, *args: wasm.run(tasks[type], *args),
            "batch": lambda type, *args: wasm.starmap(tasks[type], [(1,), args])[1],
            "worker": lambda type, *args: worker.run(tasks[type], *args),
        }


INTEGERS = some.integers(-(2**66), 2**66) | some.sampled_from(
    [2**31 - 1, 2**31, 2**32 - 1, 2**32, -(2**31) - 1, 2**63, 2**64 - 1, 2**64, 10**400]
)
SCALARS = ("i1", "u1", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "?", "c8", "S1", "U1", "M8[s]")
VALUES: some.SearchStrategy[Any] = (
    INTEGERS
    | some.booleans()
    | some.floats()
    | some.decimals(allow_nan=None)
    | some.fractions()
    | some.sampled_from([None, "1", b"1", "x", [1], (), {}, 1j, float, bytearray(b"1"), Decimal("sNaN"), math.pi])
    | some.sampled_from([np.ones(1), np.ones(2), np.array(3), np.array(2.5), np.array("1"), np.str_("1.5")])
    | some.builds(lambda dtype: np.zeros(1, dtype)[0], some.sampled_from(SCALARS))
    | some.builds(np.int64, some.integers(-(2**63), 2**63 - 1))
    | some.builds(np.uint64, some.integers(0, 2**64 - 1))
    | some.builds(np.float32, some.floats(width=32))
    | some.builds(Index, some.integers(-(2**66), 2**66), some.sampled_from([None, TypeError, ValueError]))
)


def outcome(call: Callable[..., Any], *args: Any) -> tuple[str, str]:
    try:
        result = call(*args)
    except InvalidInput as error:
        return "refused", repr(type(error))
    except TaskFailed as error:  # so a worker says what a task of its has raised
        return "refused", repr(type(error.__cause__))
    return type(result).__name__, repr(result)


@settings(max_examples=150, deadline=None)
@given(type=some.sampled_from(TYPES), args=some.lists(VALUES, min_size=1, max_size=1) | some.lists(VALUES, max_size=3))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy's, of arrays that are numbers
@pytest.mark.filterwarnings("ignore:Casting complex values")
def test_all_ways_agree(elsewhere: dict[str, Callable[..., Any]], type: str, args: list[Any]) -> None:
    """On what is taken, on what is refused, and on the result."""
    found = {name: outcome(call, *args) for name, call in ways(type)}
    found |= {name: outcome(call, type, *args) for name, call in elsewhere.items()}
    assert len(set(found.values())) == 1, found


def test_what_numbers_are() -> None:
    """Numpy's integers are ints, what can be made a float is one, and text is nothing."""
    i32, i64, f64 = (SAME.task(each) for each in ("i32", "i64", "f64"))
    assert i32(np.int64(7)) == 7
    assert i64(np.uint64(2**64 - 1)) == -1
    assert i32(True) == 1
    assert f64(np.float32(0.5)) == f64(Fraction(1, 2)) == f64(Decimal("0.5")) == 0.5
    for call, value in ((i32, 1.0), (i32, np.float64(1)), (i32, "1"), (f64, "1"), (f64, b"1"), (f64, None), (f64, 1j)):
        with pytest.raises(InvalidInput, match="argument 'arg0' must be"):
            call(value)
    with pytest.raises(InvalidInput, match="too large"):
        f64(10**400)
