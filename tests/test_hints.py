"""Names for type hints: `type` statements, and what stands for them before Python 3.12."""

import sys
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from types import GenericAlias
from typing import Annotated, Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from hybrid_compute.errors import InvalidInput
from hybrid_compute.hints import bare, endless, unaliased
from hybrid_compute.kernels import Array, f32
from hybrid_compute.kernels.types import read_annotation
from hybrid_compute.sandbox.values import types_in
from hybrid_compute.schema import bind_value, json_schema, output_type
from hybrid_compute.tasks import AnyTask, as_task
from hybrid_compute.wasm import kinds, signature

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
    scope: dict[str, Any] = {"Annotated": Annotated, "NDArray": NDArray, "np": np, "Callable": Callable}
    exec(statement, scope)
    return scope["X"]


@dataclass
class Node:
    below: "list[Node]"


def naming_itself(value: Callable[[Any], Any]) -> Alias:
    """The alias of what `value` makes of that same alias."""
    alias = Alias(None)
    alias.__value__ = value(alias)
    return alias


def taking(hint: Any) -> AnyTask:
    """A task whose one parameter has this hint."""

    def walk(tree: Any) -> None: ...

    walk.__annotations__ = {"tree": hint, "return": None}
    return as_task(walk)


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


ITSELF = naming_itself(lambda alias: alias)
TREE = naming_itself(lambda alias: list[alias] | int)
PICTURES = naming_itself(lambda alias: np.ndarray | list[alias])
GROWING = naming_itself(lambda alias: list[alias[list[T]]])


@pytest.mark.parametrize("hint", [ITSELF, naming_itself(Alias)])
def test_a_name_for_nothing_but_itself_is_refused(hint: Any) -> None:
    with pytest.raises(TypeError, match=r"the type .*Alias.* stands for nothing but itself"):
        unaliased(hint)


@pytest.mark.parametrize(
    ("hint", "named"),
    [
        (ITSELF, ITSELF),
        (TREE, TREE),
        (dict[str, TREE], TREE),  # type: ignore[valid-type]
        (Alias(tuple[TREE, str]), TREE),  # type: ignore[valid-type]
        (GROWING[int], GROWING),
        (Annotated[TREE, "of files"], TREE),
        (int, None),
        (Alias(T, T)[Alias(T, T)[int]], None),
        (dict[Alias(int), Alias(int)], None),  # type: ignore[misc]
        (PAIR[PAIR[int, str], Alias(str)], None),
    ],
)
def test_who_speaks_of_itself_is_found(hint: Any, named: Any) -> None:
    assert endless(hint) is named


@pytest.mark.parametrize("hint", [ITSELF, TREE, dict[str, TREE], PICTURES])  # type: ignore[valid-type]
def test_a_task_of_what_speaks_of_itself_is_refused_in_one_sentence(hint: Any) -> None:
    """It was a bare RecursionError, or a loop without end."""
    refusal = r"^the type hint of 'tree' of task 'walk' \(.*\) has no end: the type .*Alias.* speaks of itself, which"
    with pytest.raises(TypeError, match=refusal):
        json_schema(taking(hint))


def test_so_is_that_of_a_type_statement() -> None:
    """By its name, and also where it is in the field of a class."""
    tree = stated("type X = list[X] | int")

    @dataclass
    class Held:
        below: tree  # type: ignore[valid-type]

    with pytest.raises(TypeError, match="the type X speaks of itself"):
        json_schema(taking(tree))
    with pytest.raises(TypeError, match=r"a type within .*Held speaks of itself"):
        json_schema(taking(Held))


def test_a_class_may_hold_its_own_kind() -> None:
    task = taking(Alias(list[Node]))
    ((tree,), _) = bind_value(task, [{"below": [{"below": []}]}])
    assert tree == [Node([Node([])])]


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


SECONDS = Alias(Annotated[float, "seconds"])


@pytest.mark.parametrize(
    ("hint", "meant"),
    [
        (Annotated[int, "of bytes"], int),
        (SECONDS, float),
        (Annotated[SECONDS, "since midnight"], float),
        (Alias(Annotated[list[T], "sorted"], T)[int], list[int]),
        (list[SECONDS], list[SECONDS]),  # type: ignore[valid-type]
        (int | None, int | None),
    ],
)
def test_bare_is_without_what_is_annotated(hint: Any, meant: Any) -> None:
    assert bare(hint) == meant


def test_a_guest_takes_what_is_annotated_behind_a_name() -> None:
    """As it takes what is annotated without one."""

    def wait(time: float, image: Any) -> float: ...

    image = np.ndarray[Any, np.dtype[Alias(Annotated[np.float32, "linear"])]]  # type: ignore[misc,type-var]
    wait.__annotations__ = {"time": SECONDS, "image": Alias(Annotated[image, "grey"]), "return": SECONDS}
    assert str(signature.of_stub(wait)) == "(time: float, image: NDArray[float32]) -> float"
    wait.__annotations__["return"] = Alias(Annotated[None, "it waits"])
    assert signature.of_stub(wait).result is None


def test_a_guest_takes_a_type_statement_of_what_is_annotated() -> None:
    assert str(kinds.of_hint(stated("type X = Annotated[int, 'of bytes']"), "here")) == "int"
    assert str(kinds.of_hint(stated("type X[T] = Annotated[NDArray[T], 3]")[np.float64], "here")) == "NDArray[float64]"


def test_what_is_annotated_says_nothing_of_what_comes_out_of_a_sandbox() -> None:
    assert set(types_in(Alias(Annotated[dict[str, Annotated[date, str]], bytes]))) == {"dict", "str", "date"}


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
