"""`explain`: where a call would run, and why there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hybrid_compute import Backend, LocalBackend, Runtime, Task, WorkerBackend
from hybrid_compute.policy import allow_only
from hybrid_compute.routing import Explanation
from hybrid_compute.strategies import Strategy, auto, fastest, only, prefer
from hybrid_compute.tasks import AnyTask
from hybrid_compute.testing import MockBackend
from hybrid_compute.timings import Timings
from tests.routed import double, where


def backwards(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
    return backends[::-1]


def nothing(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
    return []


def away(task: AnyTask) -> str:
    return "it is on holiday"


def explained(strategy: str | Strategy, task: AnyTask = double, *, lost: bool = False, **rules: Any) -> Explanation:
    """Of a worker, which may be lost, and two other places; nothing is ever measured there."""
    worker = MockBackend(name="worker", rank=0, refuses=away if lost else None)
    places = [MockBackend(name="local", rank=2), worker, MockBackend(name="other")]
    return Runtime(places, strategy=strategy, **rules).explain(task, 1)


def _name(strategy: str | Strategy) -> str:
    return strategy if isinstance(strategy, str) else f"{strategy.__name__}()"


WHY: dict[str | Strategy, str] = {
    "auto": "it is the first in the usual order",
    auto: "it is the first in the usual order",
    "in_order": "it is the first in the order that the runtime was given",
    "round_robin": "it is the first in this turn",
    "fastest": "it is the first in the order of measured times",
    "worker": "strategy 'worker' allows no other place",
    backwards: "it is the first in the order of strategy 'backwards'",
}


@pytest.mark.parametrize(("strategy", "why"), WHY.items(), ids=_name)
def test_every_strategy_says_why(strategy: str | Strategy, why: str) -> None:
    """In one line below the place."""
    told = explained(strategy)
    assert told.because == why
    assert str(told).splitlines()[:2] == [f"double: runs at {told.place}", f"  because {why}"]


@pytest.mark.parametrize("strategy", [prefer("worker"), only("worker", "local"), fastest(Timings())], ids=_name)
def test_a_strategy_that_was_made_has_a_name_too(strategy: Strategy) -> None:
    """That of the function which it is."""
    assert explained(strategy).because.startswith("it is the first in the order of strategy '")


@pytest.mark.parametrize("cost", ["trivial", "io"])
def test_a_hint_is_part_of_the_reason(cost: Any) -> None:
    """It changes the usual order."""
    told = explained("auto", Task(double.fn, cost=cost))
    assert (told.place, told.because) == ("local", f"it is the first in the usual order for cost={cost!r}")


def test_where_another_place_refuses_the_first_is_the_first_that_does_not() -> None:
    """The reason of the other stands below."""
    told = explained("auto", lost=True)
    assert told.because == "it is the first in the usual order, of those that do not refuse"
    assert str(told) == (
        "double: runs at other\n"
        "  because it is the first in the usual order, of those that do not refuse\n"
        "  then, if that fails: local\n"
        "  not worker: it is on holiday"
    )


def test_an_only_place_needs_no_reason() -> None:
    """There was nothing to choose from."""
    assert Runtime([MockBackend()]).explain(double, 1).because == "there is no other place"


def test_a_call_that_can_run_nowhere_says_why() -> None:
    """A rule, nobody able, or nobody asked: each has its own cure."""
    assert str(explained("worker", lost=True)) == (
        "double: runs nowhere\n  because no place can run it\n  not worker: it is on holiday"
    )
    assert explained("auto", policies=[allow_only("add")]).because == "a policy forbids every place that could run it"
    assert explained(nothing).because == "the strategy named no place"


async def test_what_was_measured_is_part_of_the_reason() -> None:
    """Before and after the first call, and when it has led to another place."""
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        assert rt.explain(where).because == "it is the first in the usual order, and nothing is measured yet"
        await rt.run(where)
        assert rt.explain(where).because == (
            "it is the first in the usual order, and nothing measured speaks against it"
        )
        profile = rt.timings[where].profile((), {})
        profile.choice = "inline"
        assert "because it is measured far below the cost of leaving" in str(rt.explain(where))
        profile.choice = "local"
        assert "because its arguments cost more to move than they gain" in str(rt.explain(where))
