"""What is measured, and the choice that follows: a slow or unknown function never blocks the event loop."""

import gc
import math
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hybrid_compute.calls import Call
from hybrid_compute.tasks import Task
from hybrid_compute.timings import (
    ENOUGH,
    EXPLORE,
    HEAVY,
    LEAVING,
    NEVER_FAR,
    NEVER_LONG,
    Estimate,
    Profile,
    Timings,
    decide,
    duration,
    weigh,
)

MICRO = 1e-6
WAY = 100 * MICRO
"""A usual overhead of a worker."""

SECONDS = st.floats(0.0, 100.0)
RUNS = st.lists(st.tuples(SECONDS, SECONDS, st.integers(0, 1 << 30), st.booleans()), max_size=40)


def ran(seconds: float | None, *, moved: int = 0, queued: bool = False) -> Call:
    """A call whose code took so long."""
    call = Call(Task(len))
    call.ran, call.sent, call.queued = seconds, moved, queued
    return call


def profile(*runs: float, place: str = "worker", moved: int = 0, way: float = WAY) -> Profile:
    """What is known after these run times at one place."""
    made = Profile()
    for seconds in runs:
        made.add(place, ran(seconds, moved=moved), seconds + way)
    return made


# The choice.


def test_nothing_is_chosen_before_anything_is_measured() -> None:
    """An unknown function goes where the order of places says."""
    assert decide(Profile()) == "default"
    assert Profile().choice == "default"


def test_a_quick_task_moves_in_after_enough_runs() -> None:
    """Not one run earlier."""
    for count in range(1, ENOUGH):
        assert profile(*[MICRO] * count).choice == "default"
    assert profile(*[MICRO] * ENOUGH).choice == "inline"


def test_a_task_as_long_as_the_way_stays_out() -> None:
    """It would keep the event loop from others for as long as it saves."""
    assert profile(*[WAY] * 20).choice == "default"
    assert profile(*[0.01] * 20).choice == "default"


def test_one_long_run_keeps_a_quick_task_out() -> None:
    """However short it is on average, and until that run is long ago."""
    quick = [MICRO] * 50
    assert profile(*quick, 2 * NEVER_LONG).choice == "default"
    assert profile(*quick, 2 * NEVER_LONG, *quick).choice == "inline"


def test_a_quick_task_with_heavy_arguments_is_never_inline() -> None:
    """What moves megabytes is not trivial, whatever its run time says."""
    assert profile(*[MICRO] * 20, moved=2 * HEAVY).choice != "inline"


def test_heavy_arguments_stay_here_where_the_way_costs_more_than_the_work() -> None:
    """Until it has been tried here and was slower."""
    known = profile(0.001, moved=2 * HEAVY, way=0.05)
    assert known.choice == "local"
    known.add("local", ran(0.2), 0.2)
    assert decide(known) == "default"


def test_heavy_arguments_travel_where_the_work_is_worth_it() -> None:
    """A tenth of the work for the way is a fair price."""
    assert profile(*[1.0] * 5, moved=2 * HEAVY, way=0.05).choice == "default"


def test_the_place_not_chosen_for_heavy_arguments_is_tried_now_and_then() -> None:
    """So that a change there is noticed: one call in so many."""
    known = profile(0.001, moved=2 * HEAVY, way=0.05)
    choices = []
    for _ in range(3 * EXPLORE):
        known.add("local", ran(0.001), 0.001)
        choices.append(known.choice)
    assert choices.count("default") == 3


def test_a_task_measured_only_here_is_not_moved() -> None:
    """Without a figure from a worker there is nothing to compare."""
    assert profile(*[MICRO] * 20, place="local").choice == "default"


@given(RUNS, st.sampled_from(["worker", "local"]))
def test_what_runs_in_the_event_loop_has_been_measured_and_is_short(
    runs: list[tuple[float, float, int, bool]], place: str
) -> None:
    """Whatever was measured: enough runs, all recent ones short, little to move."""
    known = Profile()
    for seconds, way, moved, queued in runs:
        known.add(place, ran(seconds, moved=moved, queued=queued), seconds + way)
        if known.choice == "inline":
            away = known.places["worker"]
            assert away.count >= ENOUGH
            assert away.run < min(max(LEAVING, away.overhead) / 2, NEVER_FAR)
            assert seconds < NEVER_LONG
            assert away.moved < HEAVY


@given(st.lists(st.floats(NEVER_LONG, 100.0), min_size=1), RUNS)
def test_a_long_run_is_never_followed_by_one_in_the_event_loop(
    long: list[float], before: list[tuple[float, float, int, bool]]
) -> None:
    """Whatever came before it."""
    known = Profile()
    for seconds, way, moved, queued in before:
        known.add("worker", ran(seconds, moved=moved, queued=queued), seconds + way)
    for seconds in long:
        known.add("worker", ran(seconds), seconds + WAY)
        assert known.choice != "inline"


# Watching what runs inline.


