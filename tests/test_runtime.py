"""The runtime: where calls go, what becomes of them, and what the hooks are told."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import Backend, BlockingRuntime, LocalBackend, Runtime, Task, WorkerBackend
from hybrid_compute.errors import BackendUnavailable, NoBackendAvailable, PolicyRefused, TaskTimeout, WorkerLost
from hybrid_compute.events import CallFinished, CallPassedOn, CallStarted, Event
from hybrid_compute.strategies import prefer
from hybrid_compute.tasks import AnyTask
from hybrid_compute.testing import MockBackend
from tests.routed import count, double, slow, third_time_lucky, where, where_isolated


class Broken(Backend):
    """A place that fails every call with the error it was made with."""

    name = "broken"
    rank = 0

    def __init__(self, error: Exception) -> None:
        self.error = error

    def can_run(self, task: AnyTask, /) -> bool:
        return True

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        raise self.error


def no_local(task: AnyTask, place: Backend, /) -> str | None:
    return "not in this process" if place.name == "local" else None


async def test_a_quick_task_is_learned_to_run_in_this_process() -> None:
    """After a few measured calls a trivial task no longer leaves the process, and `explain` says why."""
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        places = [await rt.run(where) for _ in range(30)]
        assert places[0] != os.getpid()
        assert places[-1] == os.getpid()
        assert "far below the cost of leaving the process" in str(rt.explain(where))


@pytest.mark.parametrize("task", [where, where_isolated])
async def test_what_is_learned_never_overrides_a_rule(task: Task[[], int]) -> None:
    """Neither a policy nor a need is forgotten because a task turned out to be quick."""
    policies = [no_local] if task is where else []
    async with Runtime([WorkerBackend(1), LocalBackend()], policies=policies) as rt:
        assert os.getpid() not in [await rt.run(task) for _ in range(30)]
        assert "local" in rt.explain(task).refusals
        assert rt.explain(task).place == "worker"
    with BlockingRuntime([WorkerBackend(1), LocalBackend()], policies=policies) as blocking:
        assert os.getpid() not in [blocking.run(task) for _ in range(30)]


async def test_map_retries_as_run_does(tmp_path: Path) -> None:
    """Each call of a map has the retries of its task."""
    async with Runtime([WorkerBackend(2)]) as rt:
        assert await rt.run(third_time_lucky, str(tmp_path), 100) == 100
        items = [(str(tmp_path), x) for x in range(5)]
        assert await rt.starmap(third_time_lucky, items) == list(range(5))


@pytest.mark.parametrize("hooked", [False, True])
async def test_the_calls_of_a_map_share_one_deadline(hooked: bool) -> None:
    """All calls of a map are submitted at once, whichever way they travel, and nothing is left to complain."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with Runtime([WorkerBackend(1)], hooks=[lambda _: None] if hooked else []) as rt:
        with pytest.raises(TaskTimeout):
            await rt.map(slow, range(20))
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_hooks_see_calls_that_never_leave_the_event_loop() -> None:
    """A learned-trivial call stays in the loop with a hook registered, and the hook is told of it."""
    seen: list[Event] = []
    async with Runtime([WorkerBackend(1), LocalBackend()], hooks=[seen.append]) as rt:
        for _ in range(30):
            await rt.run(where)
        seen.clear()
        assert await rt.run(where) == os.getpid()
    started, finished = seen[0], seen[1]
    assert isinstance(started, CallStarted)
    assert isinstance(finished, CallFinished)
    assert (started.backend, finished.error, finished.call) == ("local", None, started.call)


async def test_leaving_a_stream_early_is_no_failure() -> None:
    """The end of a stream is told when its block is left, without an error."""
    seen: list[Event] = []
    async with Runtime([WorkerBackend(1)], hooks=[seen.append]) as rt:
        async with rt.stream(count, 1000) as items:
            assert await anext(items) == 0
        finished = [event for event in seen if isinstance(event, CallFinished)]
        assert [event.error for event in finished] == [None]
        assert rt.stats()["count"]["worker"].failed == 0


