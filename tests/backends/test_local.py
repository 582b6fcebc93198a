"""This process as a place: streams out of threads, and what tasks report."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, Task, progress, task
from hybrid_compute.errors import BackendClosed, TaskFailed, TaskTimeout
from hybrid_compute.events import Event, Progress
from hybrid_compute.testing import ManualClock
from tests.faults.watching import until, wait_until


class Held:
    """A generator that yields once, and then holds its thread until it is let go."""

    def __init__(self) -> None:
        self.begun, self.held, self.go, self.closed = (threading.Event() for _ in range(4))

    def items(self) -> Iterator[int]:
        self.begun.set()
        try:
            yield 0
            self.held.set()
            self.go.wait(60)
            yield 1
        finally:
            self.closed.set()


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.go.set()


async def test_a_stream_is_left_at_once_though_its_thread_is_busy(held: Held) -> None:
    """The reader goes on; the generator is closed where it yields next, and then the thread is free."""
    async with Runtime([LocalBackend(threads=1)]) as rt:
        async with rt.stream(held.items) as items:
            assert await anext(items) == 0
            await until(held.held.is_set)
        assert not held.closed.is_set()
        held.go.set()
        assert await rt.run(threading.Event.is_set, held.closed)


async def test_a_stream_ends_at_its_deadline_though_its_thread_is_busy(held: Held) -> None:
    """The same when it is the time that is up."""
    clock = ManualClock()
    async with Runtime([LocalBackend(threads=1)], clock=clock) as rt:
        with pytest.raises(TaskTimeout):
            async with rt.options(timeout=1.0).stream(held.items) as items:
                assert await anext(items) == 0
                await until(held.held.is_set)
                following = asyncio.ensure_future(anext(items))
                await until(lambda: clock.waiting)
                clock.advance(1.0)
                await following
        assert not held.closed.is_set()
        held.go.set()
        await until(held.closed.is_set)


async def test_a_stream_ends_with_its_place_though_its_thread_is_busy(held: Held) -> None:
    """And when the place is closed under the reader."""
    async with Runtime([LocalBackend()]) as rt:
        async with rt.stream(held.items) as items:
            assert await anext(items) == 0
            await until(held.held.is_set)
            following = asyncio.ensure_future(anext(items))
            await asyncio.sleep(0)
            await rt.aclose()
            with pytest.raises(BackendClosed):
                await following
    assert not held.closed.is_set()


async def test_a_stream_that_is_left_in_the_line_never_begins(held: Held) -> None:
    """No thread was free for it, and then nobody wanted it any more."""
    late = Held()
    async with Runtime([LocalBackend(threads=1)]) as rt:
        async with rt.stream(held.items) as items:
            assert await anext(items) == 0
            await until(held.held.is_set)
            async with rt.stream(late.items):
                pass
        held.go.set()
        assert await rt.run(held.closed.is_set)
    assert not late.begun.is_set()


def test_a_thread_that_outlives_its_event_loop_ends_in_silence(held: Held, capfd: pytest.CaptureFixture[str]) -> None:
    """It hands its last item to nobody, and closes its generator."""

    async def leave() -> None:
        async with Runtime([LocalBackend()]) as rt, rt.stream(held.items) as items:
            assert await anext(items) == 0
            await until(held.held.is_set)

    asyncio.run(leave())
    [thread] = [each for each in threading.enumerate() if each.name.startswith("hybrid-compute_")]
    held.go.set()
    thread.join(20)
    assert held.closed.is_set()
    assert capfd.readouterr().err == ""


def exits(how: type[BaseException]) -> Iterator[int]:
    yield 1
    raise how


async def exits_async(how: type[BaseException]) -> AsyncIterator[int]:
    yield 1
    sys.exit("enough")


@pytest.mark.parametrize("how", [SystemExit, KeyboardInterrupt, StopIteration])
@pytest.mark.parametrize("stream", [exits, exits_async])
async def test_a_generator_that_exits_ends_only_its_stream(stream: Any, how: type[BaseException]) -> None:
    """Neither the program nor the event loop, whatever it raises to get out."""
    async with Runtime([LocalBackend()]) as rt:
        async with rt.stream(stream, how) as items:
            assert await anext(items) == 1
            with pytest.raises(TaskFailed):
                await anext(items)
        assert await rt.run(abs, -1) == 1


# Progress.


def report(count: int) -> None:
    for number in range(count):
        progress(number, count, f"step {number}")


async def report_coroutine(count: int) -> None:
    for number in range(count):
        progress(number, count, f"step {number}")
        await asyncio.sleep(0)


def report_generator(count: int) -> Iterator[int]:
    for number in range(count):
        progress(number, count, f"step {number}")
        yield number


async def report_async_generator(count: int) -> AsyncIterator[int]:
    for number in range(count):
        progress(number, count, f"step {number}")
        yield number
        await asyncio.sleep(0)


REPORTING: dict[str, Any] = {
    "function": task(report),
    "trivial": Task(report, cost="trivial", name="report_trivially"),
    "coroutine": task(report_coroutine),
    "generator": task(report_generator),
    "async generator": task(report_async_generator),
}
every_kind = pytest.mark.parametrize("reporting", REPORTING.values(), ids=REPORTING)


def complete(events: list[Event], reporting: Task[..., Any]) -> bool:
    """Whether all that was reported has arrived, which must then be in order and of one call."""
    seen = [event for event in events if isinstance(event, Progress)]
    assert {event.task for event in seen} <= {reporting.name}
    assert len({event.call for event in seen}) <= 1
    steps = [(event.done, event.total, event.note) for event in seen]
    assert steps == [(number, 20, f"step {number}") for number in range(len(seen))]
    return len(seen) == 20


@every_kind
async def test_progress_in_this_process_reaches_the_hooks(reporting: Task[..., Any]) -> None:
    """From the event loop and from threads, as it does from workers."""
    events: list[Event] = []
    async with Runtime([LocalBackend()], hooks=[events.append]) as rt:
        await rt.run(reporting, 20)
        await until(lambda: complete(events, reporting))


@every_kind
def test_progress_in_this_process_is_heard_in_ordinary_code(reporting: Task[..., Any]) -> None:
    """A blocking runtime has the same hooks."""
    events: list[Event] = []
    with BlockingRuntime([LocalBackend()], hooks=[events.append]) as rt:
        rt.run(reporting, 20)
        wait_until(lambda: complete(events, reporting))


@pytest.mark.parametrize("reporting", [report_generator, report_async_generator])
async def test_progress_of_a_stream_is_not_that_of_its_reader(reporting: Any) -> None:
    """What the reader says between two items is said by nobody's task."""
    events: list[Event] = []
    async with Runtime([LocalBackend()], hooks=[events.append]) as rt:
        async with rt.stream(reporting, 20) as items:
            async for _ in items:
                progress(99, 99, "not the task")
        await until(lambda: complete(events, task(reporting)))


async def test_progress_of_a_task_that_was_learned_to_run_here_is_heard() -> None:
    """It moved into the event loop; its hooks moved with it."""
    events: list[Event] = []
    reporting = Task(report, name="learned")
    async with Runtime([LocalBackend()], hooks=[events.append]) as rt:
        rt.timings[reporting].profile((20,), {}).choice = "inline"
        await rt.run(reporting, 20)
    assert complete(events, reporting)


async def test_progress_that_nobody_hears_is_no_error() -> None:
    """Outside of tasks, and in a runtime without hooks."""
    progress(1, 2, "half")
    async with Runtime([LocalBackend()]) as rt:
        for reporting in REPORTING.values():
            await rt.run(reporting, 20)
