"""What a device has to do is noted in one place: each work is left once, and time counts from when it could begin."""

from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import pytest

from hybrid_compute.gpu import progress
from hybrid_compute.gpu.frame import Frame
from hybrid_compute.gpu.progress import PATIENCE, Progress
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.gpu.work import Work

FRAME = cast("Frame", object())  # which is only kept


def nothing(number: int) -> list[Work]:
    return [Work((), (), (), Waiting()) for _ in range(number)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A second goes by with every look."""
    times = count(0.0, 1.0)
    monkeypatch.setattr(progress, "monotonic", lambda: next(times))
    return times


def test_what_something_is_done_for_is_left_once() -> None:
    """It is guilty, and not among the others as well: whoever waits for it would be told twice."""
    launched, waiting = nothing(2), nothing(3)
    found = Progress()
    assert found.add([*launched, *waiting])
    assert found.launch(FRAME, launched)
    with found.doing("compile it", [waiting[1]]):
        left = found.give_up()
    assert left is not None
    assert list(left.guilty) == [waiting[1]]
    assert list(left.others) == [*launched, waiting[0], waiting[2]]


def test_the_time_of_a_frame_begins_anew_after_what_held_it_up(clock: Iterator[float]) -> None:
    """Its end could not be heard of meanwhile."""
    works = nothing(1)
    found = Progress()
    found.add(works)
    found.launch(FRAME, works)
    with found.doing("compile another"):
        for _ in range(50):
            next(clock)
        left = found.time_left(10.0)
        assert left is not None
        assert left < PATIENCE - 50
    assert found.time_left(10.0) == 9.0


def test_what_cannot_begin_may_wait_for_what_is_under_way(clock: Iterator[float]) -> None:
    """However long that may take: who comes later is not to blame for it, nor is it known which of the two is."""
    (first, second), found = nothing(2), Progress()
    found.add([first, second])
    found.launch(FRAME, [first])
    with found.doing("begin with it", [second], alone=False):
        for _ in range(2 * int(PATIENCE)):
            next(clock)
        assert found.give_up(1000.0) is None
        left = found.give_up(100.0)
    assert left is not None
    assert list(left.guilty) == [first, second]


def test_what_cannot_begin_with_nothing_under_way_has_a_minute(clock: Iterator[float]) -> None:
    (work,), found = nothing(1), Progress()
    found.add([work])
    with found.doing("begin with it", [work], alone=False):
        assert found.give_up(1000.0) is None
        for _ in range(int(PATIENCE)):
            next(clock)
        left = found.give_up(1000.0)
    assert left is not None
    assert list(left.guilty) == [work]
    assert left.why == "begin with it within 60 s"