async def test_round_robin_by_name_goes_round() -> None:
    """What a runtime remembers of a task is not the order of a strategy that changes it with each call."""
    one, other = MockBackend(name="one"), MockBackend(name="other")
    async with Runtime([one, other], strategy="round_robin") as rt:
        for number in range(4):
            await rt.run(double, number)
    assert len(one.calls) == len(other.calls) == 2


async def test_fastest_by_name_measures_each_place() -> None:
    """It cannot know the quickest before it has tried all of them."""
    async with Runtime([WorkerBackend(1), LocalBackend()], strategy="fastest") as rt:
        for number in range(4):
            await rt.run(double, number)
        assert set(rt.stats()["double"]) == {"worker", "local"}
        quickest = min(("worker", "local"), key=lambda place: rt.timings[double].mean(place) or 0.0)
        assert rt.explain(double, 4).place == quickest


async def test_a_preferred_place_that_is_not_there_is_passed_over() -> None:
    """Progressive enhancement: workers where there are any, else this process."""
    async with Runtime([LocalBackend()], strategy=prefer("worker", "local")) as rt:
        assert await rt.run(double, 4) == 8


async def test_a_place_that_fails_before_the_task_began_is_passed_over() -> None:
    """Another place is tried, and the hooks are told."""
    seen: list[Event] = []
    places = [Broken(BackendUnavailable("no such luck", backend="broken")), LocalBackend()]
    async with Runtime(places, hooks=[seen.append]) as rt:
        assert await rt.run(double, 4) == 8
    assert [event.backend for event in seen if isinstance(event, CallPassedOn)] == ["broken"]


async def test_a_call_that_had_begun_runs_nowhere_else_unless_pure() -> None:
    """Only a pure task may run twice, and never in this process after it has taken a worker down."""
    lost = WorkerLost("gone", backend="broken", started=True)
    async with Runtime([Broken(lost), LocalBackend()]) as rt:
        with pytest.raises(WorkerLost):
            await rt.run(double, 4)
        with pytest.raises(WorkerLost):
            await rt.run(Task(double.fn, name="pure", pure=True), 4)
    dropped = BackendUnavailable("dropped", backend="broken", started=True)
    async with Runtime([Broken(dropped), LocalBackend()]) as rt:
        assert await rt.run(Task(double.fn, name="pure again", pure=True), 4) == 8


async def test_a_private_task_never_leaves_this_machine() -> None:
    """Whatever the strategy: `PolicyRefused`, with the reason for each place."""
    away = Broken(RuntimeError("must not be asked"))
    away.on_this_machine = False
    secret = Task(double.fn, name="secret", private=True)
    async with Runtime([away], strategy="broken") as rt:
        with pytest.raises(PolicyRefused, match="private") as caught:
            await rt.run(secret, 1)
    assert list(caught.value.refusals) == ["broken"]


async def test_when_nobody_can_the_error_says_why_for_each() -> None:
    """`NoBackendAvailable.refusals` maps each place to its reason."""
    gpu = Task(double.fn, name="gpu", needs={"gpu"})
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        with pytest.raises(NoBackendAvailable) as caught:
            await rt.run(gpu, 1)
    assert caught.value.refusals == {"worker": "it does not provide gpu", "local": "it does not provide gpu"}


def test_an_unknown_strategy_is_an_error() -> None:
    """A name that is neither a strategy nor a backend lists those that are."""
    with pytest.raises(ValueError, match="known are: worker, local, auto"):
        Runtime(strategy="wroker")


async def test_a_call_can_be_gathered_waited_for_and_made_a_task() -> None:
    """What `run` gives fits everywhere asyncio takes a coroutine or a future."""
    async with Runtime([WorkerBackend(1)]) as rt:
        assert await asyncio.gather(rt.run(double, 1), rt.run(double, 2)) == [2, 4]
        assert await asyncio.create_task(rt.run(double, 3)) == 6
        assert await asyncio.wait_for(rt.run(double, 4), 10) == 8
        async with asyncio.TaskGroup() as group:
            five = group.create_task(rt.run(double, 5))
        assert five.result() == 10
