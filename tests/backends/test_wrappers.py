"""Backends around backends: tried again, written down, held back; and always where the inner one stands."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.backends.wrappers import Limited, Recorded, Recording, Retrying, Wrapper, may_run_again
from hybrid_compute.calls import Call
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    BackendUnavailable,
    ConnectionLost,
    LimitExceeded,
    TaskFailed,
    TaskTimeout,
    WorkerLost,
)
from hybrid_compute.events import Hooks
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import AnyTask, Task
from hybrid_compute.testing import Asked, MockBackend
from hybrid_compute.testing.tasks import add, count


def work(x: int = 0) -> int:
    return x


def numbers(upto: int) -> Iterator[int]:
    yield from range(upto)


PURE: AnyTask = Task(work, name="pure", pure=True)
IMPURE: AnyTask = Task(work, name="impure")
STREAM: AnyTask = Task(numbers, name="numbers", pure=True)


def failing(times: int, error: BackendError) -> Callable[..., Any]:
    """A handler that raises `error` so many times, and then runs the task."""
    left = [error] * times

    def handler(task: AnyTask, *args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return task.fn(*args, **kwargs)

    return handler


def timed(place: Backend, task: AnyTask, seconds: float) -> Call:
    call = Call(task, (1,))
    call.timeout, call.deadline = seconds, place.clock.time() + seconds
    return call


async def turns(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until something is true."""
    while not condition():  # noqa: ASYNC110  # the condition is in plain objects, which wake nobody
        await asyncio.sleep(0)


# Every wrapper.

WRAPPERS: list[Callable[[Backend], Wrapper]] = [Wrapper, Retrying, Recording, lambda inner: Limited(inner, calls=2)]
wrappers = pytest.mark.parametrize("wrap", WRAPPERS, ids=["Wrapper", "Retrying", "Recording", "Limited"])


@wrappers
def test_a_wrapper_stands_where_its_inner_backend_stands(wrap: Callable[[Backend], Wrapper]) -> None:
    """The router sees no difference: name, rank, abilities, place."""
    inner = MockBackend(
        name="far", rank=3, provides={"gpu"}, on_this_machine=False, isolates=True, refuses=lambda task: "no"
    )
    place = wrap(inner)
    assert (place.name, place.rank, place.provides) == ("far", 3, {"gpu"})
    assert (place.on_this_machine, place.isolates) == (False, True)
    assert not place.can_run(PURE)
    assert place.why_not(PURE) == "no"
    assert place.inner is inner
    assert "far" in repr(place)


@wrappers
def test_what_a_wrapper_says_of_its_place_cannot_be_set(wrap: Callable[[Backend], Wrapper]) -> None:
    """It follows the inner backend, also when that changes."""
    inner = MockBackend(on_this_machine=False)
    place = wrap(inner)
    for name in ("name", "provides", "on_this_machine", "isolates", "rank"):
        with pytest.raises(AttributeError, match=name):
            setattr(place, name, getattr(place, name))
    inner.on_this_machine = True
    assert place.on_this_machine


@wrappers
def test_hooks_and_clock_reach_the_inner_backend(wrap: Callable[[Backend], Wrapper]) -> None:
    """The runtime sets them on what it was given."""
    inner = MockBackend()
    place = wrap(inner)
    place.hooks, place.clock = hooks, clock = Hooks(), ManualClock()
    assert inner.hooks is place.hooks is hooks
    assert inner.clock is place.clock is clock


@wrappers
async def test_opening_and_closing_reach_the_inner_backend(wrap: Callable[[Backend], Wrapper]) -> None:
    """In a runtime as anywhere."""
    inner = MockBackend()
    async with Runtime([wrap(inner)]) as rt:
        assert await rt.run(add, 1, 2) == 3
        assert not inner.closed
    assert inner.closed


@wrappers
async def test_a_map_goes_through_a_wrapper(wrap: Callable[[Backend], Wrapper]) -> None:
    """As batches where the wrapper knows what to do with them, else call by call."""
    async with Runtime([wrap(WorkerBackend(1))]) as rt:
        assert await rt.starmap(add, [(number, 1) for number in range(300)]) == list(range(1, 301))
        assert rt.stats()["contract.add"]["worker"].calls == 300


