"""Arguments by name, and results as an object: for callers who know nothing but objects."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.errors import InvalidInput
from hybrid_compute.schema import as_object, bind_object, object_schema
from hybrid_compute.tasks import AnyTask, task


class Point(msgspec.Struct):
    x: float
    y: float = 0.0


@task
def none() -> None: ...
@task
def one(a: int) -> Point: ...  # type: ignore[empty-body]
@task
def one_or_none(a: int = 3) -> int: ...  # type: ignore[empty-body]
@task
def struct(point: Point) -> Point: ...  # type: ignore[empty-body]
@task
def several(a: int, b: str = "b", *, c: bool = False) -> None: ...
@task
def many(*rest: int) -> Iterator[Point]:
    yield from map(Point, rest)


@task
def open_ended(**rest: int) -> None: ...
@task
def all_of_it(a: int, *rest: int, c: int = 0, **others: int) -> None: ...


TASKS = [none, one, one_or_none, struct, several, many, open_ended, all_of_it]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_both_schemas_are_objects(task: AnyTask) -> None:
    """However many parameters there are, and whatever is returned."""
    schemas = object_schema(task)
    assert [schema["type"] for schema in schemas.values()] == ["object", "object"]
    assert schemas["output"]["required"] == ["result"]


def test_one_parameter_is_an_object_of_one() -> None:
    """With its type, its default, and whether it has to be given; what is defined stands at the top."""
    assert object_schema(one)["input"] == {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert object_schema(one_or_none)["input"]["properties"] == {"a": {"type": "integer", "default": 3}}
    assert object_schema(one_or_none)["input"]["required"] == []
    assert object_schema(struct)["input"]["properties"] == {"point": {"$ref": "#/$defs/Point"}}
    assert list(object_schema(struct)["input"]["$defs"]) == ["Point"]
    assert object_schema(many)["output"]["properties"]["result"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/Point"},
    }
    assert list(object_schema(many)["output"]["$defs"]) == ["Point"]


Given = tuple[tuple[Any, ...], dict[str, Any]]
number = st.integers(-(2**70), 2**70)
CALLS: list[tuple[AnyTask, st.SearchStrategy[Given]]] = [
    (none, st.just(((), {}))),
    (one, st.builds(lambda a: ((a,), {}), number)),
    (one_or_none, st.one_of(st.just(((), {})), st.builds(lambda a: ((a,), {}), number))),
    (several, st.builds(lambda a, b, c: ((a, b), {"c": c}), number, st.text(), st.booleans())),
    (many, st.builds(lambda rest: (tuple(rest), {}), st.lists(number))),
    (open_ended, st.builds(lambda rest: ((), rest), st.dictionaries(st.text(), number))),
    (all_of_it, st.builds(lambda rest, c: ((1, *rest), {"c": c, "z": c}), st.lists(number), number)),
]


@pytest.mark.parametrize(("task", "calls"), CALLS, ids=[task.name for task, _ in CALLS])
def test_arguments_come_back_from_an_object_as_they_went_in(task: AnyTask, calls: st.SearchStrategy[Given]) -> None:
    """`bind_object` undoes `as_object`, also with JSON in between."""

    @given(calls)
    def there_and_back(call: Given) -> None:
        fields = msgspec.json.decode(msgspec.json.encode(as_object(task, *call)))
        assert bind_object(task, fields) == call

    there_and_back()


@pytest.mark.parametrize(
    ("task", "fields", "reason"),
    [
        (none, {"a": 1}, "unknown field `a`"),
        (one, {}, "missing required field `a`"),
        (one, {"b": 1}, "unknown field `b`"),
        (one, {"a": None}, r"Expected `int`, got `null` - at `\$\.a`"),
        (struct, {"point": {"x": "1"}}, r"Expected `float`, got `str` - at `\$\.point\.x`"),
        (several, {"a": 1, "c": 0}, r"Expected `bool`, got `int` - at `\$\.c`"),
        (many, {"rest": [1, "2"]}, r"Expected `int`, got `str` - at `\$\.rest\[1\]`"),
        (all_of_it, {"a": 1, "z": "2"}, r"Expected `int`, got `str` - at `\$\.z`"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(task: AnyTask, fields: dict[str, Any], reason: str) -> None:
    """Also where there is but one parameter, whose name the caller has written."""
    with pytest.raises(InvalidInput, match=f"the input of task '{task.name}' is not valid: .*{reason}"):
        bind_object(task, fields)


@pytest.mark.parametrize(("task", "args", "kwargs"), [(none, (1,), {}), (one, (), {}), (one, (), {"b": 1})])
def test_arguments_that_a_task_does_not_take_have_no_object(
    task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """The caller hears it before anything is sent."""
    with pytest.raises(InvalidInput, match="does not take these arguments"):
        as_object(task, args, kwargs)
