"""Schemas from type hints: every kind of signature, every way in which an input can be wrong."""

import base64
import functools
import json
import math
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict, TypeVar

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hybrid_compute.errors import InvalidInput, NotTransferable
from hybrid_compute.schema import bind_json, bind_value, encode_json, input_type, json_schema, output_type
from hybrid_compute.tasks import Task, as_task, task

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers

T = TypeVar("T")


@dataclass
class Job:
    image: bytes
    width: int = 640


class Point(msgspec.Struct):
    x: float
    y: float = 0.0


class Options(TypedDict):
    deep: bool
    limit: NotRequired[int]


MISSING = object()


@task
def double(x: int) -> int:
    return 2 * x


@task
def add(a: int, b: int = 2) -> int:
    return a + b


@task
def nothing() -> None: ...


@task
def resize(job: Job, *, quality: int | None = None) -> bytes:
    return job.image


@task
def mixed(first: int, /, second: str = "two", *rest: float, key: bool = False) -> None: ...


@task
def open_ended(a: int, **more: int) -> None: ...


@task
def many(*numbers: int) -> int:
    return sum(numbers)


@task
def named(**numbers: int) -> int:
    return sum(numbers.values())


@task
def only_positions(a: int = 1, b: int = 2, /, c: int = 3) -> None: ...


@task
def sentinel(a: int, b: Any = MISSING) -> bool:
    return b is MISSING


@task
def unhinted(a, b=None):  # type: ignore[no-untyped-def]
    return a


@task
def blur(image: NDArray[np.float64], radius: int = 1) -> NDArray[np.float64]:
    return image


@task
def words(text: str) -> Iterator[str]:
    yield from text.split()


@task
async def ticks(until: datetime) -> AsyncIterator[Point]:
    yield Point(1.0)


# What a task takes.


def test_one_parameter_takes_the_input_itself() -> None:
    """The type of the input is the parameter's own."""
    assert input_type(double) is int
    assert bind_json(double, b"21") == ((21,), {})
    assert json_schema(double) == {"input": {"type": "integer"}, "output": {"type": "integer"}}


def test_one_parameter_may_itself_be_an_object() -> None:
    """A dataclass, a TypedDict or a Struct that is the only parameter is not unpacked."""

    def resized(job: Job) -> None: ...
    def searched(options: Options) -> None: ...
    def moved(point: Point) -> None: ...

    assert bind_json(as_task(resized), b'{"image": "aGk="}') == ((Job(b"hi"),), {})
    assert bind_json(as_task(searched), b'{"deep": true}') == (({"deep": True},), {})
    assert bind_json(as_task(moved), b'{"x": 1}') == ((Point(1.0),), {})
    assert json_schema(as_task(moved))["input"]["$defs"]["Point"]["required"] == ["x"]


