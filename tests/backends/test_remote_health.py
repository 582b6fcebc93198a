"""Pauses, distances and circuits: plain state, tested by the hundred."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.backends.remote.health import Circuit, Distance, nearest, pause, spread

SECONDS = st.floats(0.001, 100.0)


@given(st.integers(0, 10_000), SECONDS, SECONDS, st.floats(0, 1, exclude_max=True))
def test_a_pause_is_never_longer_than_the_longest(tried: int, first: float, longest: float, chance: float) -> None:
    """However often it was tried, and whatever chance says."""
    assert 0 <= pause(tried, first, longest, lambda: chance) <= longest


def test_pauses_double_until_they_are_the_longest() -> None:
    """Apart from chance."""
    assert [pause(tried, 1.0, 10.0, lambda: 1.0) for tried in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_pauses_of_many_clients_are_spread_over_all_of_the_time() -> None:
    """Those who lost one server together do not come back together."""
    rng = random.Random(7)
    pauses = sorted(pause(3, 1.0, 60.0, rng.random) for _ in range(1000))
    assert pauses[100] < 1.2
    assert pauses[900] > 6.8


@given(SECONDS, st.floats(0, 1, exclude_max=True))
def test_what_is_spread_stays_near(seconds: float, chance: float) -> None:
    """A fifth more or less."""
    assert 0.79 * seconds < spread(seconds, lambda: chance) < 1.21 * seconds


@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_a_distance_lies_within_what_was_measured(measured: list[float]) -> None:
    """It is a mean, whatever its weights."""
    distance = Distance()
    for seconds in measured:
        distance.add(seconds)
    assert min(measured) * 0.999 <= distance.seconds <= max(measured) * 1.001


def test_a_distance_follows_what_has_changed() -> None:
    """A server that has moved away is soon known to be far."""
    distance = Distance()
    for seconds in [0.01] * 100 + [1.0] * 10:
        distance.add(seconds)
    assert distance.seconds > 0.9


# Circuits.


def failed(circuit: Circuit, times: int, now: float = 0.0) -> Circuit:
    for _ in range(times):
        circuit.failed(now, circuit.tries(now))
    return circuit


def test_a_circuit_opens_after_failures_in_a_row() -> None:
    """What went well in between starts the count anew."""
    circuit = failed(Circuit(failures=3, rest=1.0), 2)
    circuit.worked()
    assert failed(circuit, 2).state(0.0) == "closed"
    assert failed(circuit, 1).state(0.0) == "open"
    assert not circuit.may_try(0.99)


def test_an_open_circuit_lets_one_try_after_its_rest() -> None:
    """One, and not all who wait."""
    circuit = failed(Circuit(failures=1, rest=1.0), 1)
    assert circuit.state(1.0) == "half-open"
    assert circuit.may_try(1.0)
    circuit.tries(1.0)
    assert not circuit.may_try(1.0)


def test_a_try_that_goes_well_closes_it() -> None:
    """And forgets how long it rested."""
    circuit = failed(Circuit(failures=1, rest=1.0), 1)
    failed(circuit, 1, now=1.0)
    assert circuit.state(2.9) == "open"
    circuit.tries(3.0)
    circuit.worked()
    assert circuit.state(3.0) == "closed"
    assert failed(circuit, 1, now=3.0).state(4.0) == "half-open"


def test_a_try_that_fails_doubles_the_rest() -> None:
    """Up to the longest."""
    circuit, now = failed(Circuit(failures=1, rest=1.0, longest=5.0), 1), 0.0
    for rest in (1.0, 2.0, 4.0, 5.0, 5.0):
        assert circuit.state(now + rest - 0.01) == "open"
        now += rest
        assert circuit.state(now) == "half-open"
        failed(circuit, 1, now)


def test_a_try_that_was_given_up_tells_nothing() -> None:
    """Another may try."""
    circuit = failed(Circuit(failures=1, rest=1.0), 1)
    circuit.withdrawn(circuit.tries(1.0))
    assert circuit.may_try(1.0)


def test_a_call_that_was_on_its_way_when_it_opened_changes_nothing() -> None:
    """Many fail together when a server goes; the rest is not longer for that."""
    circuit = Circuit(failures=1, rest=1.0)
    for token in [circuit.tries(0.0) for _ in range(10)]:
        circuit.failed(0.5, token)
    assert circuit.state(1.5) == "half-open"


def test_a_call_from_before_it_opened_lets_no_second_one_try() -> None:
    """Whether it is given up or fails, while the one that may try is under way or before."""
    circuit = Circuit(failures=1, rest=1.0)
    old = [circuit.tries(0.0) for _ in range(4)]
    failed(circuit, 1)
    circuit.failed(1.0, old[0])
    assert circuit.may_try(1.0)
    trying = circuit.tries(1.0)
    circuit.withdrawn(old[1])
    circuit.failed(1.0, old[2])
    assert not circuit.may_try(1.0)
    circuit.failed(1.0, trying)
    assert circuit.state(2.9) == "open"
    assert circuit.state(3.0) == "half-open"


@pytest.mark.parametrize("options", [{"failures": 0}, {"rest": 0.0}, {"rest": 2.0, "longest": 1.0}])
def test_a_circuit_that_could_not_work_is_refused(options: dict[str, float]) -> None:
    """It would never open, or never rest."""
    with pytest.raises(ValueError, match="no circuit opens"):
        Circuit(**options)  # type: ignore[arg-type]


EVENTS = st.lists(
    st.tuples(st.sampled_from(["try", "worked", "failed", "withdrawn"]), st.floats(0, 10), st.integers(0)), max_size=60
)


@given(EVENTS)
def test_a_circuit_always_comes_back(events: list[tuple[str, float, int]]) -> None:
    """Whatever has happened: after the longest rest there is a call that may try, once those under way have ended."""
    circuit, now = Circuit(failures=2, rest=1.0, longest=8.0), 0.0
    under_way: list[object] = []
    for event, seconds, which in events:
        now += seconds
        if event == "try" and circuit.may_try(now):
            under_way.append(circuit.tries(now))
            assert circuit.state(now) == "closed" or not circuit.may_try(now)
        if event == "try" or not under_way:
            continue
        token = under_way.pop(which % len(under_way))
        match event:
            case "failed":
                circuit.failed(now, token)
            case "worked":
                circuit.worked()
            case _:
                circuit.withdrawn(token)
    for token in under_way:
        circuit.withdrawn(token)
    assert circuit.may_try(now + 8.0)


# Which is nearest.


def at(*seconds: float) -> Distance:
    distance = Distance()
    for each in seconds:
        distance.add(each)
    return distance


def test_the_nearest_comes_first() -> None:
    """Those not measured before all, those that rest not at all."""
    places = [
        (at(0.3), Circuit()),
        (at(0.1), Circuit()),
        (at(), Circuit()),
        (at(0.01), failed(Circuit(failures=1), 1)),
    ]
    assert nearest(places, 0.0) == [2, 1, 0]
    assert nearest(places, 2.0) == [2, 3, 1, 0]
    assert nearest([], 0.0) == []


@given(st.lists(st.tuples(SECONDS, st.booleans()), max_size=20))
def test_the_order_names_each_willing_place_once(given: list[tuple[float, bool]]) -> None:
    """And nobody else."""
    places = [(at(seconds), failed(Circuit(failures=1), int(open))) for seconds, open in given]
    order = nearest(places, 0.0)
    assert sorted(order) == [index for index, (_, open) in enumerate(given) if not open]
    assert [given[index][0] for index in order] == sorted(given[index][0] for index in order)
