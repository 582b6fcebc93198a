"""Time as a parameter: the manual clock turns only by hand, and both clocks do the same things."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.clock import Alarms, Clock, ManualClock, SystemClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def note(seen: list[tuple[str, float]], clock: ManualClock, name: str) -> Callable[[], object]:
    return lambda: seen.append((name, clock.time()))


def test_it_stands_still_until_it_is_turned(clock: ManualClock) -> None:
    """However long a test takes."""
    assert clock.time() == clock.time() == 0.0
    clock.advance(2.5)
    assert clock.time() == 2.5
    assert ManualClock(100.0).time() == 100.0


def test_what_is_due_happens_in_order_each_at_its_own_time(clock: ManualClock) -> None:
    """One turn over several timers is as good as many small ones."""
    seen: list[tuple[str, float]] = []
    for name, when in (("late", 3.0), ("early", 1.0), ("never", 9.0), ("early too", 1.0)):
        clock.call_at(when, note(seen, clock, name))
    clock.advance(5.0)
    assert seen == [("early", 1.0), ("early too", 1.0), ("late", 3.0)]
    assert clock.time() == 5.0


def test_a_timer_that_is_cancelled_does_not_ring(clock: ManualClock) -> None:
    """Also if another timer cancels it on the way."""
    seen: list[tuple[str, float]] = []
    cancelled = clock.call_at(1.0, note(seen, clock, "cancelled"))
    cancelled.cancel()
    cancelled.cancel()
    other = clock.call_at(3.0, note(seen, clock, "called off"))
    clock.call_at(2.0, other.cancel)
    clock.advance(5.0)
    assert seen == []


def test_a_timer_may_set_another_that_is_due_in_the_same_turn(clock: ManualClock) -> None:
    """As it would be if time had passed by itself."""
    seen: list[tuple[str, float]] = []
    clock.call_at(1.0, lambda: clock.call_at(2.0, note(seen, clock, "second")))
    clock.advance(3.0)
    assert seen == [("second", 2.0)]


def test_a_timer_in_the_past_rings_at_the_next_turn(clock: ManualClock) -> None:
    """Even at a turn of no length, and the clock never goes back."""
    clock.advance(5.0)
    seen: list[tuple[str, float]] = []
    clock.call_at(1.0, note(seen, clock, "overdue"))
    assert seen == []
    clock.advance(0.0)
    assert seen == [("overdue", 5.0)]


def test_small_steps_add_up(clock: ManualClock) -> None:
    """Ten tenths ring what is due after one."""
    seen: list[tuple[str, float]] = []
    clock.call_at(1.0, note(seen, clock, "ring"))
    for _ in range(10):
        clock.advance(0.1)
    assert [name for name, _ in seen] == ["ring"]


def test_it_cannot_be_turned_back(clock: ManualClock) -> None:
    """Its scale is monotonic, as the system's is."""
    clock.advance(5.0)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1.0)
    assert clock.time() == 5.0


def test_waiting_counts_the_timers_that_are_set(clock: ManualClock) -> None:
    """A test waits for this number before it turns the clock."""
    timers = [clock.call_at(when, int) for when in (1.0, 2.0, 3.0)]
    assert clock.waiting == 3
    timers[1].cancel()
    assert clock.waiting == 2
    clock.advance(1.0)
    assert clock.waiting == 1


async def test_a_sleeper_wakes_at_its_time_and_not_before(clock: ManualClock) -> None:
    """A sleep of ten minutes takes no time in a test."""
    sleeper = asyncio.ensure_future(clock.sleep(600.0))
    await asyncio.sleep(0)
    clock.advance(599.0)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(1.0)
    await sleeper


async def test_a_cancelled_sleeper_leaves_no_timer(clock: ManualClock) -> None:
    """Nothing is left to ring for somebody who has gone."""
    sleeper = asyncio.ensure_future(clock.sleep(1.0))
    await asyncio.sleep(0)
    assert clock.waiting == 1
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    assert clock.waiting == 0
    clock.advance(2.0)


async def test_the_system_clock_keeps_its_promises_in_real_time() -> None:
    """Its scale never goes back, its timers ring at their time, and a cancelled one stays silent."""
    clock: Clock = SystemClock()
    loop = asyncio.get_running_loop()
    rung: asyncio.Future[float] = loop.create_future()
    began = clock.time()
    clock.call_at(began + 0.001, lambda: rung.set_exception(AssertionError("it was cancelled"))).cancel()
    clock.call_at(began + 0.01, lambda: rung.set_result(clock.time()))
    assert await rung >= began + 0.009
    await clock.sleep(0.001)
    assert clock.time() > began + 0.01