def test_several_parameters_take_an_object_of_them() -> None:
    """Its fields are the parameters, and what has a default may be left out."""
    assert issubclass(input_type(add), msgspec.Struct)
    assert bind_json(add, b'{"a": 1, "b": 5}') == ((1, 5), {})
    assert bind_json(add, b'{"a": 1}') == ((1,), {})
    assert json_schema(add)["input"] == {
        "title": "add",
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
        "required": ["a"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize("data", [b"", b"null"])
def test_no_parameter_takes_null_or_nothing(data: bytes) -> None:
    """A client that drops an undefined input is understood."""
    assert input_type(nothing) is type(None)
    assert bind_json(nothing, data) == ((), {})
    assert json_schema(nothing) == {"input": {"type": "null"}, "output": {"type": "null"}}


def test_a_missing_input_leaves_every_default_as_it_is() -> None:
    """Where there is none, it is null."""

    def defaulted(x: int = 5) -> int:
        return x

    def optional(x: int | None) -> None: ...

    assert bind_json(as_task(defaulted), b"") == ((), {})
    assert bind_value(as_task(defaulted)) == ((), {})
    assert bind_json(as_task(optional), b"") == ((None,), {})
    assert bind_json(only_positions, b"") == ((), {})
    assert bind_json(many, b"") == ((), {})
    assert bind_json(named, b"") == ((), {})
    with pytest.raises(InvalidInput, match="missing required field `a`"):
        bind_json(add, b"")
    with pytest.raises(InvalidInput, match="Expected `int`, got `null`"):
        bind_json(double, b"")


def test_a_default_that_is_not_given_never_travels() -> None:
    """A task that asks whether it got its own sentinel still can, in any process."""
    args, kwargs = bind_json(sentinel, b'{"a": 1}')
    assert (args, kwargs) == ((1,), {})
    assert sentinel(*args, **kwargs)
    assert "default" not in json_schema(sentinel)["input"]["properties"]["b"]


def test_keyword_only_parameters_go_by_name() -> None:
    """And an optional dataclass beside them is described once."""
    assert bind_json(resize, b'{"job": {"image": "aGk="}, "quality": 9}') == ((Job(b"hi"),), {"quality": 9})
    assert bind_json(resize, b'{"job": {"image": "aGk="}}') == ((Job(b"hi"),), {})
    assert json_schema(resize)["input"]["properties"]["quality"]["default"] is None


def test_variable_arguments_beside_others_are_a_list_of_their_name() -> None:
    """What stands before them then goes by position, with its default where it was left out."""
    assert bind_json(mixed, b'{"first": 1, "rest": [1, 2.5], "key": true}') == ((1, "two", 1.0, 2.5), {"key": True})
    assert bind_json(mixed, b'{"first": 1, "second": "2"}') == ((1, "2"), {})
    assert json_schema(mixed)["input"]["properties"]["rest"] == {"type": "array", "items": {"type": "number"}}


def test_variable_arguments_alone_are_the_whole_input() -> None:
    """`*args` is a list, `**kwargs` an object."""
    assert bind_json(many, b"[1, 2, 3]") == ((1, 2, 3), {})
    assert bind_json(named, b'{"a": 1, "b": 2}') == ((), {"a": 1, "b": 2})
    assert json_schema(named)["input"] == {"type": "object", "additionalProperties": {"type": "integer"}}


def test_variable_keywords_beside_others_are_the_remaining_fields() -> None:
    """They are validated too, and the schema allows them."""
    assert bind_json(open_ended, b'{"a": 1, "z": 2}') == ((1,), {"z": 2})
    assert bind_value(open_ended, {"z": 2, "a": 1}) == ((1,), {"z": 2})
    assert json_schema(open_ended)["input"]["additionalProperties"] == {"type": "integer"}
    with pytest.raises(InvalidInput, match=r"Expected `int`, got `str` - at `\$\.z`"):
        bind_json(open_ended, b'{"a": 1, "z": "two"}')


def test_a_fault_inside_an_extra_field_is_named_by_its_whole_path() -> None:
    """The field first, then the way within it."""

    def deep(a: int, **more: list[int]) -> None: ...

    with pytest.raises(InvalidInput, match=r"at `\$\.z\[1\]`"):
        bind_json(as_task(deep), b'{"a": 1, "z": [1, "x"]}')


def test_positional_only_parameters_keep_their_places() -> None:
    """One left out before another that is given has its default."""
    assert bind_json(only_positions, b'{"b": 5}') == ((1, 5), {})
    assert bind_json(only_positions, b'{"c": 5}') == ((), {"c": 5})
    assert bind_json(only_positions, b'{"a": 7, "c": 5}') == ((7,), {"c": 5})


def test_missing_hints_take_anything() -> None:
    """A task without hints is called with what came."""
    assert bind_json(unhinted, b'{"a": [1, {"x": null}]}') == (([1, {"x": None}],), {})
    assert json_schema(unhinted)["input"]["properties"] == {"a": {}, "b": {"default": None}}
    assert json_schema(unhinted)["output"] == {}


def test_hints_in_quotes_are_resolved() -> None:
    """As under `from __future__ import annotations`."""

    def quoted(job: "Job", count: "int" = 1) -> "list[Job]":
        return [job] * count

    assert bind_json(as_task(quoted), b'{"job": {"image": "aGk="}}') == ((Job(b"hi"),), {})
    assert output_type(as_task(quoted)) == list[Job]


def test_hints_that_cannot_be_resolved_are_a_clear_error() -> None:
    """It names the task, its place and the name that is not there."""

    def priced(amount: "OnlyForCheckers") -> None: ...

    place = r"test_schema\.py:\d+"
    with pytest.raises(TypeError, match=rf"hints of task 'priced' \(.*{place}\) cannot be resolved.*OnlyForCheckers"):
        json_schema(as_task(priced))


def test_a_function_without_a_signature_is_a_clear_error() -> None:
    """Some builtins do not say what they take."""
    with pytest.raises(TypeError, match=r"task 'min'.*has no signature"):
        input_type(as_task(min))


def test_constraints_and_aliases_of_types_hold() -> None:
    """`Annotated` with msgspec's constraints, type variables, enumerations of literals."""

    def bounded(x: Annotated[int, msgspec.Meta(ge=0)]) -> None: ...
    def generic(x: T) -> T:
        return x

    assert json_schema(as_task(bounded))["input"] == {"type": "integer", "minimum": 0}
    with pytest.raises(InvalidInput, match="`int` >= 0"):
        bind_json(as_task(bounded), b"-1")
    assert bind_json(as_task(generic), b"[1]") == (([1],), {})


def test_any_callable_has_a_schema() -> None:
    """Partials, bound methods, objects with `__call__`, classes, decorated functions and builtins."""

    class Shop:
        def __init__(self, name: str, size: int = 1) -> None:
            self.name = name

        def __call__(self, count: int) -> str:
            return self.name * count

        def sell(self, what: str, count: int) -> bool:
            return bool(what) and count > 0

    def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return inner

    @functools.lru_cache
    def cached(x: int) -> int:
        return x

    assert bind_json(Task(functools.partial(add.fn, 1)), b"3") == ((3,), {})
    assert bind_json(Task(Shop("x")), b"2") == ((2,), {})
    assert input_type(Task(Shop("x"))) is int
    assert bind_json(Task(Shop("x").sell), b'{"what": "y", "count": 1}') == (("y", 1), {})
    assert bind_json(Task(Shop), b'{"name": "x"}') == (("x",), {})
    assert output_type(Task(Shop)) is Shop
    assert input_type(Task(logged(double.fn))) is int
    assert input_type(Task(cached)) is int
    assert bind_json(Task(pow), b'{"base": 2, "exp": 3}') == ((2, 3), {})


# What a task gives.


def test_a_generator_gives_its_items() -> None:
    """The output of a streaming task is one item."""
    assert output_type(words) is str
    assert output_type(ticks) is Point
    assert json_schema(words)["output"] == {"type": "string"}


def test_a_generator_without_a_hint_gives_anything() -> None:
    """No hint, and a hint without an item."""

    def bare(x: int):  # type: ignore[no-untyped-def]
        yield x

    def vague(x: int) -> Iterable:  # type: ignore[type-arg]
        yield x

    assert output_type(as_task(bare)) is Any
    assert output_type(as_task(vague)) is Any


# Types that msgspec does not know.


def test_the_schema_of_an_array_is_a_list() -> None:
    """That is what JSON gives; of what numbers, only the name says."""
    schema = json_schema(blur)
    described = {"type": "array", "description": "numpy.ndarray"}
    assert schema["input"]["properties"]["image"] == described
    assert schema["output"] == described


def test_an_array_is_taken_as_itself_and_from_lists() -> None:
    """A caller in Python may give it; from JSON it comes as lists of numbers, and as nothing else."""
    image = np.zeros(3)
    args, _ = bind_value(blur, {"image": image})
    assert args[0] is image
    args, _ = bind_json(blur, b'{"image": [[1.5, 2], [3, 4]]}')
    assert args[0].tolist() == [[1.5, 2.0], [3.0, 4.0]]
    for odd in (b'"x"', b"5", b'["x"]', b"[[1], [2, 3]]", b"[null]", b'[{"a": 1}]'):
        with pytest.raises(InvalidInput, match=r"Expected .* at `\$\.image`"):
            bind_json(blur, b'{"image": %b}' % odd)


def test_paths_come_from_text() -> None:
    """Also one of several types, and within a list."""

    def read(path: Path, others: list[str | Path] = [], default: Path = Path("here")) -> None: ...  # noqa: B006

    schema = json_schema(as_task(read))["input"]["properties"]
    assert schema["path"] == {"type": "string", "format": "path"}
    assert schema["default"]["default"] == "here"
    assert bind_json(as_task(read), b'{"path": "a/b", "others": ["c"]}') == ((Path("a/b"), ["c"]), {})
    with pytest.raises(InvalidInput, match=r"Expected `str | pathlib\.Path`, got `int` - at `\$\.others\[0\]`"):
        bind_json(as_task(read), b'{"path": "a", "others": [1]}')


def test_a_union_that_msgspec_refuses_takes_the_first_member_that_fits() -> None:
    """Two classes, two kinds of list, or a class of its own beside a number."""

    def either(x: Job | Point | list[int] | np.ndarray[Any, Any] | None) -> None: ...

    bound = as_task(either)
    assert bind_json(bound, b'{"image": "aGk="}') == ((Job(b"hi"),), {})
    assert bind_json(bound, b'{"x": 1}') == ((Point(1.0),), {})
    assert bind_json(bound, b"[1]") == (([1],), {})
    assert bind_json(bound, b"null") == ((None,), {})
    with pytest.raises(InvalidInput, match="got `str`"):
        bind_json(bound, b'"x"')


def test_an_enumeration_of_mixed_values_comes_from_them() -> None:
    """Which msgspec refuses."""

    class Level(Enum):
        LOW = 1
        HIGH = "high"

    def alarm(level: Level) -> None: ...

    assert bind_json(as_task(alarm), b'"high"') == ((Level.HIGH,), {})
    with pytest.raises(InvalidInput, match="3 is not a valid"):
        bind_json(as_task(alarm), b"3")


def test_an_iterable_comes_as_a_list() -> None:
    """With its items checked."""

    def total(numbers: Iterable[float]) -> float:
        return sum(numbers)

    assert bind_json(as_task(total), b"[1, 2.5]") == (([1.0, 2.5],), {})
    with pytest.raises(InvalidInput, match=r"at `\$\[0\]`"):
        bind_json(as_task(total), b'["x"]')


def test_functions_and_other_things_that_json_cannot_give_are_refused() -> None:
    """Whatever the hint, the schema exists."""

    def apply(fn: Callable[[int], int], items: Iterator[int], anything: object = None) -> None: ...

    assert set(json_schema(as_task(apply))["input"]["properties"]) == {"fn", "items", "anything"}
    with pytest.raises(InvalidInput, match=r"Expected `collections\.abc\.Callable"):
        bind_json(as_task(apply), b'{"fn": "print", "items": []}')


# What is not valid.


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'"21"', "Expected `int`, got `str`"),
        (b"1.5", "Expected `int`, got `float`"),
        (b"1e999", "Number out of range"),
        (b"9" * 5000, "Integer value out of range"),
        (b"NaN", "malformed"),
        (b"21 22", "trailing characters"),
        (b"2.", "malformed|truncated"),
        (b"\xff", "malformed"),
        (b'"\xff"', "Expected `int`"),
        (b"[" * 100_000, "Expected `int`, got `array`"),
    ],
)
def test_json_that_does_not_fit_is_invalid_input(data: bytes, reason: str) -> None:
    """One error for all the ways in which an input can be wrong, and it names the task."""
    with pytest.raises(InvalidInput, match=rf"the input of task 'double' is not valid: .*({reason})") as caught:
        bind_json(double, data)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": "x"}', r"Expected `int`, got `str` - at `\$\.a`"),
        (b'{"a": 1, "c": 2}', "unknown field `c`"),
        (b'{"b": 1}', "missing required field `a`"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
    ],
)
def test_an_object_that_does_not_fit_names_the_path(data: bytes, reason: str) -> None:
    """The same whether it comes as JSON or as plain values."""
    with pytest.raises(InvalidInput, match=reason):
        bind_json(add, data)
    with pytest.raises(InvalidInput, match=reason):
        bind_value(add, json.loads(data))


