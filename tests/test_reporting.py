"""Progress of one call, told to whoever has asked for it."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.backends.wrappers import Limited, Recording, Retrying
from hybrid_compute.events import Event, Hook, Progress
from hybrid_compute.reporting import heard_by, progress
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import Task, task

Report = tuple[float, float | None, str]


def report(count: int) -> int:
    for number in range(count):
        progress(number, count, f"step {number}")
    return count


async def report_coroutine(count: int) -> int:
    for number in range(count):
        progress(number, count, f"step {number}")
        await asyncio.sleep(0)
    return count


def report_generator(count: int) -> Iterator[int]:
    for number in range(count):
        progress(number, count, f"step {number}")
        yield number


async def report_async_generator(count: int) -> AsyncIterator[int]:
    for number in range(count):
        progress(number, count, f"step {number}")
        yield number


TASKS: dict[str, Task[..., Any]] = {
    "function": task(report),
    "trivial": Task(report, cost="trivial", name="report_trivially"),
    "coroutine": task(report_coroutine),
    "generator": task(report_generator),
    "async generator": task(report_async_generator),
}
PLACES: dict[str, Callable[[], Backend]] = {
    "local": LocalBackend,
    "worker": lambda: WorkerBackend(1),
    "portable": lambda: WorkerBackend(1, portable=True),
    "wrapped": lambda: Recording(Retrying(Limited(WorkerBackend(1), calls=2))),
}
every_kind = pytest.mark.parametrize("reporting", TASKS.values(), ids=TASKS)
every_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


def steps(count: int) -> list[Report]:
    return [(number, count, f"step {number}") for number in range(count)]


@every_kind
@every_place
@pytest.mark.parametrize("hooked", [False, True], ids=["", "and by hooks"])
async def test_a_call_is_heard_by_who_asked_for_it(
    reporting: Task[..., Any], place: Callable[[], Backend], hooked: bool
) -> None:
    """All of it, in order, before the result; hooks hear the same besides."""
    heard: list[Report] = []
    events: list[Event] = []
    async with Runtime([place()], hooks=[events.append] if hooked else []) as rt:
        with heard_by(lambda *said: heard.append(said)):
            await rt.run(reporting, 20)
            assert heard == steps(20)
    assert sum(isinstance(event, Progress) for event in events) == (20 if hooked else 0)


@every_place
@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_a_stream_is_heard_too(kind: str, place: Callable[[], Backend]) -> None:
    """While its items come."""
    heard: list[Report] = []
    async with Runtime([place()]) as rt:
        with heard_by(lambda *said: heard.append(said)):
            async with rt.stream(TASKS[kind], 5) as items:
                assert [item async for item in items] == list(range(5))
    assert heard == steps(5)


@pytest.mark.parametrize("place", [LocalBackend, WorkerBackend])
async def test_calls_side_by_side_are_told_apart(place: type[Backend]) -> None:
    """Each asker hears its own call, and whoever has not asked hears nothing."""
    async with Runtime([place()]) as rt:

        async def ask(count: int) -> list[Report]:
            heard: list[Report] = []
            with heard_by(lambda *said: heard.append(said)):
                await rt.run(report_coroutine, count)
            return heard

        *all_heard, _ = await asyncio.gather(*map(ask, range(1, 20)), rt.run(report_coroutine, 20))
    assert all_heard == [steps(count) for count in range(1, 20)]


@pytest.mark.parametrize("hooks", [[], [lambda _event: None]], ids=["", "beside hooks"])
async def test_a_task_that_was_learned_to_run_here_is_heard(hooks: list[Hook]) -> None:
    """It moved into the event loop; its listener moved with it."""
    reporting = Task(report, name="learned")
    heard: list[Report] = []
    async with Runtime([LocalBackend()], hooks=hooks) as rt:
        rt.timings[reporting].profile((20,), {}).choice = "inline"
        with heard_by(lambda *said: heard.append(said)):
            await rt.run(reporting, 20)
    assert heard == steps(20)


async def test_what_a_task_asks_for_is_not_its_own_progress() -> None:
    """A listener hears the call it was set for; the parts of it count for themselves, and can be listened to."""
    inside: list[Report] = []

    async with Runtime([LocalBackend()]) as rt:

        async def whole() -> None:
            progress(1, 2, "the whole")
            await rt.run(report_coroutine, 5)
            with heard_by(lambda *said: inside.append(said)):
                await rt.run(report_coroutine, 3)
            progress(2, 2, "the whole")

        heard: list[Report] = []
        with heard_by(lambda *said: heard.append(said)):
            await rt.run(whole)
    assert heard == [(1, 2, "the whole"), (2, 2, "the whole")]
    assert inside == steps(3)


async def test_nothing_is_heard_after_the_block() -> None:
    """A thread that was given up goes on reporting, to nobody."""
    heard: list[Report] = []
    go, gone = threading.Event(), threading.Event()

    def given_up() -> None:
        progress(1, None, "still wanted")
        go.wait(30)
        progress(2, None, "not wanted")
        gone.set()

    async with Runtime([LocalBackend()]) as rt:
        with heard_by(lambda *said: heard.append(said)):
            call = asyncio.ensure_future(rt.run(given_up))
            while not heard:  # noqa: ASYNC110  # a thread wakes nobody here
                await asyncio.sleep(0.001)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        go.set()
        await asyncio.to_thread(gone.wait, 30)
        await asyncio.sleep(0)
    assert heard == [(1, None, "still wanted")]


@every_place
@pytest.mark.parametrize("kind", ["function", "trivial", "generator"])
async def test_a_listener_that_raises_breaks_nothing(
    kind: str, place: Callable[[], Backend], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, with what it was told."""

    def deaf(*_said: object) -> None:
        raise ValueError("I cannot hear you")

    with caplog.at_level(logging.ERROR, "hybrid_compute"):
        async with Runtime([place()]) as rt:
            with heard_by(deaf):
                assert await rt.run(TASKS[kind], 3) in (3, [0, 1, 2])
    assert [record.getMessage()[-15:] for record in caplog.records] == [f"({n}, 3, 'step {n}')"[-15:] for n in range(3)]
    assert "I cannot hear you" in caplog.text
