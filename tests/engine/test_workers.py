"""Where an engine can live, and by what mechanism."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.backends.crew import Lifetime
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.clock import ManualClock
from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.carrier import Carrier
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.environment import get_environment, supports_workers
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.thread import ThreadWorker
from hybrid_compute.engine.universal import UniversalWorker
from hybrid_compute.errors import BackendClosed, EngineStopped, HybridComputeError, TaskTimeout, WorkerLost
from tests.engine.counters import actions, counter, refuse
from tests.faults.watching import alive, until


async def on(carrier: Carrier, **options: Any) -> Engine[Any]:
    engine: Engine[Any] = Engine(counter, actions, workers=carrier, worker_options=WorkerOptions(**options))
    await engine.start()
    return engine


# One interface.


def test_a_program_has_workers_and_a_browser_has_none_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (get_environment(), supports_workers()) == ("process", True)
    monkeypatch.setattr(sys, "platform", "emscripten")
    assert (get_environment(), supports_workers()) == ("browser", False)


async def test_an_engine_in_a_browser_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As wherever there is no worker to be had."""
    monkeypatch.setattr("hybrid_compute.engine.universal.supports_workers", lambda: False)
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    with pytest.warns(RuntimeWarning, match="there are no workers in a browser yet"):
        await engine.start()
    assert await engine.dispatch_async("add") == 1
    await engine.shutdown()


@pytest.mark.parametrize("mechanism", ["process", "thread", None])
async def test_one_worker_for_engines(mechanism: Any) -> None:
    """It can be asked how long a message takes, and shared."""
    async with UniversalWorker(mechanism) as worker:
        assert worker.environment == "process"
        assert 0 < min([await worker.ping() for _ in range(20)]) < 0.5
        engines = [await on(worker) for _ in range(3)]
        for engine in engines:
            assert await engine.dispatch_async("add") == 1
            await engine.shutdown()
        assert await worker.ping() > 0  # it is not theirs to stop
    with pytest.raises(BackendClosed):
        await worker.ping()


def test_an_engine_lives_in_one_worker() -> None:
    with pytest.raises(ValueError, match="an engine lives in one worker, and these are 2: see EnginePool"):
        Engine(counter, actions, workers=WorkerBackend(2))


# Workers that go.


def under_way(workers: WorkerBackend) -> int:
    stats = workers.stats()
    return stats.running + stats.queued


async def test_a_worker_that_is_replaced_on_purpose_takes_no_state_with_it() -> None:
    """For its age here; a durable engine is not needed for that."""
    workers = WorkerBackend(1, lifetime=Lifetime(max_calls=5))
    engine = await on(workers)
    assert [await engine.dispatch_async("add") for _ in range(20)] == list(range(1, 21))
    assert workers.stats().started > 2
    await engine.shutdown()
    await workers.aclose()


async def test_a_timeout_behind_a_slow_action_loses_nothing_that_was_done(tmp_path: Path) -> None:
    """It had not begun. What follows it in line may be done on the state as it was, and is done on the new one."""
    workers = WorkerBackend(1, lifetime=Lifetime(idle_timeout=None))
    workers.clock = clock = ManualClock()
    go_on = tmp_path / "go on"
    engine, slow = await on(workers, timeout=1.0), await on(workers, timeout=None)
    held = asyncio.create_task(slow.dispatch_async("wait for a file", {"path": str(go_on)}))
    await until(lambda: workers.stats().running == 1)
    late = asyncio.create_task(engine.dispatch_checked("add"))
    await until(lambda: under_way(workers) == 2)
    clock.advance(0.5)
    in_time = [asyncio.create_task(engine.dispatch_checked("add")) for _ in range(5)]
    await until(lambda: under_way(workers) == 7)
    clock.advance(0.5)
    assert isinstance((await late).error, TaskTimeout)
    go_on.touch()
    await held
    assert [(await each).result for each in in_time] == [1, 2, 3, 4, 5]
    assert await engine.dispatch_async("total") == 5
    assert [entry.type for entry in await engine.history()] == ["add"] * 5 + ["total"]
    for each in (engine, slow):
        await each.shutdown()
    await workers.aclose()


async def test_workers_that_are_closed_under_an_engine_stop_it() -> None:
    worker = UniversalWorker()
    engine = await on(worker)
    await worker.aclose()
    for _ in range(2):
        with pytest.raises(EngineStopped, match="closed"):
            await engine.dispatch_async("add")
    await engine.shutdown()