async def test_a_wrapper_of_ones_own_sees_every_call() -> None:
    """One method is enough, and a map does not go past it."""
    seen: list[tuple[Any, ...]] = []

    class Noting(Wrapper):
        async def run_call(self, call: Call, /) -> Any:
            seen.append(call.args)
            return await super().run_call(call)

    async with Runtime([Noting(WorkerBackend(1))]) as rt:
        await rt.run(add, 1, 2)
        await rt.starmap(add, [(3, 4), (5, 6)])
    assert sorted(seen) == [(1, 2), (3, 4), (5, 6)]


# Retrying.


@pytest.mark.parametrize(
    ("error", "pure", "again"),
    [
        (BackendUnavailable("no"), False, True),
        (LimitExceeded("full"), False, True),
        (ConnectionLost("no", started=True), False, False),
        (ConnectionLost("no", started=True), True, True),
        (WorkerLost("no", started=False), False, True),
        (WorkerLost("no", started=True), True, True),
        (BackendClosed("closed"), True, False),
        (BackendClosed("closed"), False, False),
    ],
)
def test_a_call_may_run_again_if_it_has_not_begun_or_is_pure(error: BackendError, pure: bool, again: bool) -> None:
    """And a place that is closed stays closed."""
    assert may_run_again(error, PURE if pure else IMPURE) is again


async def test_a_failed_call_is_tried_again_after_longer_and_longer_pauses() -> None:
    """The delay doubles, by the clock."""
    clock = ManualClock()
    inner = MockBackend(failing(3, BackendUnavailable("not yet")))
    call = asyncio.ensure_future(Retrying(inner, times=3, delay=1.0, clock=clock).run_call(Call(IMPURE, (7,))))
    for tried, pause in enumerate((1.0, 2.0, 4.0), start=1):
        await turns(lambda: clock.waiting == 1)
        assert len(inner.calls) == tried
        clock.advance(pause - 0.5)
        await asyncio.sleep(0)
        assert clock.waiting == 1
        clock.advance(0.5)
    assert await call == 7
    assert inner.calls == [Asked("impure", (7,))] * 4


async def test_after_the_last_try_the_error_is_the_answer() -> None:
    """The place's own, for the runtime to pass the call on."""
    inner = MockBackend(failing(9, BackendUnavailable("never")))
    with pytest.raises(BackendUnavailable, match="never"):
        await Retrying(inner, times=2, delay=0.0).run_call(Call(IMPURE))
    assert len(inner.calls) == 3