def test_keys_that_are_numbers_come_from_text() -> None:
    """JSON has no others; a caller in Python may give the real ones."""

    def renamed(names: dict[int, str]) -> None: ...

    expected = (({1: "one"},), {})
    assert bind_json(as_task(renamed), b'{"1": "one"}') == expected
    assert bind_value(as_task(renamed), {"1": "one"}) == expected
    assert bind_value(as_task(renamed), {1: "one"}) == expected


def test_a_value_deep_inside_is_named_by_its_path() -> None:
    """Through fields and lists."""

    def resize_all(jobs: list[Job]) -> None: ...

    with pytest.raises(InvalidInput, match=r"Expected `int`, got `str` - at `\$\[1\]\.width`"):
        bind_json(as_task(resize_all), b'[{"image": ""}, {"image": "", "width": "wide"}]')


def test_nesting_without_end_is_invalid_input() -> None:
    """A hundred thousand brackets are a poor input, and no RecursionError of ours."""
    with pytest.raises(InvalidInput, match="nested too deeply"):
        bind_json(unhinted, b'{"a": ' + b"[" * 100_000)


def test_bytes_that_are_not_text_are_invalid_input() -> None:
    """Bad UTF-8 within a string."""
    with pytest.raises(InvalidInput, match="not UTF-8"):
        bind_json(words, b'"\xed\xa0\x80"')