@pytest.mark.parametrize("verb", ["undo", "restore", "compact", "replay"])
async def test_what_was_taken_back_stays_so_when_the_worker_dies(verb: str) -> None:
    """A durable engine comes back as it was after it."""
    engine = await on(workers := WorkerBackend(1), durable=True)
    snapshot = await engine.snapshot()
    for _ in range(3):
        await engine.dispatch_async("add")
    history = (await engine.history())[:2]
    arguments: dict[str, list[Any]] = {"undo": [1], "restore": [snapshot], "compact": [], "replay": [history]}
    going_back = asyncio.create_task(getattr(engine, verb)(*arguments[verb]))
    dying = asyncio.create_task(engine.dispatch_checked("die"))
    await going_back
    assert isinstance((await dying).error, WorkerLost)
    left = {"undo": 2, "restore": 0, "compact": 3, "replay": 2}[verb]
    assert await engine.state() == {"total": left, "seen": []}
    assert len(await engine.history()) == (0 if verb == "compact" else left)
    await engine.shutdown()
    await workers.aclose()


async def test_the_first_that_an_engine_is_asked_may_be_to_restore() -> None:
    """A durable one keeps that."""
    async with Engine(counter, actions) as other:
        await other.dispatch_async("add", {"by": 7})
        snapshot = await other.snapshot()
    engine: Engine[Any] = Engine(counter, actions, use_worker=True, worker_options=WorkerOptions(durable=True))
    assert await engine.restore(snapshot) == 1
    await engine.dispatch_checked("die")
    assert await engine.dispatch_async("total") == 7
    await engine.shutdown()


async def test_workers_that_were_closed_are_no_reason_to_live_here() -> None:
    worker = UniversalWorker()
    await worker.ping()
    await worker.aclose()
    with pytest.raises(EngineStopped, match="closed"):
        await on(worker)


async def test_an_ordinary_end_is_no_error() -> None:
    heard: list[str] = []
    async with Engine(counter, actions, use_worker=True) as engine:
        engine.on("*", lambda event: heard.append(event.type))
    assert heard == ["engine:shutdown"]


async def test_an_end_that_is_given_up_stops_the_worker_all_the_same(tmp_path: Path) -> None:
    """Whoever still waits is answered."""
    options = WorkerOptions(timeout=None)
    engine: Engine[Any] = Engine(counter, actions, use_worker=True, worker_options=options)
    stuck = asyncio.create_task(engine.dispatch_checked("mark and wait", {"path": str(tmp_path / "mark")}))
    await until((tmp_path / "mark").exists)
    workers = engine._workers
    assert isinstance(workers, WorkerBackend)
    running = workers.pids
    end = asyncio.create_task(engine.shutdown())
    await until(lambda: engine._stopped)
    end.cancel()
    with pytest.raises(asyncio.CancelledError):
        await end
    assert isinstance((await stuck).error, EngineStopped)
    assert alive(running) == []


async def test_a_start_that_fails_leaves_no_worker() -> None:
    engine: Engine[Any] = Engine(refuse, actions, use_worker=True)
    with pytest.raises(Exception, match="not today"):
        await engine.start()
    workers = engine._workers
    assert isinstance(workers, WorkerBackend)
    await until(lambda: not alive(workers.pids))


# A thread.


@pytest.fixture
async def thread() -> AsyncIterator[ThreadWorker]:
    worker = ThreadWorker(ManualClock())
    yield worker
    await worker.aclose()


def gated() -> tuple[ActionRegistry, threading.Event, threading.Event]:
    """Actions one of which begins, and waits until it may go on."""
    began, go_on = threading.Event(), threading.Event()
    registry = ActionRegistry(actions)
    _GATES.append((began, go_on))

    registry.add("wait")(_wait)
    return registry, began, go_on


_GATES: list[tuple[threading.Event, threading.Event]] = []


def _wait(state: dict[str, Any], payload: Any) -> int:
    began, go_on = _GATES[-1]
    began.set()
    assert go_on.wait(20)
    state["total"] += 100
    return 100


