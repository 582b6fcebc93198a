"""Actions that travel together: each has an outcome of its own, whatever becomes of the others."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from hybrid_compute.backends.crew import Lifetime
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.clock import ManualClock
from hybrid_compute.engine.carrier import Carrier
from hybrid_compute.engine.engine import Engine, Result
from hybrid_compute.engine.listeners import Event
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.thread import ThreadWorker
from hybrid_compute.errors import EngineStopped, TaskTimeout, WorkerLost
from tests.engine.counters import actions, counter
from tests.faults.watching import until

Open: TypeAlias = Callable[..., Awaitable[Engine[Any]]]

HOMES: dict[str, Callable[[], Any]] = {
    "process": lambda: WorkerBackend(1, lifetime=Lifetime(min_workers=1, idle_timeout=None)),
    "portable": lambda: WorkerBackend(1, lifetime=Lifetime(min_workers=1, idle_timeout=None), portable=True),
    "thread": ThreadWorker,
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=HOMES)
def workers(request: pytest.FixtureRequest, clock: ManualClock) -> Any:
    workers = HOMES[request.param]()
    workers.clock = clock
    return workers


@pytest.fixture
async def open_in(workers: Carrier) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(workers.aclose)

        async def open_in(**options: Any) -> Engine[Any]:
            engine: Engine[Any] = Engine(counter, actions, workers=workers, worker_options=WorkerOptions(**options))
            return await stack.enter_async_context(engine)

        yield open_in


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The payload of a wait that is over with the test: a thread cannot be stopped before."""
    go_on = tmp_path / "go on"
    yield {"path": str(go_on), "mark": str(tmp_path / "marks")}
    go_on.touch()


def marks(payload: dict[str, str]) -> int:
    """How many have begun to wait."""
    path = Path(payload["mark"])
    return path.read_text().count("\n") if path.exists() else 0


def asked(engine: Engine[Any], *steps: tuple[str, Any]) -> list["asyncio.Task[Result]"]:
    return [asyncio.create_task(engine.dispatch_checked(*step)) for step in steps]


async def outcomes(tasks: list["asyncio.Task[Result]"]) -> list[Any]:
    """Results, and the types of errors."""
    return [each.result if each.ok else type(each.error) for each in await asyncio.gather(*tasks)]


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_one_that_does_not_end_fails_alone(
    open_in: Open, clock: ManualClock, hanging: dict[str, str], at: int
) -> None:
    """Those before it and behind it are done, once, and it was begun once."""
    engine = await open_in(timeout=1.0, batching=True, batch_window=0.0)
    recovered: list[Event] = []
    engine.on("engine:recovered", recovered.append)
    steps: list[tuple[str, Any]] = [("keep", number) for number in range(3)]
    steps.insert(at, ("wait for a file", hanging))
    tasks = asked(engine, *steps)
    await until(lambda: marks(hanging))
    clock.advance(1.0)  # it is seen at work
    clock.advance(1.0)  # and again
    expected: list[Any] = [0, 1, 2]
    expected.insert(at, TaskTimeout)
    assert await outcomes(tasks) == expected
    assert (await engine.state())["seen"] == [0, 1, 2]
    assert marks(hanging) == 1
    assert len(recovered) == 1


async def test_one_that_is_slow_has_the_time_of_one(open_in: Open, clock: ManualClock, tmp_path: Path) -> None:
    """A batch may take longer than that."""
    steps = [{"mark": str(tmp_path / f"at {name}"), "path": str(tmp_path / name)} for name in "abc"]
    engine = await open_in(timeout=1.0, batching=True, batch_window=0.0)
    tasks = asked(engine, *(("wait for a file", step) for step in steps))
    for step in steps:
        await until(partial(marks, step))
        assert not any(task.done() for task in tasks)
        clock.advance(0.9)
        Path(step["path"]).touch()
    assert await outcomes(tasks) == [None, None, None]
    assert clock.waiting == 0


async def test_one_that_does_not_end_in_an_atomic_batch_undoes_all(
    open_in: Open, clock: ManualClock, hanging: dict[str, str]
) -> None:
    engine = await open_in(timeout=1.0)
    await engine.dispatch_async("add")
    steps = [("add", {}), ("wait for a file", hanging), ("add", {})]
    many = asyncio.create_task(engine.dispatch_many(steps, atomic=True))
    await until(lambda: marks(hanging))
    clock.advance(1.0)
    clock.advance(1.0)
    with pytest.raises(TaskTimeout):
        await many
    assert await engine.dispatch_async("total") == 1
    assert marks(hanging) == 1


async def test_a_batch_that_does_not_begin_in_time_is_not_done(
    open_in: Open, clock: ManualClock, tmp_path: Path
) -> None:
    """Because another engine is at work there."""
    go_on = tmp_path / "go on"
    slow, engine = await open_in(timeout=None), await open_in(timeout=1.0, batching=True, batch_window=0.0)
    held = asyncio.create_task(slow.dispatch_async("wait for a file", {"path": str(go_on)}))
    await asyncio.sleep(0)
    tasks = asked(engine, ("add", {}), ("add", {}))
    await until(lambda: clock.waiting)
    clock.advance(1.0)
    assert await outcomes(tasks) == [TaskTimeout, TaskTimeout]
    go_on.touch()
    await held
    assert await engine.dispatch_async("total") == 0


@pytest.mark.parametrize("workers", ["process", "portable"], indirect=True)
@pytest.mark.parametrize("durable", [True, False])
async def test_one_that_takes_the_worker_down(open_in: Open, durable: bool) -> None:
    """It is lost alone, if the engine is durable; otherwise the state is gone, and that is said to all."""
    engine = await open_in(durable=durable, batching=True, batch_window=0.0)
    tasks = asked(engine, ("keep", 0), ("die", {}), ("keep", 1), ("change and fail", {}), ("keep", 2))
    found = await outcomes(tasks)
    if durable:
        assert [found[0], *found[2:3], found[4]] == [0, 1, 2]
        assert found[1] is WorkerLost
        assert (await engine.state())["seen"] == [0, 1, 2]
    else:
        assert set(found) <= {WorkerLost, EngineStopped}


@pytest.mark.parametrize("workers", ["process"], indirect=True)
async def test_many_that_take_the_worker_down(open_in: Open) -> None:
    """Each costs a worker, and nothing else."""
    engine = await open_in(durable=True)
    steps: list[tuple[str, Any]] = [("die", {}) if number % 3 == 1 else ("keep", number) for number in range(12)]
    results = await engine.dispatch_many(steps)
    assert [each.result for each in results if each.ok] == [number for number in range(12) if number % 3 != 1]
    assert [type(each.error) for each in results if not each.ok] == [WorkerLost] * 4
    assert (await engine.state())["seen"] == [number for number in range(12) if number % 3 != 1]
