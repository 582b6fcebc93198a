"""Names for type hints: `type` statements, and what stands for them before Python 3.12."""

import sys
import typing
from collections.abc import Callable, Iterable
from types import GenericAlias
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_compute.errors import InvalidInput
from hybrid_compute.hints import unaliased
from hybrid_compute.kernels import Array, f32
from hybrid_compute.kernels.types import read_annotation
from hybrid_compute.schema import bind_value, json_schema, output_type
from hybrid_compute.tasks import as_task
from hybrid_compute.wasm import kinds

T = TypeVar("T")
U = TypeVar("U")


class Alias:
    """What a `type` statement makes, on a Python that has none."""

    def __init__(self, value: Any, *parameters: Any) -> None:
        self.__value__ = value
        self.__type_params__ = parameters

    def __getitem__(self, arguments: Any) -> Any:
        return GenericAlias(self, arguments)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def __call__(self) -> None:
        raise AssertionError("typing insists that a hint can be called; nobody does")


def stated(statement: str) -> Any:
    """What a statement of Python 3.12 makes, which no older one can read."""
    if sys.version_info < (3, 12):
        pytest.skip("this Python has no type statement")
    scope: dict[str, Any] = {"NDArray": NDArray, "np": np, "Callable": Callable}
    exec(statement, scope)
    return scope["X"]


IMAGE = Alias(np.ndarray[Any, np.dtype[np.float32]])
PAIR = Alias(dict[U, T], T, U)


@pytest.mark.parametrize(
    ("hint", "meant"),
    [
        (int, int),
        (None, None),
        (T, T),
        (list[int], list[int]),
        (int | None, int | None),
        (Alias(int), int),
        (Alias(Alias(list[int])), list[int]),
        (Alias(list[T], T), list[T]),
        (Alias(list[T], T)[int], list[int]),
        (Alias(Alias(list[T], T)[U], U)[int], list[int]),
        (Alias(T, T)[int], int),
        (Alias(T | None, T)[int], int | None),
        (Alias(str, T)[int], str),
        (PAIR[int, str], dict[str, int]),
    ],
)
def test_the_hint_is_what_its_name_stands_for(hint: Any, meant: Any) -> None:
    assert unaliased(hint) == meant


@pytest.mark.parametrize(
    ("statement", "arguments", "meant"),
    [
        ("type X = int", None, int),
        ("type X[T] = list[T]", int, list[int]),
        ("type X[K, V] = dict[V, K]", (int, str), dict[str, int]),
        ("type X[*Ts] = tuple[str, *Ts]", (int, float), tuple[str, int, float]),
        ("type X[K, *Ts] = tuple[*Ts, K]", (int, float, bool), tuple[float, bool, int]),
        ("type Y[T] = set[T]\ntype X[T] = Y[list[T]]", int, set[list[int]]),
        ("type X = NDArray[np.float32]", None, unaliased(NDArray[np.float32])),
        ("type X[T] = Callable[[T], T | None]", int, Callable[[int], int | None]),
    ],
)
def test_a_type_statement_is_such_a_name(statement: str, arguments: Any, meant: Any) -> None:
    alias = stated(statement)
    assert unaliased(alias if arguments is None else alias[arguments]) == meant


def test_a_name_that_speaks_of_itself_is_followed_once() -> None:
    tree = stated("type X = list[X] | int")
    assert unaliased(tree) == list[tree] | int


def test_a_class_with_such_a_field_is_none() -> None:
    class Valued:
        __value__ = int

    assert unaliased(Valued) is Valued


@pytest.mark.parametrize("hint", [IMAGE, NDArray[np.float32], Alias(NDArray[T], T)[np.float32]])  # type: ignore[type-var]
def test_a_guest_takes_the_array_that_a_name_stands_for(hint: Any) -> None:
    assert str(kinds.of_hint(hint, "here")) == "NDArray[float32]"


def test_a_guest_takes_the_number_that_a_name_stands_for() -> None:
    assert kinds.of_hint(Alias(int), "here") is kinds.of_hint(int, "here")
    with pytest.raises(TypeError, match="cannot be a"):
        kinds.of_hint(Alias(list[int]), "here")


def test_a_kernel_reads_them_too() -> None:
    assert read_annotation(Alias(int)) == read_annotation(int) is not None
    assert read_annotation(Alias(Array[T], T)[f32]) == read_annotation(Array[f32]) is not None  # type: ignore[type-var]
    assert read_annotation(Array[typing.cast("Any", Alias(f32))]) == read_annotation(Array[f32])


def test_a_task_is_described_by_what_its_names_stand_for() -> None:
    def summed(images: list[Any], *, each: int) -> Any:
        return sum(images) * each

    def counted(limit: int) -> Any:
        yield limit

    summed.__annotations__ = {"images": Alias(Iterable[T], T)[int], "each": Alias(f32), "return": IMAGE}
    task = as_task(summed)
    schema = json_schema(task)
    assert schema["input"]["properties"]["images"] == {"type": "array", "items": {"type": "integer"}}
    assert schema["input"]["properties"]["each"] == {"type": "number"}
    assert schema["output"]["type"] == "array"
    assert bind_value(task, {"images": [1, 2], "each": 3}) == (([1, 2],), {"each": 3})
    with pytest.raises(InvalidInput, match="images"):
        bind_value(task, {"images": ["a"], "each": 3})
    counted.__annotations__ = {"limit": int, "return": Alias(Iterable[T], T)[int]}
    assert output_type(as_task(counted)) is int
