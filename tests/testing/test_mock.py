"""The mock backend: what it is told to answer, and what it can say afterwards."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import hybrid_compute.testing
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.wrappers import Recording
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendClosed, NoBackendAvailable, PolicyRefused, TaskFailed, TaskTimeout, WorkerLost
from hybrid_compute.policy import allow_only
from hybrid_compute.runtime import Runtime
from hybrid_compute.strategies import prefer
from hybrid_compute.tasks import AnyTask, task
from hybrid_compute.testing import Asked, MockBackend, replay
from hybrid_compute.testing.tasks import add, count, count_async


@task
def double(x: int) -> int:
    return 2 * x


@task
def words(text: str) -> Iterator[str]:
    yield from text.split()


async def test_it_answers_with_its_handler_and_remembers_the_call() -> None:
    """The handler gets the task and the arguments as they were given."""
    place = MockBackend(lambda task, *args, **kwargs: (task.name, args, kwargs))
    async with Runtime([place]) as rt:
        assert await rt.run(add, 1, b=2) == ("contract.add", (1,), {"b": 2})
    assert place.calls == [Asked("contract.add", (1,), {"b": 2})] == [Asked.of(add, 1, b=2)]


async def test_without_a_handler_it_runs_the_task() -> None:
    """Functions, coroutines and generators."""
    async with Runtime([MockBackend()]) as rt:
        assert await rt.run(double, 21) == 42
        assert await rt.run(words, "run it anywhere") == ["run", "it", "anywhere"]
        assert await rt.run(count_async, 3) == [0, 1, 2]


async def test_the_handler_may_be_a_coroutine_function() -> None:
    """A test can hold a call until it is ready."""
    ready = asyncio.Event()

    async def handler(task: AnyTask, x: int) -> int:
        await ready.wait()
        return -x

    async with Runtime([MockBackend(handler)]) as rt:
        call = asyncio.ensure_future(rt.run(double, 1))
        await asyncio.sleep(0)
        assert not call.done()
        ready.set()
        assert await call == -1


async def test_what_the_handler_raises_is_the_answer() -> None:
    """An error of this library as it is; anything else is what the task raised."""

    def handler(task: AnyTask, x: int) -> int:
        raise WorkerLost("gone", backend="mock", exit_code=-9) if x else ValueError("odd")

    place = MockBackend(handler)
    with pytest.raises(WorkerLost, match="gone"):
        await place.run_call(Call(double, (1,)))
    with pytest.raises(TaskFailed, match="ValueError: odd"):
        await place.run_call(Call(double, (0,)))


async def test_a_lost_worker_falls_back_to_the_next_place() -> None:
    """The routing of a program can be tested without a process."""

    def dies(task: AnyTask, *args: Any) -> Any:
        raise WorkerLost("worker 1 exited with code -9", backend="worker")

    worker = MockBackend(dies, name="worker", rank=0)
    async with Runtime([LocalBackend(), worker], strategy=prefer("worker", "local")) as rt:
        assert await rt.run(double, 21) == 42
    worker.assert_asked(double, 21)


async def test_it_stands_where_it_is_said_to_stand() -> None:
    """Rank, abilities and machine are arguments."""
    far = MockBackend(name="far", rank=0, on_this_machine=False, provides={"gpu"})
    near = MockBackend(name="near", rank=1)
    demanding = task(needs={"gpu"}, name="demanding")(double.fn)
    secret = task(private=True, name="secret")(double.fn)
    async with Runtime([near, far]) as rt:
        await rt.run(double, 1)
        await rt.run(demanding, 2)
        await rt.run(secret, 3)
    assert far.calls == [Asked("double", (1,)), Asked("demanding", (2,))]
    near.assert_asked(secret, 3)
    far.assert_not_asked(secret)


async def test_it_can_decline_with_a_reason() -> None:
    """Which the error repeats."""
    place = MockBackend(refuses=lambda task: "it is full" if task.name == "double" else None)
    async with Runtime([place]) as rt:
        assert await rt.run(add, 1, 2) == 3
        with pytest.raises(NoBackendAvailable, match=r"mock \(it is full\)"):
            await rt.run(double, 1)
    place.assert_not_asked(double)


async def test_a_policy_is_seen_in_what_did_not_come() -> None:
    """Nothing that is forbidden reaches the place."""
    place = MockBackend()
    async with Runtime([place], policies=[allow_only("contract.add")]) as rt:
        with pytest.raises(PolicyRefused):
            await rt.run(double, 1)
    place.assert_not_asked()


def test_its_asserts_say_what_came() -> None:
    """A failing test is read without a debugger."""
    place = MockBackend(name="worker")
    with pytest.raises(AssertionError, match=r"'worker' was not asked for double\(21\); what came: nothing"):
        place.assert_asked(double, 21)
    place.calls += [Asked.of(double, 1), Asked.of("other", x="y")]
    place.assert_asked(double, 1)
    place.assert_asked("other", x="y")
    place.assert_not_asked(add)
    with pytest.raises(AssertionError, match=r"what came: double\(1\), other\(x='y'\)"):
        place.assert_asked(double, 2)
    for unwanted in ((), (double,), ("other",)):
        with pytest.raises(AssertionError, match="should not have been asked"):
            place.assert_not_asked(*unwanted)


async def test_a_stream_has_the_items_of_the_handler() -> None:
    """A list, a generator or an async generator of them."""

    async def slowly(text: str) -> AsyncIterator[str]:
        for each in text:
            yield each
            await asyncio.sleep(0)

    for handler in (lambda task, text: list(text), lambda task, text: iter(text), lambda task, text: slowly(text)):
        async with Runtime([MockBackend(handler)]) as rt, rt.stream(words, "abc") as items:
            assert [item async for item in items] == ["a", "b", "c"]


async def test_leaving_a_stream_closes_what_the_handler_gave() -> None:
    """Its `finally` runs before the block is left."""
    closed: list[str] = []

    def handler(task: AnyTask, text: str) -> Iterator[str]:
        try:
            yield from text
        finally:
            closed.append(text)

    async with MockBackend(handler).stream_call(Call(words, ("abc",))) as items:
        assert await anext(items) == "a"
        assert closed == []
    assert closed == ["abc"]


async def test_a_handler_that_waits_for_ever_meets_the_deadline() -> None:
    """For a call and for a stream."""
    forever = asyncio.Event()

    async def never(task: AnyTask, *args: Any) -> Any:
        await forever.wait()

    async def stuck() -> AsyncIterator[str]:
        await forever.wait()
        yield ""

    async with Runtime([MockBackend(never)]) as rt:
        with pytest.raises(TaskTimeout):
            await rt.options(timeout=0.01).run(double, 1)
    async with Runtime([MockBackend(lambda task, text: stuck())]) as rt:
        with pytest.raises(TaskTimeout):
            async with rt.options(timeout=0.01).stream(words, "a") as items:
                await anext(items)


async def test_closing_it_answers_what_the_handler_holds() -> None:
    """A call and a stream that would wait for ever."""
    forever = asyncio.Event()

    async def stuck() -> AsyncIterator[str]:
        await forever.wait()
        yield ""

    place = MockBackend(lambda task, *args: stuck() if task.streams else forever.wait())
    call = asyncio.ensure_future(place.run_call(Call(double, (1,))))
    async with place.stream_call(Call(words, ("a",))) as items:
        reading = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0.001)
        await place.aclose()
        for each in (call, reading):
            with pytest.raises(BackendClosed):
                await each
    assert not place.can_run(double)
    assert place.why_not(double) == "it is closed"


# Replaying.


async def test_a_recording_can_be_replayed() -> None:
    """Results, items and errors, without the place that gave them."""
    recording = Recording(LocalBackend())

    async def session(rt: Runtime) -> list[Any]:
        answers: list[Any] = [await rt.run(add, 1, 2), await rt.run(add, 1, b=5), await rt.run(count, 3)]
        with pytest.raises(TaskFailed) as caught:
            await rt.run(add, 1, None)  # type: ignore[call-overload]
        async with rt.stream(count, 2) as items:
            answers += [item async for item in items]
        return [*answers, str(caught.value)]

    async with Runtime([recording]) as rt:
        first = await session(rt)
    replayed = MockBackend(replay(recording.calls), name="local")
    async with Runtime([replayed]) as rt:
        assert await session(rt) == first == [3, 6, [0, 1, 2], 0, 1, first[-1]]
    assert [asked.task for asked in replayed.calls] == [each.task for each in recording.calls]


async def test_each_recorded_answer_is_given_once() -> None:
    """What was not recorded is an error that shows the call."""
    recording = Recording(MockBackend())
    await recording.run_call(Call(add, (1, 2)))
    place = MockBackend(replay(recording.calls))
    assert await place.run_call(Call(add, (1, 2))) == 3
    with pytest.raises(TaskFailed, match=r"no answer is recorded, or left, for contract\.add\(1, 2\)"):
        await place.run_call(Call(add, (1, 2)))


# The module.


def test_the_module_offers_what_it_lists() -> None:
    """Each name is loaded on first use; another is an AttributeError."""
    for name in hybrid_compute.testing.__all__:
        assert getattr(hybrid_compute.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hybrid_compute.testing.nothing  # noqa: B018


def test_a_worker_that_runs_the_contract_loads_no_test_framework() -> None:
    """The tasks of the contract are a module of their own."""
    program = (
        "import sys, hybrid_compute.testing.tasks\n"
        "print('pytest' in sys.modules, 'hybrid_compute.testing.contract' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False False\n"
