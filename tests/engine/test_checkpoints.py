"""Where the history can go back to, and how many copies of the state that takes."""

from itertools import count
from typing import Any

import pytest

from hybrid_compute.engine import checkpoints
from hybrid_compute.engine.core import Core, Plan, Request
from hybrid_compute.engine.methods import actions_of
from tests.engine.counters import actions, counter

LONG = 275


def after(actions_done: int) -> Core:
    core = Core(Plan(state=counter, actions=actions))
    for number in range(actions_done):
        core.do(Request("add", {"by": number}, 0))
    return core


@pytest.fixture(params=["copies are quick", "copies are slow"])
def pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Time that stands still, so that copies take none; or that goes on by a second whenever somebody looks."""
    ticks = count()
    monkeypatch.setattr(checkpoints, "perf_counter", lambda: next(ticks) if "slow" in request.param else 0.0)
    return str(request.param)


def test_going_back_is_the_same_however_long_copies_take(pace: str) -> None:
    """To the checkpoints, of which there are five; and to any place between."""
    core = after(LONG)
    for length in (250, 200, 150, 100, 50):
        core.undo()
        assert (len(core.history), core.state["total"]) == (length, sum(range(length)))
    assert core.undo() is None

    core = after(LONG)
    core.undo(3)
    core.undo(100)
    assert core.state["total"] == sum(range(LONG - 103))
    core.do(Request("add", {"by": 1}, 0))
    core.undo()
    assert len(core.history) == 150


def test_an_action_that_fails_leaves_the_state_as_it_was(pace: str) -> None:
    core = after(LONG)
    core.do(Request("change and fail", {}, 0))
    assert core.state["total"] == sum(range(LONG))


class Large:
    """A state that counts how often it was copied."""

    copies = 0

    def __deepcopy__(self, memo: object) -> "Large":
        Large.copies += 1
        return Large()

    def act(self) -> None:
        pass


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 21), (1.0, 6)])
def test_copies_take_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch, seconds: float, most: int) -> None:
    """A thousand actions: one copy at first, and one for each checkpoint, unless copies are slow."""
    time = 0.0

    def copied(state: Any) -> Any:
        nonlocal time
        time += seconds
        return state.__deepcopy__(None)

    monkeypatch.setattr(checkpoints, "perf_counter", lambda: time)
    monkeypatch.setattr(checkpoints, "copy_of", copied)
    Large.copies = 0
    core = Core(Plan(state=Large, actions=actions_of(Large)))
    for _ in range(1000):
        core.do(Request("act", {}, 0))
        time += 0.05  # so all of them take 50 s
    assert 1 < Large.copies <= most