async def test_the_system_clock_rings_at_once_for_a_time_that_has_passed() -> None:
    """At the next turn of the loop, and never inside `call_at`."""
    rung = asyncio.Event()
    SystemClock().call_at(SystemClock().time() - 1.0, rung.set)
    assert not rung.is_set()
    await rung.wait()


@given(st.lists(st.floats(0.0, 100.0)), st.lists(st.floats(0.0, 10.0)))
def test_timers_ring_in_the_order_of_their_times(times: list[float], steps: list[float]) -> None:
    """However the clock is turned, and each exactly once if it is due."""
    clock = ManualClock()
    seen: list[float] = []
    for when in times:
        clock.call_at(when, lambda when=when: seen.append(when))  # type: ignore[misc]
    for step in [*steps, 0.0]:
        clock.advance(step)
    assert seen == sorted(seen)
    assert seen == [when for when in sorted(times) if when <= clock.time() + 1e-9]
    assert clock.waiting == len(times) - len(seen)


# Alarms.


def test_alarms_ring_as_timers_do(clock: ManualClock) -> None:
    """In order, each at its own time, but for those that were called off; with one timer of the clock for all."""
    alarms = Alarms(clock)
    seen: list[tuple[str, float]] = []
    timers = {
        name: alarms.call_at(when, note(seen, clock, name)) for name, when in (("b", 2.0), ("c", 2.0), ("a", 1.0))
    }
    timers["c"].cancel()
    timers["c"].cancel()
    assert clock.waiting == 1
    clock.advance(5.0)
    assert seen == [("a", 1.0), ("b", 2.0)]
    timers["a"].cancel()
    assert clock.waiting == 0


def test_an_alarm_may_set_another_or_call_it_off(clock: ManualClock) -> None:
    alarms = Alarms(clock)
    seen: list[tuple[str, float]] = []
    off = alarms.call_at(3.0, note(seen, clock, "called off"))
    alarms.call_at(1.0, lambda: alarms.call_at(2.0, note(seen, clock, "second")))
    alarms.call_at(2.0, off.cancel)
    clock.advance(5.0)
    assert seen == [("second", 2.0)]


def test_an_alarm_that_raises_keeps_no_other_from_ringing(clock: ManualClock) -> None:
    alarms = Alarms(clock)
    seen: list[tuple[str, float]] = []
    alarms.call_at(1.0, lambda: 1 / 0)
    alarms.call_at(1.0, note(seen, clock, "next"))
    with pytest.raises(ZeroDivisionError):
        clock.advance(1.0)
    clock.advance(0.0)
    assert seen == [("next", 1.0)]


def test_alarms_that_are_called_off_are_thrown_out(clock: ManualClock) -> None:
    """However many there were."""
    alarms = Alarms(clock)
    kept = [alarms.call_at(100.0, list) for _ in range(10)]
    for _ in range(10_000):
        alarms.call_at(50.0, list).cancel()
    assert len(alarms._due) < 300
    for each in kept:
        each.cancel()


@given(st.lists(st.tuples(st.floats(0.0, 10.0), st.booleans(), st.floats(0.0, 10.0))))
def test_alarms_ring_when_timers_would(plan: list[tuple[float, bool, float]]) -> None:
    """Whatever is set and called off, at whatever time."""

    def rung(set_at: Callable[[ManualClock], Clock | Alarms]) -> list[tuple[str, float]]:
        clock = ManualClock()
        seen: list[tuple[str, float]] = []
        setter = set_at(clock)
        for number, (when, stays, until) in enumerate(plan):
            timer = setter.call_at(when, note(seen, clock, str(number)))
            if not stays:
                clock.call_at(until, timer.cancel)
        for _ in range(22):
            clock.advance(0.5)
        return sorted(seen)

    by_timer, by_alarm = rung(lambda clock: clock), rung(Alarms)
    together = [each for each in by_timer if each not in by_alarm] + [each for each in by_alarm if each not in by_timer]
    ties = {str(number) for number, (when, stays, until) in enumerate(plan) if not stays and when == until}
    assert {name for name, _ in together} <= ties  # which of two that are due at once comes first is not promised