def test_one_slow_run_in_the_event_loop_is_forgiven() -> None:
    """A collection of garbage is no reason to leave; a second strike is, and then all is measured anew."""
    known = profile(*[MICRO] * ENOUGH)
    assert known.limit >= LEAVING
    choices = []
    for _ in range(2):
        known.slow(known.limit * 2)
        choices.append(known.choice)
    assert choices == ["inline", "default"]
    assert not known.places


def test_one_far_too_long_run_in_the_event_loop_is_enough() -> None:
    """The task has changed: out at once."""
    known = profile(*[MICRO] * ENOUGH)
    known.slow(NEVER_LONG * 1.01)
    assert known.choice == "default"


def test_a_task_that_left_may_come_back() -> None:
    """After more quick runs each time it has blocked the loop: once in a while is too often for that."""
    known = profile(*[MICRO] * ENOUGH)
    for needed in (8 * ENOUGH, 64 * ENOUGH):
        known.slow(1.0)
        for _ in range(needed):
            assert known.choice == "default"
            known.add("worker", ran(MICRO), MICRO + WAY)
        assert known.choice == "inline"
    assert known.strikes == 0


# What is measured.


def test_a_place_that_cannot_tell_teaches_nothing() -> None:
    """A call without a run time is no measurement."""
    known = Profile()
    known.add("remote", ran(None), 1.0)
    assert not known.places


def test_a_call_that_queued_says_nothing_about_the_way() -> None:
    """Its run time counts, its total does not."""
    known = Profile()
    known.add("worker", ran(0.1, queued=True), 9.0)
    assert known.places["worker"].run == pytest.approx(0.1)
    assert known.places["worker"].overhead == 0.0


def test_the_total_never_beats_the_run() -> None:
    """A clock that disagrees between processes makes no negative overhead."""
    known = Profile()
    known.add("worker", ran(0.2), 0.1)
    assert known.places["worker"].overhead == 0.0


def test_what_is_well_known_is_only_sampled() -> None:
    """Every call at first; later one in eight, which costs next to nothing."""
    known = Profile()
    for _ in range(17):
        known.sample("worker", ran(0.1), 0.0)
    assert known.places["worker"].count == 17
    for _ in range(80):
        known.sample("worker", ran(0.1), 0.0)
    assert known.places["worker"].count == 27


@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_an_estimate_lies_between_the_extremes(runs: list[float]) -> None:
    """The mean within what was seen, the worst at least the last."""
    estimate = Estimate()
    for seconds in runs:
        estimate.add(seconds, seconds, 100)
        assert estimate.worst >= seconds
    assert min(runs) - 1e-9 <= estimate.run <= max(runs) + 1e-9
    assert min(runs) - 1e-9 <= estimate.overhead <= max(runs) + 1e-9
    assert estimate.moved == pytest.approx(100)
    assert estimate.total == estimate.run + estimate.overhead
    assert estimate.count == len(runs)


@given(st.floats(1e-6, 10.0), st.floats(1e-6, 10.0))
def test_an_estimate_follows_a_change_of_speed(before: float, after: float) -> None:
    """Within two dozen runs it believes the new figure."""
    estimate = Estimate()
    for seconds in [before] * 50 + [after] * 25:
        estimate.add(seconds, None, 0)
    assert estimate.run == pytest.approx(after, rel=0.01, abs=abs(before - after) * 0.01)


def test_a_late_reply_hardly_raises_the_overhead() -> None:
    """What delays one reply is not the way; a quicker way is believed at once."""
    estimate = Estimate()
    for overhead in [WAY] * 5 + [1.0]:
        estimate.add(MICRO, overhead, 0)
    assert estimate.overhead < 0.06
    estimate.add(MICRO, WAY, 0)
    assert estimate.overhead == WAY


def test_an_estimate_reads_as_a_line() -> None:
    """As `explain` shows it."""
    estimate = Estimate()
    estimate.add(2 * MICRO, 30 * MICRO, 0)
    assert repr(estimate) == "2.0 µs + 30.0 µs overhead, 1 run"
    estimate.add(2 * MICRO, 30 * MICRO, 0)
    assert repr(estimate) == "2.0 µs + 30.0 µs overhead, 2 runs"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 µs"), (12.3e-6, "12.3 µs"), (999e-6, "999.0 µs"), (0.0456, "45.6 ms"), (7.89, "7.89 s")],
)
def test_a_time_is_told_in_a_unit_that_fits(seconds: float, text: str) -> None:
    """No zeros to count."""
    assert duration(seconds) == text


# The size of arguments.


@dataclass
class Box:
    content: Any


class Broken:
    def __repr__(self) -> str:
        return "broken"

    def __len__(self) -> int:
        raise TypeError("nobody knows")


class Node:
    def __init__(self) -> None:
        self.parent: Node | None = None
        self.children: list[Node] = []


def test_numbers_weigh_their_bits_and_texts_their_length() -> None:
    """`fib(5)` says nothing about `fib(40)`."""
    assert weigh((), {}) == weigh((None, True, 0.25), {}) == 0
    assert weigh((1000,), {}) == weigh((1000.5,), {}) == weigh((Decimal(1000),), {}) == weigh((np.int64(1000),), {})
    assert weigh((math.nan, math.inf), {}) == 0
    assert weigh((5,), {}) == weigh((-7,), {}) == 3
    assert weigh(("x" * 1000,), {}) == weigh((b"x" * 1000,), {}) == weigh((bytearray(1000),), {}) == 10
    assert weigh((np.zeros(128),), {}) == 11


