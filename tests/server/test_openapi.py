"""The OpenAPI document is valid, complete in itself, and true: what is made of it is answered as it says."""

import enum
import json
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import unquote

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import CheckFunction
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.runtime import Runtime
from hybrid_compute.server.openapi import describe
from hybrid_compute.tasks import AnyTask, Task, TaskRegistry, task
from tests.server.serving import Served, serving

# Tasks of every kind.


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: float
    y: float = 0.0


@dataclass
class Shape:
    """Shared by two tasks, with a struct inside that they share too."""

    corners: list[Point]
    colour: Colour = Colour.RED
    labels: dict[str, str] = field(default_factory=dict)


class Tree(msgspec.Struct):
    value: int
    children: list["Tree"] = []


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


def another() -> type:
    """A class that has the name of one above, and other fields."""

    @dataclass
    class Point:
        name: str

    return Point


@task
def outline(shape: Shape, closed: bool = False) -> list[Point]:
    """The corners of a shape.

    The first comes again at the end if it is closed.
    """
    return shape.corners + shape.corners[:1] * closed


@task
def paint(shape: Shape, colour: Colour) -> Shape:
    return Shape(shape.corners, colour, shape.labels)


@task
def name_point(point: another()) -> Any:  # type: ignore[valid-type]
    return point


@task
def prune(tree: Tree, depth: int = 1) -> Tree:
    return Tree(tree.value, [prune(each, depth - 1) for each in tree.children] if depth > 0 else [])


@task
def area(form: Circle | Square) -> float:
    return form.radius if isinstance(form, Circle) else form.side


@task
def choose(kind: Literal["fast", "slow", 3], limit: int | None = None, weights: tuple[float, ...] = ()) -> str:
    return f"{kind}, {limit}, {len(weights)}"


@task
def gather(first: int, *rest: int, scale: int = 1, **named: Point) -> dict[str, Any]:
    return {"sum": scale * (first + sum(rest)), "named": sorted(named)}


@task
def all_positional(*numbers: float) -> int:
    return len(numbers)


@task
def all_named(**texts: str) -> list[str]:
    return sorted(texts)


@task
def nothing() -> None:
    return None


@task
def either(value: int | str | None) -> int | str | None:
    return value


@task(name="odd/näme {x}?")
def odd(x: int = 3) -> int:
    return x


@task
def items(to: Literal[1, 2, 3]) -> Iterator[Point]:
    yield from (Point(each) for each in range(to))


@task
async def later(texts: list[str]) -> AsyncIterator[str]:
    for text in texts:
        yield text


@task
def anything(value: Any = None) -> Any:
    return value


@task
def compute(record: dict[str, list[int]]) -> dict[str, list[int]]:
    """Has the name of an operation of ours."""
    return record


@task
def next_day(day: datetime) -> datetime:
    return day


@task
def blob(data: bytes) -> bytes:
    return data


@task
def Failure(reason: str) -> None:  # noqa: N802
    raise ValueError(reason)


@task
def amount(values: NDArray[Any]) -> int:
    return int(values.size)


FUZZED: list[AnyTask] = [
    outline,
    paint,
    name_point,
    prune,
    area,
    choose,
    gather,
    all_positional,
    all_named,
    nothing,
    either,
    odd,
    items,
    later,
    anything,
    compute,
]
FORMATS: list[AnyTask] = [next_day, blob, amount]
"""Texts in a format that the schema names and JSON Schema cannot enforce: what fits the schema may still be refused."""
EVERY: list[AnyTask] = [*FUZZED, *FORMATS, Failure]


def document(*tasks: AnyTask, **more: Any) -> dict[str, Any]:
    asked = {"title": "Test", "version": "1", "prefix": "", "tokens": False, **more}
    return describe({each.name: each for each in tasks}, **asked)


def references(part: Any) -> Iterator[str]:
    """Every reference in a document."""
    if isinstance(part, list):
        for each in part:
            yield from references(each)
    elif isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        if isinstance(part.get("discriminator"), dict):
            yield from part["discriminator"]["mapping"].values()
        for each in part.values():
            yield from references(each)


