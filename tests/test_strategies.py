"""Strategies order places. They never add one, and never lose one that they were not told to leave out."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.backends.base import Backend
from hybrid_compute.calls import Call
from hybrid_compute.strategies import Strategy, auto, fastest, in_order, only, prefer, resolve, round_robin
from hybrid_compute.tasks import AnyTask, Cost, Task
from hybrid_compute.testing import MockBackend
from hybrid_compute.timings import Timings

REMOTE = MockBackend(name="remote", rank=3, on_this_machine=False)
LOCAL = MockBackend(name="local", rank=2)
WASM = MockBackend(name="wasm", rank=1)
WORKER = MockBackend(name="worker", rank=0)
PLACES: list[Backend] = [REMOTE, LOCAL, WASM, WORKER]


def work(x: int) -> int:
    return x


def task(cost: Cost | None = None) -> AnyTask:
    return Task(work, cost=cost)


def order(strategy: Strategy, task: AnyTask, places: Sequence[Backend] = PLACES) -> list[str]:
    return [place.name for place in strategy(task, places)]


def measured(task: AnyTask, **seconds: float) -> Timings:
    """Timings that have seen the task take so long at each place."""
    timings = Timings()
    for place, took in seconds.items():
        call = Call(task)
        call.ran = took
        timings[task].profile((), {}).add(place, call, took)
    return timings


@pytest.mark.parametrize("cost", [None, "cpu", "gpu"])
def test_auto_leaves_the_process_first_and_the_machine_last(cost: Cost | None) -> None:
    """Workers, other places here, this process, remote ones."""
    assert order(auto, task(cost)) == ["worker", "wasm", "local", "remote"]


@pytest.mark.parametrize("cost", ["trivial", "io"])
def test_auto_starts_here_with_what_only_waits_or_costs_nothing(cost: Cost) -> None:
    """The event loop and its threads wait as well as any worker."""
    assert order(auto, task(cost)) == ["local", "worker", "wasm", "remote"]


def test_auto_keeps_the_given_order_among_places_of_one_rank() -> None:
    """Ties are broken by the caller."""
    ranks: list[Backend] = [MockBackend(name=name, rank=1) for name in ("b", "a", "c")]
    assert order(auto, task(), ranks) == ["b", "a", "c"]


def test_in_order_is_the_given_order() -> None:
    """Nothing is moved."""
    assert order(in_order, task()) == ["remote", "local", "wasm", "worker"]


def test_prefer_puts_the_named_first_and_the_others_by_auto() -> None:
    """Nobody is left out."""
    assert order(prefer("remote"), task()) == ["remote", "worker", "wasm", "local"]
    assert order(prefer("local", "wasm"), task("io")) == ["local", "wasm", "worker", "remote"]
    assert order(prefer(), task()) == order(auto, task())


def test_only_names_all_the_places_there_are_for_it() -> None:
    """In the order of the names."""
    assert order(only("wasm", "worker"), task()) == ["wasm", "worker"]
    assert order(only(), task()) == []


def test_round_robin_starts_one_further_with_each_call() -> None:
    """The others follow in turn, so that a failure still finds a place."""
    turn = round_robin("worker", "remote", "local")
    assert [order(turn, task()) for _ in range(4)] == [
        ["worker", "remote", "local"],
        ["remote", "local", "worker"],
        ["local", "worker", "remote"],
        ["worker", "remote", "local"],
    ]


def test_round_robin_without_names_goes_through_all_places() -> None:
    """Each is first equally often."""
    turn = round_robin()
    assert Counter(order(turn, task())[0] for _ in range(12)) == dict.fromkeys(("remote", "local", "wasm", "worker"), 3)


def test_two_round_robins_turn_by_themselves() -> None:
    """The turn belongs to the strategy object, not to the module."""
    one, other = round_robin(), round_robin()
    order(one, task())
    assert order(other, task())[0] == "remote"


def test_round_robin_among_no_places_is_no_error() -> None:
    """There is nothing to order."""
    assert order(round_robin(), task(), []) == []


def test_fastest_tries_what_it_has_not_measured_and_then_the_shortest() -> None:
    """Unmeasured places come first, by `auto`, so that they get measured."""
    timed = task()
    timings = measured(timed, remote=0.001, local=0.2)
    assert order(fastest(timings), timed) == ["worker", "wasm", "remote", "local"]
    timings = measured(timed, remote=0.001, local=0.2, worker=0.1, wasm=0.3)
    assert order(fastest(timings), timed) == ["remote", "worker", "local", "wasm"]


def test_fastest_knows_each_task_by_itself() -> None:
    """What one task took says nothing about another."""
    timed, other = task(), task()
    timings = measured(timed, worker=9.0)
    assert order(fastest(timings), other) == order(auto, other)


@pytest.mark.parametrize("name", ["auto", "in_order", "round_robin", "fastest"])
def test_a_strategy_has_a_name(name: str) -> None:
    """The name stands for one that orders every place there is."""
    assert sorted(order(resolve(name, PLACES, Timings()), task())) == ["local", "remote", "wasm", "worker"]


def test_the_name_of_a_place_is_a_strategy() -> None:
    """That place and no other."""
    assert order(resolve("wasm", PLACES, Timings()), task()) == ["wasm"]


def test_a_callable_is_a_strategy() -> None:
    """It is used as it is."""

    def backwards(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
        return backends[::-1]

    assert resolve(backwards, PLACES, Timings()) is backwards


@pytest.mark.parametrize("name", ["wroker", "", "Auto", "auto "])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name: str) -> None:
    """And never silently `auto`."""
    known = "remote, local, wasm, worker, auto, in_order, round_robin, fastest"
    with pytest.raises(ValueError, match=f"named '{name}'; known are: {known}"):
        resolve(name, PLACES, Timings())


def test_prefer_passes_over_a_place_that_is_not_there() -> None:
    """The same program runs where there is a GPU and where there is none; but one of the names must be right."""
    assert order(prefer("gpu", "wasm"), task()) == ["wasm", "worker", "local", "remote"]
    with pytest.raises(ValueError, match="no backend named 'gpu'"):
        prefer("gpu")(task(), PLACES)


@pytest.mark.parametrize("make", [only, round_robin])
def test_an_unknown_place_in_a_strategy_is_an_error(make: type) -> None:
    """At the first call that uses it, with the names that are known."""
    with pytest.raises(ValueError, match="no backend named 'gpu'; known are: remote, local, wasm, worker"):
        make("worker", "gpu")(task(), PLACES)


NAMES = st.lists(st.sampled_from([place.name for place in PLACES]), unique=True)


@given(NAMES, st.permutations(PLACES), st.sampled_from([None, "trivial", "cpu", "io", "gpu"]))
def test_no_strategy_invents_loses_or_doubles_a_place(
    names: list[str], places: list[Backend], cost: Cost | None
) -> None:
    """Whatever the places, their order and the task."""
    everywhere = sorted(place.name for place in places)
    timings = measured(task(), local=0.1)
    for strategy in (auto, in_order, prefer(*names), round_robin(), fastest(timings)):
        assert sorted(order(strategy, task(cost), places)) == everywhere
    assert order(only(*names), task(cost), places) == names
    assert order(prefer(*names), task(cost), places)[: len(names)] == names
    if names:
        assert sorted(order(round_robin(*names), task(cost), places)) == sorted(names)