def test_the_largest_argument_counts_by_position_or_by_name() -> None:
    """Small ones beside it change nothing."""
    assert weigh((1, "x" * 1000, None), {}) == weigh((1,), {"text": "x" * 1000}) == weigh((), {"text": "x" * 1000})


def test_a_container_weighs_about_what_is_in_it() -> None:
    """Whatever kind it is, also an object with attributes."""
    heavy = b"x" * (1 << 20)
    for holder in ([heavy], (heavy,), {"key": heavy}, {heavy}, Box(heavy), Box([heavy]), [[[heavy]]]):
        assert 20 <= weigh((holder,), {}) <= 24


def test_a_long_list_is_not_read_to_its_end() -> None:
    """Its parts are taken to be alike."""
    assert weigh(([b"x" * 1000] * 1000,), {}) == weigh(([b"x" * 1000] * 64 + [b""] * 936,), {})


def test_what_refers_to_itself_has_a_size_too() -> None:
    """A tree whose children know their parent is an everyday argument."""
    endless: list[Any] = []
    endless.append(endless)
    parent, child = Node(), Node()
    parent.children.append(child)
    child.parent = parent
    assert weigh((endless,), {}) >= 0
    assert weigh((parent,), {}) >= 0


def test_deep_nesting_has_a_size_too() -> None:
    """No depth of a list is an error here."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert weigh((deep,), {}) >= 0
    while deep:  # taken apart level by level, which is kinder to the interpreter than all at once
        deep = deep[0]


def test_weighing_looks_at_a_bounded_number_of_parts() -> None:
    """However wide and deep, it is over at once: it is done before every call."""
    looked = 0

    class Counting(list[Any]):
        def __iter__(self) -> Any:
            nonlocal looked
            looked += 1
            assert looked < 10_000
            return super().__iter__()

    tree: Any = 1
    for _ in range(12):
        tree = Counting([tree] * 12)
    assert weigh((tree,), {}) > 0
    assert looked > 1


@pytest.mark.parametrize(
    "value", [str, dict, np.ndarray, Box, Broken(), len, object(), deque([1]), range(10), iter([])]
)
def test_anything_at_all_has_a_size(value: object) -> None:
    """Classes, functions, and things whose length cannot be had: weighing never fails a call."""
    assert weigh((value,), {}) >= 0
    assert weigh(([value],), {}) >= 0


@given(st.integers(0, 1 << 80), st.integers(0, 1 << 80))
def test_a_larger_number_never_weighs_less(one: int, other: int) -> None:
    """Monotone, in both directions from zero."""
    assume(one <= other)
    assert weigh((one,), {}) <= weigh((other,), {})
    assert weigh((-one,), {}) <= weigh((-other,), {})


@given(st.integers(0, 5000), st.integers(0, 5000), st.sampled_from([b"x", "x", [1], (1,), [b"abc"], [[1, 2]]]))
def test_more_of_the_same_never_weighs_less(one: int, other: int, unit: Any) -> None:
    """Bytes, texts and lists, flat or nested."""
    assume(one <= other)
    assert weigh((unit * one,), {}) <= weigh((unit * other,), {})


@given(st.lists(st.integers() | st.text() | st.lists(st.floats()), max_size=5), st.integers() | st.binary())
def test_another_argument_never_makes_a_call_lighter(args: list[Any], more: Any) -> None:
    """Nor does it matter whether it comes by name."""
    assert weigh(tuple(args), {}) <= weigh((*args, more), {})
    assert weigh((*args, more), {}) == weigh(tuple(args), {"more": more})


# Per task.


def test_sizes_have_profiles_of_their_own() -> None:
    """And calls of one size share one."""
    known = Timings()[Task(len)]
    small, large = known.profile((b"x" * 10,), {}), known.profile((b"x" * 10_000,), {})
    assert small is not large
    assert known.profile((b"y" * 11,), {}) is small


def test_the_mean_at_a_place_is_over_all_sizes() -> None:
    """Weighted by runs; None where nothing was measured."""
    known = Timings()[Task(len)]
    known.profile((b"x",), {}).add("worker", ran(1.0), 1.0)
    for _ in range(3):
        known.profile((b"x" * 10_000,), {}).add("worker", ran(5.0), 5.0)
    assert known.mean("worker") == pytest.approx(4.0)
    assert known.mean("local") is None


def test_a_tally_counts_for_each_place() -> None:
    """The same one each time."""
    known = Timings()[Task(len)]
    known.tally("worker").calls += 2
    assert known.tally("worker").calls == 2
    assert known.tally("local").calls == 0


def test_timings_go_with_their_task() -> None:
    """A program that makes tasks in a loop does not fill its memory."""
    timings = Timings()
    mortal = Task(len, name="mortal")
    timings[mortal].tally("worker").calls += 1
    assert [each.name for each in timings.tasks.values()] == ["mortal"]
    del mortal
    gc.collect()
    assert timings.tasks.values() == []