async def test_a_thread_that_does_not_end_in_time_is_left_to_itself(thread: ThreadWorker) -> None:
    """What it still does changes a state that nobody has any more; its neighbours keep theirs, and go on."""
    registry, began, go_on = gated()
    clock = thread.clock
    before = set(threading.enumerate())
    assert isinstance(clock, ManualClock)
    engine: Engine[Any] = Engine(counter, registry, workers=thread, worker_options=WorkerOptions(timeout=1.0))
    other = await on(thread, timeout=None)
    await asyncio.gather(engine.dispatch_async("add"), other.dispatch_async("add"))
    stuck = asyncio.create_task(engine.dispatch_checked("wait"))
    await until(began.is_set)
    behind = asyncio.create_task(other.dispatch_async("add"))
    await until(lambda: thread.stats().queued)
    clock.advance(1.0)
    assert isinstance((await stuck).error, TaskTimeout)
    assert await behind == 2
    assert thread.stats().started == 2
    assert await engine.dispatch_async("add") == 2
    go_on.set()
    await until(lambda: len(set(threading.enumerate()) - before) == 1)
    assert await engine.dispatch_async("add") == 3
    for each in (engine, other):
        await each.shutdown()


async def test_a_thread_has_what_was_given_and_not_the_thing_itself(thread: ThreadWorker) -> None:
    engine = await on(thread)
    given = [1]
    kept = await engine.dispatch_async("keep", given)
    given.append(2)
    kept.append(3)
    assert (await engine.state())["seen"] == [[1]]
    with pytest.raises(HybridComputeError, match="generator"):
        await engine.dispatch_async("give what cannot travel")
    await engine.shutdown()


async def test_the_end_of_a_thread_answers_all(thread: ThreadWorker) -> None:
    registry, began, go_on = gated()
    engine: Engine[Any] = Engine(counter, registry, workers=thread)
    pending = [asyncio.create_task(engine.dispatch_checked(type)) for type in ("wait", "add")]
    await until(began.is_set)
    await thread.aclose()
    assert [type((await each).error) for each in pending] == [EngineStopped, EngineStopped]
    go_on.set()


# Ordinary code.


async def test_another_thread_waits_while_the_loop_turns() -> None:
    async with Engine(counter, actions, use_worker=True) as engine:
        assert await asyncio.gather(*(asyncio.to_thread(engine.dispatch, "add") for _ in range(3))) != []
        assert await engine.dispatch_async("total") == 3


async def test_an_engine_of_ordinary_code_answers_in_a_loop_with_a_warning() -> None:
    with Engine(counter, actions, use_worker=True) as engine:
        with pytest.warns(RuntimeWarning, match="holds up the event loop"):
            assert engine.dispatch("add") == 1
    with Engine(counter, actions) as here:  # waits for nobody, also at its end
        assert here.dispatch("add") == 1
    with pytest.raises(EngineStopped):
        here.dispatch("add")


def test_a_loop_that_has_ended_took_its_engine_with_it() -> None:
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)

    async def main() -> None:
        await engine.start()
        workers = engine._workers
        assert workers is not None
        await workers.aclose()

    asyncio.run(main())
    with pytest.raises(EngineStopped, match="the event loop of this engine has ended"):
        engine.dispatch("add")


def test_a_start_that_fails_in_ordinary_code_leaves_no_thread() -> None:
    with pytest.raises(Exception, match="not today"), Engine(refuse, actions, use_worker=True):
        pass
    assert not any(each.name == "hybrid-compute engine" for each in threading.enumerate())


# A program's own classes.

PROGRAM = """
import asyncio, sys
from hybrid_compute.engine.engine import Engine

class Card:
    def __init__(self, name):
        self.name = name

class Deck:
    def __init__(self):
        self.cards = [Card(name) for name in "abc"]

    def draw(self):
        return self.cards.pop()

    def fail(self):
        self.cards.clear()
        raise ValueError

async def main(path, use_worker):
    async with Engine(Deck, use_worker=use_worker) as engine:
        try:
            await engine.load(path)
        except FileNotFoundError:
            pass
        await engine.dispatch_checked(Deck.fail)
        card = await engine.dispatch_async(Deck.draw)
        await engine.save(path)
        sys.stdout.write(card.name)
        async with await engine.fork() as fork:
            sys.stdout.write((await fork.dispatch_async(Deck.draw)).name)
            await fork.undo(1)
            sys.stdout.write((await fork.state()).cards[-1].name)

asyncio.run(main(sys.argv[1], sys.argv[2] == "worker"))
"""


@pytest.mark.parametrize("homes", [("worker", "worker"), ("worker", ""), ("", "worker")])
def test_classes_of_the_program_itself(tmp_path: Path, homes: tuple[str, str]) -> None:
    """They are known by no name in a worker, and are others in the next run of the program."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    for home, cards in zip(homes, ("cbb", "baa"), strict=True):
        command = [sys.executable, str(program), str(tmp_path / "file"), home]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (run.stdout, run.stderr) == (cards, "")