def follow(whole: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for step in reference[2:].split("/"):
        whole = whole[step]
    return whole


def input_of(api: dict[str, Any], name: str) -> Any:
    return api["paths"][f"/tasks/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]


def output_of(api: dict[str, Any], name: str) -> Any:
    answer = api["paths"][f"/tasks/{name}"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    return answer["properties"]["result"]


# What it says.


@pytest.mark.parametrize("tasks", [EVERY, [], [nothing]], ids=["every kind", "none", "one"])
@pytest.mark.parametrize("more", [{}, {"tokens": True, "prefix": "/below/here"}], ids=["open", "guarded"])
def test_the_document_is_valid(tasks: list[AnyTask], more: dict[str, Any]) -> None:
    """It is OpenAPI 3.1, with any tasks, and JSON."""
    api = document(*tasks, **more)
    OpenAPIV31SpecValidator(json.loads(json.dumps(api))).validate()


def test_every_reference_leads_somewhere() -> None:
    """Also those that tell the members of a union apart; and nothing is defined that no reference leads to."""
    api = document(*EVERY)
    led = set(references(api))
    assert all(follow(api, reference) for reference in led)
    assert {f"#/components/schemas/{name}" for name in api["components"]["schemas"]} <= led
    assert {f"#/components/responses/{name}" for name in api["components"]["responses"]} <= led


def test_a_class_that_two_tasks_share_is_described_once() -> None:
    """And so is what it has inside."""
    api = document(outline, paint)
    assert sorted(api["components"]["schemas"]) == ["Colour", "Failure", "Point", "Result", "Shape"]
    assert output_of(api, "paint") == {"$ref": "#/components/schemas/Shape"}
    assert input_of(api, "paint")["properties"]["shape"] == {"$ref": "#/components/schemas/Shape"}


def test_two_classes_of_one_name_are_described_each_for_itself() -> None:
    """The second is named after its task, whichever comes first; within one task too."""

    @task
    def rename(point: another()) -> list[Point]:  # type: ignore[valid-type]
        return []

    for tasks in ([outline, name_point], [name_point, outline]):
        api = document(*tasks)
        described = [
            follow(api, each["$ref"]) for each in (input_of(api, "name_point"), output_of(api, "outline")["items"])
        ]
        assert [list(each["properties"]) for each in described] == [["name"], ["x", "y"]]
    api = document(rename)
    described = [follow(api, each["$ref"]) for each in (input_of(api, "rename"), output_of(api, "rename")["items"])]
    assert [list(each["properties"]) for each in described] == [["name"], ["x", "y"]]


def test_classes_that_look_alike_but_lead_elsewhere_are_two() -> None:
    """A definition is the same only if all that it leads to is."""

    def holder(inner: type) -> AnyTask:
        holding = msgspec.defstruct("Holder", [("point", inner)])

        def hold(value: Any) -> None: ...

        hold.__annotations__["value"] = holding
        return Task(hold, name=f"hold_{inner.__qualname__.partition('.')[0]}")

    api = document(holder(Point), holder(another()))
    holders = [each for name, each in api["components"]["schemas"].items() if name.endswith("Holder")]
    assert len(holders) == 2
    assert len({each["properties"]["point"]["$ref"] for each in holders}) == 2


def test_a_name_that_a_task_takes_is_not_taken_from_ours() -> None:
    """A class `Failure`, a task `compute`: names stay unique, and ours mean what they mean."""

    class Failure(msgspec.Struct):
        cause: int

    def examine(failure: Any) -> None: ...

    examine.__annotations__["failure"] = Failure
    api = document(compute, Task(examine))
    assert list(api["components"]["schemas"]["Failure"]["properties"]) == ["error", "code", "details"]
    assert input_of(api, "examine") == {"$ref": "#/components/schemas/examine.Failure"}
    operations = [path["post"]["operationId"] for path in api["paths"].values()]
    assert sorted(operations) == ["compute", "compute_", "examine"]


def test_a_task_with_an_odd_name_has_an_address() -> None:
    """What a path cannot have is escaped in it, braces above all, which would be taken for a parameter."""
    (path,) = (path for path in document(odd)["paths"] if path != "/compute")
    assert unquote(path) == "/tasks/odd/näme {x}?"
    assert not set(path) & set("{}? ")


def test_every_answer_is_documented() -> None:
    """Each status that a call can be answered with is there, and names the codes that come with it."""
    responses = document(nothing)["components"]["responses"]
    answers = document(nothing)["paths"]["/tasks/nothing"]["post"]["responses"]
    assert list(answers) == [
        str(each) for each in (200, 400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504)
    ]
    assert responses["Error422"]["description"] == "`invalid_input`"
    assert "`worker_lost`" in responses["Error500"]["description"]
    assert "Retry-After" in responses["Error429"]["headers"]


def test_the_addresses_lie_below_the_place_where_the_app_is_mounted() -> None:
    """A generated client finds the server there."""
    assert document(nothing, prefix="/below")["servers"] == [{"url": "/below"}]
    assert document(nothing)["servers"] == [{"url": "/"}]


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from([int, str, list[int]])), min_size=1, max_size=6),
)
def test_every_task_keeps_its_own_types(fields: list[tuple[str, Any]]) -> None:
    """However many classes of one name there are, each task refers to its own."""

    def using(number: int, name: str, kind: Any) -> AnyTask:
        def use(value: Any) -> None: ...

        use.__annotations__["value"] = msgspec.defstruct(name, [("value", kind)])
        return Task(use, name=f"use{number}")

    tasks = [using(number, *each) for number, each in enumerate(fields)]
    api = document(*tasks)
    for (_, kind), each in zip(fields, tasks, strict=True):
        described = follow(api, input_of(api, each.name)["$ref"])
        assert described["properties"]["value"] == msgspec.json.schema(kind)
    assert len(api["components"]["schemas"]) == 2 + len(set(map(str, fields)))


