"""What a state that is brought back takes along, and what it does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.backends.crew import Lifetime
from hybrid_compute.backends.pool import Pool
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.listeners import Event
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.errors import EngineError, TaskTimeout, WorkerLost
from tests.engine.counters import actions, counter
from tests.faults.watching import until


@pytest.fixture
async def workers() -> AsyncIterator[WorkerBackend]:
    workers = WorkerBackend(1, lifetime=Lifetime(min_workers=1, idle_timeout=None))
    yield workers
    await workers.aclose()


async def opened(stack: AsyncExitStack, workers: WorkerBackend, **options: Any) -> Engine[Any]:
    engine: Engine[Any] = Engine(counter, actions, workers=workers, worker_options=WorkerOptions(**options))
    return await stack.enter_async_context(engine)


@pytest.fixture
def slow_deaths(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Workers that have gone are only seen to have, as those with much memory are, once the result is called."""
    unseen: list[tuple[Any, ...]] = []
    exited = Pool.exited
    monkeypatch.setattr(Pool, "exited", lambda *it: unseen.append(it))

    def see() -> None:
        monkeypatch.setattr(Pool, "exited", exited)
        for each in unseen:
            exited(*each)

    return see


async def test_a_worker_that_dies_slowly_has_no_say_any_more(
    workers: WorkerBackend, slow_deaths: Callable[[], None], tmp_path: Path
) -> None:
    """What it had read ahead is done by the next one: once, in its order, and with what came later behind it."""
    async with AsyncExitStack() as stack:
        hung = await opened(stack, workers, timeout=0.3, durable=True)
        engine = await opened(stack, workers, timeout=None, durable=True)
        for _ in range(30):
            await engine.dispatch_async("total")  # it is known to be quick, and hence read ahead
        marks = tmp_path / "marks"
        hanging = asyncio.create_task(hung.dispatch_checked("mark and wait", {"path": str(marks)}))
        await until(marks.exists)
        ahead = [engine.dispatch_async("keep", number) for number in range(3)]
        assert isinstance((await hanging).error, TaskTimeout)
        later = [engine.dispatch_async("keep", number) for number in range(3, 6)]
        await asyncio.gather(*later)
        slow_deaths()
        assert await asyncio.gather(*ahead, *later) == list(range(6))
        assert (await engine.state())["seen"] == list(range(6))
        assert [entry.payload for entry in await engine.history() if entry.type == "keep"] == list(range(6))
        assert isinstance((await hung.dispatch_checked("die")).error, WorkerLost)
        assert (await engine.state())["seen"] == list(range(6))


async def test_undo_goes_back_beyond_a_recovery(workers: WorkerBackend) -> None:
    """Any number of steps, and to checkpoints; also after one that began with a backup."""
    async with AsyncExitStack() as stack:
        engine = await opened(stack, workers, durable=True)
        for number in range(1, 121):
            await engine.dispatch_async("add", {"by": number})
        assert (await engine.undo(1)).payload == {"by": 120}  # type: ignore[union-attr]
        assert isinstance((await engine.dispatch_checked("die")).error, WorkerLost)
        assert (await engine.undo(2)).payload == {"by": 119}  # type: ignore[union-attr]
        assert (await engine.state())["total"] == sum(range(1, 118))
        await engine.undo()
        assert len(await engine.history()) == 100
        assert (await engine.state())["total"] == sum(range(1, 101))
        await engine.undo(99)
        assert (await engine.state())["total"] == 1


async def test_what_was_held_comes_before_what_a_listener_dispatches_then(
    workers: WorkerBackend, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        engine = await opened(stack, workers, timeout=0.3)
        told: list[Any] = []
        engine.on("engine:recovered", lambda event: told.append(engine.dispatch_async("keep", "from the listener")))
        hanging = engine.dispatch_async("mark and wait", {"path": str(tmp_path / "marks")})
        waiting = [engine.dispatch_async("keep", number) for number in range(3)]
        with pytest.raises(TaskTimeout, match=r"action 'mark and wait' was stopped after 0\.3 s"):
            await hanging
        await asyncio.gather(*waiting)
        await told[0]
        assert (await engine.state())["seen"] == [0, 1, 2, "from the listener"]


async def test_what_fails_without_an_outcome_is_told(workers: WorkerBackend) -> None:
    """By the name of the action, as what fails with one."""
    async with AsyncExitStack() as stack:
        engine = await opened(stack, workers, durable=True)
        told: list[Event] = []
        engine.on("engine:error", told.append)
        await engine.dispatch_checked("die")
        await engine.dispatch_many([("add", {}), ("die", {}), ("add", {})])
        assert [event.payload["action"] for event in told] == ["die", "die"]
        assert await engine.dispatch_async("total") == 2


@pytest.mark.parametrize("portable", [False, True])
async def test_a_listener_cannot_wait(portable: bool) -> None:
    """What it would wait for comes after what it is being told; so it is refused, and nothing is done."""
    async with AsyncExitStack() as stack:
        workers = WorkerBackend(1, portable=portable)
        stack.push_async_callback(workers.aclose)
        engine = await opened(stack, workers, durable=True)
        errors: list[Exception] = []

        def wait(event: Event) -> None:
            with pytest.warns(RuntimeWarning), pytest.raises(EngineError, match="a listener cannot wait") as caught:
                engine.dispatch("keep", "from the listener")
            errors.append(caught.value)

        engine.on("added", wait)
        asked = [engine.dispatch_async("add") for _ in range(6)]
        assert await asyncio.gather(*asked) == [1, 2, 3, 4, 5, 6]
        assert len(errors) == 6
        assert (await engine.state())["seen"] == []
