"""Two places between which calls are divided by a key: the same key, the same place; and both are compared."""

import subprocess
import sys
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.errors import BackendUnavailable, TaskFailed
from hybrid_compute.runtime import Runtime
from hybrid_compute.strategies import Side, split
from hybrid_compute.tasks import AnyTask, Task
from hybrid_compute.testing import MockBackend
from hybrid_compute.timings import Timings

user: ContextVar[str] = ContextVar("user", default="nobody")


def work(x: int = 0) -> int:
    return x


WORK: AnyTask = Task(work, name="work")


def named(name: str) -> MockBackend:
    return MockBackend(lambda task, *args: name, name=name)


async def test_a_key_always_goes_to_the_same_place() -> None:
    """About as many to each as was said."""
    trial = split("old", "new", share=0.3, by=user.get)
    async with Runtime([named("old"), named("new")], strategy=trial) as rt:
        first: dict[str, Any] = {}
        for number in [*range(500), *range(500)]:
            token = user.set(f"user {number}")
            place = await rt.run(WORK)
            user.reset(token)
            assert first.setdefault(f"user {number}", place) == place == trial.side_of(f"user {number}")
    assert 0.25 < sum(place == "new" for place in first.values()) / 500 < 0.35


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_who_is_on_the_new_side_stays_there_when_its_share_grows(key: str, one: float, other: float) -> None:
    """A trial can be widened without moving anybody back."""
    small, large = sorted((one, other))
    if split("a", "b", share=small, by=str).side_of(key) == "b":
        assert split("a", "b", share=large, by=str).side_of(key) == "b"


@given(st.text())
def test_all_or_nothing_is_a_share_too(key: str) -> None:
    """Nobody, and everybody."""
    assert split("a", "b", share=0, by=str).side_of(key) == "a"
    assert split("a", "b", share=1, by=str).side_of(key) == "b"


def test_another_program_decides_the_same() -> None:
    """The hash is not the one that Python makes anew for each process."""
    sides = "''.join(map(split('a', 'b', by=str).side_of, range(64)))"
    asking = f"from hybrid_compute.strategies import split; print({sides})"
    there = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, check=True).stdout.strip()
    assert there == "".join(map(split("a", "b", by=str).side_of, range(64)))


async def test_where_one_side_cannot_the_other_does() -> None:
    """A trial fails no call; it is counted where it ran."""

    def away(task: AnyTask, *args: Any) -> Any:
        raise BackendUnavailable("away", backend="new")

    trial = split("old", "new", share=1, by=user.get)
    async with Runtime([named("old"), MockBackend(away, name="new")], strategy=trial) as rt:
        assert await rt.run(WORK) == "old"
        assert trial.report(rt.timings)["old"].calls == 1
        assert trial.report(rt.timings)["new"] == Side(calls=1, failed=1, seconds=None)


async def test_both_sides_are_reported() -> None:
    """Calls, failures, and mean seconds over all tasks."""

    def fails(task: AnyTask, *args: Any) -> Any:
        if args[0] % 2:
            raise TaskFailed("odd")
        return "new"

    key = iter(range(1000))
    trial = split("old", "new", by=lambda: next(key))
    async with Runtime([named("old"), MockBackend(fails, name="new")], strategy=trial) as rt:
        sides: list[str] = []
        for number in range(100):
            sides.append(trial.side_of(number))
            try:
                await rt.run(WORK, number)
            except TaskFailed:
                pass
        report = trial.report(rt.timings)
    assert (report["old"].calls, report["old"].failed) == (sides.count("old"), 0)
    failed = sum(side == "new" and number % 2 for number, side in enumerate(sides))
    assert (report["new"].calls, report["new"].failed) == (sides.count("new"), failed)
    assert report["old"].seconds is not None
    assert report["new"].seconds is not None
    assert split("c", "d", by=str).report(Timings()) == {"c": Side(0, 0, None), "d": Side(0, 0, None)}


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    """It is a part of the whole."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        split("a", "b", share=share, by=str)


async def test_a_place_that_is_not_there_is_an_error() -> None:
    """Half of the calls must not vanish."""
    async with Runtime([named("old")], strategy=split("old", "new", by=user.get)) as rt:
        with pytest.raises(ValueError, match="no backend named 'new'"):
            await rt.run(WORK)