@given(st.binary(max_size=60))
def test_no_bytes_bring_anything_but_arguments_or_invalid_input(data: bytes) -> None:
    """Whatever arrives at the door."""
    for each in (double, add, nothing, resize, mixed, open_ended, many, named, unhinted, blur, words, ticks):
        try:
            args, kwargs = bind_json(each, data)
        except InvalidInput:
            continue
        assert isinstance(args, tuple)
        assert isinstance(kwargs, dict)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_and_plain_values_are_judged_alike(value: Any) -> None:
    """It does not matter who decoded the input."""

    def judged(bind: Callable[[], Any]) -> Any:
        try:
            return bind()
        except InvalidInput:
            return "invalid"

    data = json.dumps(value).encode()
    for each in (double, add, nothing, open_ended, many, named, unhinted, words):
        assert judged(functools.partial(bind_json, each, data)) == judged(functools.partial(bind_value, each, value))


@given(st.integers(-(2**60), 2**60), st.none() | st.integers(0, 100), st.lists(st.floats(allow_nan=False)))
def test_what_was_bound_can_be_called(first: int, quality: int | None, rest: list[float]) -> None:
    """The arguments that come out fit the function they were bound for."""
    fields = {"first": first, "rest": rest} | ({"key": True} if quality else {})
    args, kwargs = bind_value(mixed, fields)
    assert args[0] == first
    assert list(args[2:]) == (rest or list(args[2:]))
    mixed(*args, **kwargs)