async def test_what_must_not_run_again_does_not() -> None:
    """Nor does what the task itself raised."""
    for error in (ConnectionLost("gone", started=True), BackendClosed("closed")):
        inner = MockBackend(failing(1, error))
        with pytest.raises(type(error)):
            await Retrying(inner, delay=0.0).run_call(Call(IMPURE))
        assert len(inner.calls) == 1
    inner = MockBackend(lambda task: 1 // 0)
    with pytest.raises(TaskFailed):
        await Retrying(inner, delay=0.0).run_call(Call(PURE))
    assert len(inner.calls) == 1


async def test_a_pause_beyond_the_deadline_is_not_begun() -> None:
    """The error comes at once, while another place can still be in time."""
    inner = MockBackend(failing(1, BackendUnavailable("not yet")))
    inner.clock = ManualClock()
    place = Retrying(inner, delay=2.0)
    with pytest.raises(BackendUnavailable):
        await place.run_call(timed(place, PURE, 1.5))
    assert len(inner.calls) == 1


async def test_a_cancelled_call_is_not_tried_again() -> None:
    """Cancellation during the pause ends it."""
    clock = ManualClock()
    inner = MockBackend(failing(1, BackendUnavailable("not yet")))
    call = asyncio.ensure_future(Retrying(inner, clock=clock).run_call(Call(PURE)))
    await turns(lambda: clock.waiting == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert len(inner.calls) == 1
    assert clock.waiting == 0


async def test_a_stream_is_begun_anew_while_it_has_delivered_nothing() -> None:
    """The reader notices nothing."""
    inner = MockBackend(failing(2, BackendUnavailable("not yet")))
    async with Retrying(inner, delay=0.0).stream_call(Call(STREAM, (3,))) as items:
        assert [item async for item in items] == [0, 1, 2]
    assert len(inner.calls) == 3


async def test_a_stream_that_has_delivered_is_not_begun_anew() -> None:
    """Or the reader would get items twice."""

    def breaks(task: AnyTask, upto: int) -> Iterator[int]:
        yield from range(upto)
        raise ConnectionLost("gone", started=True)

    inner = MockBackend(breaks)
    seen: list[int] = []
    with pytest.raises(ConnectionLost):
        async with Retrying(inner, delay=0.0).stream_call(Call(STREAM, (2,))) as items:
            async for item in items:
                seen.append(item)  # noqa: PERF401  # a comprehension would lose them with the failure
    assert seen == [0, 1]
    assert len(inner.calls) == 1


async def test_a_batch_is_tried_again_as_a_whole() -> None:
    """On the same terms as a call."""

    class Flaky(Wrapper):
        batches = True
        left = 2

        async def run_batch(self, call: Call, inputs: Any, limit: int | None, /) -> list[Any]:
            if self.left:
                self.left -= 1
                raise BackendUnavailable("not yet")
            return [sum(args) for args in inputs]

    assert Retrying(Flaky(MockBackend())).batches
    assert not Retrying(MockBackend()).batches
    assert await Retrying(Flaky(MockBackend()), delay=0.0).run_batch(Call(add), [(1, 2)], None) == [3]
    with pytest.raises(BackendUnavailable):
        await Retrying(Flaky(MockBackend()), times=1, delay=0.0).run_batch(Call(add), [(1, 2)], None)


def test_numbers_below_zero_are_refused() -> None:
    """Where the wrapper is made."""
    for wrong in ({"times": -1}, {"delay": -0.1}):
        with pytest.raises(ValueError, match="must not be negative"):
            Retrying(MockBackend(), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 calls at a time"):
        Limited(MockBackend(), calls=0)


async def test_a_runtime_retries_here_before_it_falls_back() -> None:
    """The next place is for when this one has had its tries."""
    flaky = MockBackend(failing(2, BackendUnavailable("not yet")), name="flaky", rank=0)
    last = MockBackend(name="last", rank=1)
    async with Runtime([Retrying(flaky, times=2, delay=0.0), last]) as rt:
        assert await rt.run(add, 1, 2) == 3
    assert len(flaky.calls) == 3
    last.assert_not_asked()


# Recording.


async def test_it_keeps_what_was_asked_and_answered_in_order() -> None:
    """Results and errors, by position and by name."""
    place = Recording(MockBackend())
    assert await place.run_call(Call(add, (1,), {"b": 2})) == 3
    with pytest.raises(TaskFailed) as caught:
        await place.run_call(Call(add, (1, None)))
    assert place.calls == [
        Recorded("contract.add", (1,), {"b": 2}, result=3, answered=True),
        Recorded("contract.add", (1, None), {}, error=caught.value, answered=True),
    ]


async def test_a_call_that_is_still_running_is_recorded_as_unanswered() -> None:
    """And as cancelled, once it is."""
    forever = asyncio.Event()
    place = Recording(MockBackend(lambda task: forever.wait()))
    call = asyncio.ensure_future(place.run_call(Call(PURE)))
    await asyncio.sleep(0)
    assert place.calls == [Recorded("pure", ())]
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert place.calls[0].answered
    assert isinstance(place.calls[0].error, asyncio.CancelledError)


async def test_a_stream_is_recorded_as_the_items_that_were_read() -> None:
    """All of them, or as far as the reader came."""
    place = Recording(LocalBackend())
    async with place.stream_call(Call(count, (3,))) as items:
        assert [item async for item in items] == [0, 1, 2]
    async with place.stream_call(Call(count, (1000,))) as items:
        assert await anext(items) == 0
        assert not place.calls[1].answered
    assert [each.result for each in place.calls] == [[0, 1, 2], [0]]
    assert all(each.answered and each.error is None for each in place.calls)
    await place.aclose()


async def test_an_error_of_the_reader_is_not_an_answer() -> None:
    """What is raised inside the block is the reader's own."""
    place = Recording(MockBackend())
    with pytest.raises(KeyError):
        async with place.stream_call(Call(STREAM, (3,))) as items:
            await anext(items)
            raise KeyError
    assert place.calls[0].error is None
    assert place.calls[0].result == [0]


async def test_a_batch_is_recorded_input_by_input() -> None:
    """With the results, or all with the one error that ended it."""
    place = Recording(WorkerBackend(1))
    assert await place.run_batch(Call(add), [(1, 2), (3, 4)], None) == [3, 7]
    with pytest.raises(TaskFailed) as caught:
        await place.run_batch(Call(add), [(1, None)], None)
    assert [(each.args, each.result, each.error) for each in place.calls] == [
        ((1, 2), 3, None),
        ((3, 4), 7, None),
        ((1, None), None, caught.value),
    ]
    await place.aclose()


# Limited.


class Gate:
    """A handler whose calls wait until they are let through one by one."""

    def __init__(self) -> None:
        self.inside: list[Any] = []
        self._doors: dict[Any, asyncio.Event] = {}

    async def __call__(self, task: AnyTask, x: Any) -> Any:
        self.inside.append(x)
        await self._doors.setdefault(x, asyncio.Event()).wait()
        self.inside.remove(x)
        return x

    def let(self, x: Any) -> None:
        self._doors.setdefault(x, asyncio.Event()).set()


def ask(place: Backend, x: Any, *, priority: int = 0) -> asyncio.Future[Any]:
    call = Call(IMPURE, (x,))
    call.priority = priority
    return asyncio.ensure_future(place.run_call(call))


async def test_no_more_calls_than_allowed_are_inside() -> None:
    """The others wait, and come in as they came."""
    gate = Gate()
    place = Limited(MockBackend(gate), calls=2)
    calls = [ask(place, x) for x in range(5)]
    await turns(lambda: gate.inside == [0, 1])
    assert (place.running, place.waiting) == (2, 3)
    assert "2 of 2 running, 3 waiting" in repr(place)
    for x, inside in ((1, [0, 2]), (0, [2, 3]), (3, [2, 4]), (2, [4]), (4, [])):
        gate.let(x)
        await turns(lambda inside=inside: gate.inside == inside)  # type: ignore[misc]
    assert await asyncio.gather(*calls) == [0, 1, 2, 3, 4]
    assert (place.running, place.waiting) == (0, 0)


async def test_calls_of_higher_priority_come_in_first() -> None:
    """Among equals, first come first served."""
    gate = Gate()
    place = Limited(MockBackend(gate), calls=1)
    calls = [ask(place, x, priority=priority) for x, priority in (("a", 0), ("b", 0), ("c", 5), ("d", 5), ("e", 1))]
    await turns(lambda: place.waiting == 4)
    order: list[Any] = []
    for _ in calls:
        await turns(lambda: bool(gate.inside))
        order.append(gate.inside[0])
        gate.let(order[-1])
        await turns(lambda last=order[-1]: gate.inside != [last])  # type: ignore[misc]
    assert order == ["a", "c", "d", "e", "b"]
    await asyncio.gather(*calls)


async def test_a_cancelled_waiter_gives_its_turn_on() -> None:
    """Whether it was still waiting, or had just been given its turn."""
    gate = Gate()
    place = Limited(MockBackend(gate), calls=1)
    calls = [ask(place, x) for x in range(4)]
    await turns(lambda: place.waiting == 3)
    calls[1].cancel()  # still waiting
    gate.let(0)
    await turns(lambda: place.waiting == 1)
    calls[2].cancel()  # the turn is on its way to this one
    await turns(lambda: gate.inside == [3])
    gate.let(3)
    assert await calls[3] == 3
    assert [call.cancelled() for call in calls] == [False, True, True, False]
    assert (place.running, place.waiting) == (0, 0)


async def test_a_call_that_fails_or_is_cancelled_inside_frees_its_place() -> None:
    """However it ends."""
    gate = Gate()
    place = Limited(MockBackend(gate), calls=1)
    inside = ask(place, "x")
    await turns(lambda: gate.inside == ["x"])
    inside.cancel()
    with pytest.raises(asyncio.CancelledError):
        await inside
    failing = Limited(MockBackend(lambda task: 1 // 0), calls=1)
    for _ in range(3):
        with pytest.raises(TaskFailed):
            await failing.run_call(Call(PURE))
    assert (place.running, failing.running) == (0, 0)


async def test_waiting_beyond_the_deadline_is_a_timeout() -> None:
    """By the clock of the runtime, and the place goes on."""
    gate, clock = Gate(), ManualClock()
    place = Limited(MockBackend(gate), calls=1)
    place.clock = clock
    first = ask(place, "first")
    await turns(lambda: place.running == 1)
    late = asyncio.ensure_future(place.run_call(timed(place, IMPURE, 5.0)))
    await turns(lambda: place.waiting == 1)
    clock.advance(5.0)
    with pytest.raises(TaskTimeout, match="5 s"):
        await late
    assert (place.running, place.waiting) == (1, 0)
    gate.let("first")
    assert await first == "first"
    assert place.running == 0


async def test_waiting_beyond_the_queue_timeout_is_a_limit() -> None:
    """Which is the place's fault, so that another may be tried."""
    gate, clock = Gate(), ManualClock()
    place = Limited(MockBackend(gate), calls=1)
    place.clock = clock
    first = ask(place, "first")
    await turns(lambda: place.running == 1)
    call = Call(IMPURE, ("second",))
    call.queue_timeout = 0.5
    impatient = asyncio.ensure_future(place.run_call(call))
    await turns(lambda: place.waiting == 1)
    clock.advance(0.5)
    with pytest.raises(LimitExceeded, match=r"within 0\.5 s") as caught:
        await impatient
    assert not caught.value.started
    gate.let("first")
    await first


async def test_a_timer_of_a_call_that_got_its_turn_is_called_off() -> None:
    """Nothing is left to ring."""
    gate, clock = Gate(), ManualClock()
    place = Limited(MockBackend(gate), calls=1)
    place.clock = clock
    first = ask(place, "first")
    await turns(lambda: place.running == 1)
    call = timed(place, IMPURE, 1e6)
    call.queue_timeout = 1e6
    second = asyncio.ensure_future(place.run_call(call))
    await turns(lambda: place.waiting == 1)
    gate.let("first")
    gate.let(1)
    assert [await first, await second] == ["first", 1]
    assert clock.waiting == 0
    assert call.queued


async def test_a_stream_counts_as_long_as_its_block_is_open() -> None:
    """Its place is free when the block is left, early or not."""
    place = Limited(MockBackend(), calls=1)
    async with AsyncExitStack() as stack:
        items = await stack.enter_async_context(place.stream_call(Call(STREAM, (3,))))
        assert await anext(items) == 0
        waiting = ask(place, "x")
        await turns(lambda: place.waiting == 1)
    assert await waiting == "x"
    assert place.running == 0


async def test_closing_answers_those_who_wait() -> None:
    """With `BackendClosed`; those inside get what the place gives them."""
    gate = Gate()
    place = Limited(MockBackend(gate), calls=1)
    calls = [ask(place, x) for x in range(3)]
    await turns(lambda: place.waiting == 2)
    await place.aclose()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [BackendClosed] * 3
    assert (place.running, place.waiting) == (0, 0)


async def test_a_batch_never_goes_past_the_limit() -> None:
    """A map through it is so many calls, each of which waits its turn."""
    inside: list[int] = []
    most = 0

    async def handler(task: AnyTask, x: int) -> int:
        nonlocal most
        inside.append(x)
        most = max(most, len(inside))
        for _ in range(5):
            await asyncio.sleep(0)
        inside.remove(x)
        return x

    async with Runtime([Limited(MockBackend(handler), calls=3)]) as rt:
        assert await rt.map(work, range(50)) == list(range(50))
    assert most == 3