# Whether it is true.


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(Runtime([LocalBackend()], tasks=TaskRegistry(EVERY))) as server:
        yield server


@pytest.fixture(scope="module")
def operations(served: Served) -> dict[str, APIOperation]:
    """What can be asked of the server, as its own document says, by path."""
    api = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    found = [each.ok() for each in api.get_all_operations()]
    return {unquote(each.path): each for each in found}


def take_time(headers: MutableMapping[str, str]) -> None:
    """Take back what is right by the schema and still refused: one key for two calls, a time too short for any."""
    headers.pop("Idempotency-Key", None)
    with suppress(ValueError):
        if float(headers.get("Request-Timeout", "")) > 0:
            headers["Request-Timeout"] = "30"


def fuzz(operation: APIOperation, *excluded: CheckFunction) -> set[int]:
    """The statuses of some requests made from the document, each answered as the document says."""
    statuses: set[int] = set()

    @settings(max_examples=12, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case) -> None:
        take_time(case.headers)
        statuses.add(case.call_and_validate(excluded_checks=[*excluded]).status_code)

    ask()
    return statuses


@pytest.mark.parametrize("name", [each.name for each in FUZZED])
def test_an_input_that_fits_the_schema_is_taken(name: str, operations: dict[str, APIOperation]) -> None:
    """And one that does not is refused; the answer has a documented status, and a body of its schema."""
    assert fuzz(operations[f"/tasks/{name}"]) <= {200, 400, 422}


@pytest.mark.parametrize("name", [each.name for each in FORMATS])
def test_an_input_of_a_format_is_taken_or_refused(name: str, operations: dict[str, APIOperation]) -> None:
    """No schema says all of a date or of base64; whatever comes, nothing breaks."""
    assert fuzz(operations[f"/tasks/{name}"], positive_data_acceptance) <= {200, 400, 422}


def test_a_task_that_raises_answers_as_documented(operations: dict[str, APIOperation]) -> None:
    """The one 500 that there may be is that of the task's own code, and it is in the document too."""
    assert 500 in fuzz(operations["/tasks/Failure"], not_a_server_error, positive_data_acceptance)


def test_calls_and_lists_of_calls_are_answered_as_documented(operations: dict[str, APIOperation]) -> None:
    """`/compute` says nothing of what each task takes: what it says of the answers holds all the same."""
    answered = fuzz(operations["/compute"], not_a_server_error, positive_data_acceptance)
    assert 200 in answered
