"""What a sandboxed function gets and gives: the types that its hints speak of hold inside, as they would outside."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid_compute.errors import NotTransferable, TaskFailed
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import task

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("prepared")]


@task(sandbox=True)
def shown(value: Any) -> str:
    return repr(value)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
ZONES = st.none() | st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(datetime.timezone)
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(["$", "of"])
    | st.binary(max_size=5)
    | st.builds(bytearray, st.binary(max_size=5))
    | st.datetimes(timezones=ZONES).map(lambda moment: moment.replace(fold=0))  # which its offset says as well
    | st.dates()
    | st.times().map(lambda moment: moment.replace(fold=0))
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
)
KEYS = TEXT | st.sampled_from(["$", "of"]) | st.integers() | st.binary(max_size=3) | st.tuples(st.integers(), TEXT)
VALUES: st.SearchStrategy[Any] = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.builds(lambda one: {one}, KEYS)  # of one element: the order of more may be another one in there
        | st.builds(lambda one: frozenset({one}), KEYS)
    ),
    max_leaves=8,
)


@given(value=VALUES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_argument_arrives_as_it_is(value: Any) -> None:
    """Of the same type and value, however deep it lies, even if it looks like our own words for it."""
    assert shown(value) == repr(value)


@dataclass
class Point:
    x: int
    tags: set[str]


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        (Point(1, {"a"}), "{'x': 1, 'tags': ['a']}"),
        ([Point(1, set())], "[{'x': 1, 'tags': []}]"),
        (OrderedDict({1: (2,)}), "{1: (2,)}"),
        (PurePosixPath("/a/b"), "PosixPath('/a/b')"),
        (memoryview(b"ab"), "'YWI='"),
    ],
)
def test_what_is_not_known_in_there_becomes_what_it_is_made_of(value: Any, inside: str) -> None:
    """Its class does not exist there."""
    assert shown(value) == inside


def test_what_cannot_cross_is_refused_before_anything_runs() -> None:
    """With the reason."""
    endless: list[Any] = []
    endless.append(endless)
    for value in (object(), [float("nan")], endless, "\ud800"):
        with pytest.raises(NotTransferable):
            shown(value)


@task(sandbox=True)
def as_set() -> set[int]:
    return {1, 2}


@task(sandbox=True)
def as_pair() -> tuple[int, bytes]:
    return 1, b"two"


@task(sandbox=True)
def as_bytes() -> bytes:
    return b"abc"


@task(sandbox=True)
def as_table() -> dict[int, list[frozenset[str]]]:
    return {1: [frozenset({"a"})]}


@task(sandbox=True)
def as_times() -> tuple[datetime.datetime, datetime.date, datetime.timedelta, datetime.timedelta]:
    import datetime

    return (
        datetime.datetime(2001, 2, 3, 4, 5, 6, 7),
        datetime.date(2001, 2, 3),
        datetime.timedelta(days=-1, microseconds=5),
        datetime.timedelta(days=2, seconds=3),
    )


@task(sandbox=True)
def as_point() -> Point:
    return {"x": 1, "tags": ["a"]}  # type: ignore[return-value]


@task(sandbox=True)
def as_anything() -> Any:
    return ({1: 2},)


RESULTS: list[tuple[Callable[[], Any], Any]] = [
    (as_set, {1, 2}),
    (as_pair, (1, b"two")),
    (as_bytes, b"abc"),
    (as_table, {1: [frozenset({"a"})]}),
    (
        as_times,
        (
            datetime.datetime(2001, 2, 3, 4, 5, 6, 7),
            datetime.date(2001, 2, 3),
            datetime.timedelta(days=-1, microseconds=5),
            datetime.timedelta(days=2, seconds=3),
        ),
    ),
    (as_point, Point(1, {"a"})),
    (as_anything, [{"1": 2}]),  # nobody has said more than JSON does
]


@pytest.mark.parametrize(("function", "result"), RESULTS)
def test_a_result_is_what_the_hint_says(function: Callable[[], Any], result: Any) -> None:
    """Made by us, of JSON; what the hint leaves open is JSON."""
    found = function()
    assert found == result
    assert type(found) is type(result)


@task(sandbox=True)
def no_text() -> str:
    return b"abc"  # type: ignore[return-value]


@task(sandbox=True)
def no_list() -> list[bytes]:
    return {b"a"}  # type: ignore[return-value]


@task(sandbox=True)
def no_set() -> object:
    return {1}


@task(sandbox=True)
def nothing() -> str:
    return None  # type: ignore[return-value]


@task(sandbox=True)
def half() -> str:
    return "\ud800"


WRONG = [
    (no_text, "no_text returned what is not of the type that it says: Expected `str`, got `bytes`"),
    (no_list, "no_list failed: `result`, of type set, is neither"),
    (no_set, "no_set failed: `result`, of type set, is neither"),
    (nothing, "nothing returned what is not of the type that it says: Expected `str`, got `null`"),
    (half, "half failed: `result`, of type str, is neither .* surrogates not allowed"),
]


@pytest.mark.parametrize(("function", "said"), WRONG)
async def test_a_result_of_another_type_is_a_failure_of_the_task(function: Any, said: str) -> None:
    """Called directly, and by a runtime, with the same error."""
    with pytest.raises(TaskFailed, match=said):
        function()
    from hybrid_compute.backends.wasm import WasmBackend

    async with Runtime([WasmBackend(threads=1)]) as rt:
        with pytest.raises(TaskFailed, match=f"^{said}"):
            await rt.run(function)


if True:

    @task(sandbox=True)
    def poem(who: str) -> str:
        return f"""roses
    and {who}
"""


def test_an_indented_function_keeps_its_texts() -> None:
    """Its indentation is its own, that of a text in it belongs to the text."""
    assert poem("tulips") == "roses\n    and tulips\n"
    at = poem.fn._fn.__code__.co_firstlineno  # type: ignore[attr-defined]
    assert poem.fn.source.splitlines()[at].lstrip() == "def poem(who: str) -> str:"  # type: ignore[attr-defined]


@task(sandbox=True)
def input(x: int) -> int:
    return x + 1


@task(sandbox=True)
def result(x: int) -> int:
    return x + 2


def test_a_function_may_have_any_name() -> None:
    """Also one that means something to programs."""
    assert (input(1), result(1)) == (2, 3)