# Results.


def test_results_become_json() -> None:
    """Bytes as base64, arrays and their scalars as numbers, paths as text."""

    class Frozen(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return len(key)

        def __iter__(self) -> Iterator[str]:
            yield "ab"

        def __len__(self) -> int:
            return 1

    assert encode_json(b"hi") == b'"aGk="'
    assert encode_json(np.arange(4).reshape(2, 2)) == b"[[0,1],[2,3]]"
    assert encode_json({"mean": np.float64(1.5), "count": np.int64(3)}) == b'{"mean":1.5,"count":3}'
    assert encode_json(Path("a") / "b") == b'"a/b"'
    assert encode_json(2**70) == str(2**70).encode()
    assert encode_json(datetime(2020, 1, 2, tzinfo=UTC)) == b'"2020-01-02T00:00:00Z"'
    assert encode_json(Job(b"hi")) == b'{"image":"aGk=","width":640}'
    assert encode_json(Frozen()) == b'{"ab":2}'


@given(JSON)
@example([None, -0.0, 5e-324, sys.float_info.max, 2**63, -(2**63), "null"])
def test_results_of_json_values_come_back(value: Any) -> None:
    """What JSON can say is said exactly."""
    assert json.loads(encode_json(value)) == value


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan], ids=str)
def test_what_is_no_number_never_becomes_null(number: float) -> None:
    """JSON cannot say it, so it is refused by its path; a null that was meant stays one."""

    def default(first: float = number, second: float | None = None) -> float: ...

    for value, path in (
        (number, "the value"),
        ({"a": [1.0, number]}, r"\['a'\]\[1\]"),
        ({"a": {number}}, r"\['a'\]\[0\]"),
        (Report([None, number]), r"\['lines'\]\[1\]"),
        (np.array([[1.0, number]]), r"\[0\]\[1\]"),
        (np.float64(number), "the value"),
    ):
        with pytest.raises(NotTransferable, match=f"^{path} is {number} and cannot be JSON"):
            encode_json(value)
    assert encode_json({"a": [1.0, None]}) == b'{"a":[1.0,null]}'
    assert json_schema(as_task(default))["input"]["properties"]["first"] == {"type": "number"}


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan], ids=str)
def test_what_is_no_number_goes_in_as_itself_or_not_at_all(number: float) -> None:
    """A Python value is carried as it is; texts that other programs write for it are no JSON."""

    def unlike(value: float) -> float: ...

    (bound,), _ = bind_value(as_task(unlike), number)
    assert repr(bound) == repr(number)
    for text in (str(number), json.dumps(number), "1e999"):
        with pytest.raises(InvalidInput):
            bind_json(as_task(unlike), text.encode())


@dataclass
class Report:
    lines: list[object] = field(default_factory=list)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1j, "the value is of type complex"),
        ({"a": [1, {"b": object()}]}, r"\['a'\]\[1\]\['b'\] is of type object"),
        (Report([1, 2j]), r"\.lines\[1\] is of type complex"),
        (["fine", "\ud800"], r"\[1\] is of type str and cannot be JSON: .*surrogates"),
        ({(1, 2): 3}, "the value is of type dict"),
    ],
)
def test_a_result_that_json_cannot_say_is_named_by_its_path(value: Any, reason: str) -> None:
    """The person who reads the error sees which part it was."""
    with pytest.raises(NotTransferable, match=reason):
        encode_json(value)


def test_a_result_that_contains_itself_is_not_transferable() -> None:
    """Instead of a RecursionError out of the door."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotTransferable, match="without end"):
        encode_json(value)


def test_bytes_go_in_as_base64_and_come_out_so() -> None:
    """The two directions fit together."""

    def echo(data: bytes) -> bytes:
        return data

    sent = encode_json(b"\x00\xff")
    assert json.loads(sent) == base64.b64encode(b"\x00\xff").decode()
    assert bind_json(as_task(echo), sent) == ((b"\x00\xff",), {})
