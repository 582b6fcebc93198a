"""What goes wrong is a clear error, and the state is as it was before."""

import asyncio
import gc
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.listeners import DEEPEST, Event
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.turn import emit
from hybrid_compute.errors import (
    ActionFailed,
    BackendClosed,
    EngineError,
    EngineStopped,
    HybridComputeError,
    NotTransferable,
    TaskFailed,
    WorkerLost,
)
from tests.engine.counters import actions, counter
from tests.engine.homes import HOMES, Make, opening
from tests.faults.watching import alive, kill, until


@pytest.fixture(params=HOMES)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    async with opening(request.param) as make:
        yield make


class Odd(EngineError):
    """Pickles, and cannot be unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no word")


class Unkind:
    """Pickles, and cannot be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Polite(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("after you")
        self.door = (each for each in "ab")


def raising(error: Any) -> Any:
    def act(state: dict[str, Any], payload: Any) -> None:
        state["total"] = -1
        raise error()

    return act


def odd(state: dict[str, Any], payload: Any) -> None:
    state["total"] = -1
    raise Odd(1, 2)


def give(state: dict[str, Any], payload: Any) -> Any:
    state["total"] = -1
    return payload["what"]()


def tell(state: dict[str, Any], payload: Any) -> None:
    state["total"] = -1
    emit("told", (each for each in "ab"))


def endless(state: dict[str, Any], payload: Any) -> Any:
    state["total"] = -1
    return endless(state, payload)


def generator() -> Any:
    return (each for each in "ab")


BAD: dict[str, tuple[Any, Any, type[HybridComputeError], str]] = {
    "sys.exit": (raising(SystemExit), {}, ActionFailed, "SystemExit"),
    "an error that cannot be pickled": (raising(Polite), {}, ActionFailed, "Polite: after you"),
    "an error that cannot be unpickled": (odd, {}, ActionFailed, "Odd: 1 and 2"),
    "an error without words": (raising(Silent), {}, ActionFailed, "Silent: <its __str__ raised ValueError>"),
    "endless recursion": (endless, {}, ActionFailed, "RecursionError"),
    "a result that cannot be pickled": (give, {"what": generator}, ActionFailed, "generator"),
    "a result that cannot be unpickled": (give, {"what": Unkind}, ActionFailed, "no number"),
    "an event that cannot travel": (tell, {}, ActionFailed, "generator"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("listens", [False, True], ids=["nobody listens", "somebody listens"])
async def test_an_action_that_goes_wrong_has_not_been_done(make: Make, bad: str, listens: bool) -> None:
    """Alone, among others, and in an atomic batch."""
    handler, payload, kind, text = BAD[bad]
    registry = ActionRegistry(actions)
    registry.add("bad")(handler)
    engine = await make(actions=registry)
    if listens:
        engine.on("*", lambda event: None)
    await engine.dispatch_async("add", {"by": 5})
    with pytest.raises(kind, match=text):
        await engine.dispatch_async("bad", payload)
    done = await engine.dispatch_many([("add", {}), ("bad", payload), ("add", {})])
    assert [each.result for each in done] == [6, None, 7]
    with pytest.raises(kind, match=text):
        await engine.dispatch_many([("add", {}), ("bad", payload)], atomic=True)
    assert await engine.state() == {"total": 7, "seen": []}
    assert [each.type for each in await engine.history()] == ["add"] * 3


@pytest.mark.parametrize("what", [generator, Unkind])
async def test_a_careful_action_that_cannot_be_told_of_has_not_been_done(make: Make, what: Any) -> None:
    """A careful one looks at its payload first, and nobody has looked at its result."""
    registry = ActionRegistry(careful=True)
    registry.add("give")(give)
    registry.add("add")(actions["add"].handler)
    engine = await make(actions=registry)
    await engine.dispatch_async("add")
    for _ in range(2):
        with pytest.raises(HybridComputeError, match=r"generator|no number"):
            await engine.dispatch_async("give", {"what": what})
        assert await engine.state() == {"total": 1, "seen": []}
    assert len(await engine.history()) == 1
    assert await engine.dispatch_async("add") == 2


async def test_an_interrupt_in_an_action_is_for_the_program() -> None:
    """And the state is as before. In a worker there is no program to interrupt."""
    registry = ActionRegistry(actions)
    registry.add("interrupt")(raising(KeyboardInterrupt))
    here: Engine[Any] = Engine(counter, registry)
    with pytest.raises(KeyboardInterrupt):
        here.dispatch("interrupt")
    assert (await here.state())["total"] == 0
    async with Engine(counter, registry, use_worker=True) as there:
        with pytest.raises(TaskFailed, match="KeyboardInterrupt"):
            await there.dispatch_async("interrupt")
        assert (await there.state())["total"] == 0


@pytest.mark.parametrize("payload", [generator(), Unkind(), [generator()]])
async def test_a_payload_that_cannot_travel_is_refused(make: Make, payload: Any) -> None:
    engine = await make()
    with pytest.raises(NotTransferable):
        await engine.dispatch_async("keep", payload)
    assert await engine.state() == {"total": 0, "seen": []}
    assert await engine.dispatch_async("add") == 1


async def test_a_payload_that_cannot_be_read_fails_alone_in_its_batch() -> None:
    options = WorkerOptions(batching=True, batch_window=0.001)
    async with Engine(counter, actions, use_worker=True, worker_options=options) as engine:
        given = [("add", {}), ("keep", Unkind()), ("add", {})]
        done = await asyncio.gather(*(engine.dispatch_checked(*each) for each in given))
        assert [each.result for each in done] == [1, None, 2]
        assert isinstance(done[1].error, NotTransferable)
        assert len(await engine.history()) == 2


async def test_64_mib(make: Make) -> None:
    engine = await make()
    huge = bytes(64 << 20)
    assert await engine.dispatch_async("keep", huge) == huge


async def test_a_state_that_cannot_be_copied_is_said(make: Make) -> None:
    """By whatever needs a copy; actions go on."""
    registry = ActionRegistry(actions)
    registry.add("poison")(_poison)
    engine = await make(actions=registry)
    await engine.dispatch_async("poison")
    for ask in (engine.state, engine.snapshot):
        with pytest.raises(NotTransferable, match="generator"):
            await ask()
    for number in range(1, 120):
        assert await engine.dispatch_async("add") == number
    await engine.undo(120)
    assert await engine.state() == {"total": 0, "seen": []}


def _poison(state: dict[str, Any], payload: Any) -> None:
    state["poison"] = (each for each in "ab")


# Listeners.


async def test_listeners_that_answer_one_another_come_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    """And all events arrive in order, at each listener."""
    engine: Engine[Any] = Engine(counter, actions)
    first: list[int] = []
    second: list[int] = []

    def answer(event: Event) -> None:
        first.append(event.payload["total"])
        engine.dispatch("add")

    engine.on("added", answer)
    engine.on("added", lambda event: second.append(event.payload["total"]))
    engine.dispatch("add")
    assert first == second == list(range(1, DEEPEST + 1))
    assert "without end" in caplog.text
    engine.off("added", answer)
    engine.dispatch("add")
    assert second[-1] == DEEPEST + 2


async def test_iterators_that_have_ended_are_forgotten() -> None:
    engine: Engine[Any] = Engine(counter, actions)
    for _ in range(100):
        with engine.events("added"):
            pass
    gc.collect()
    assert len(engine._iterators) == 0


# Workers that are killed.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batching", [False, True], ids=["one by one", "in batches"])
async def test_no_answered_action_is_lost_and_none_done_twice(seed: int, batching: bool) -> None:
    """However often the worker of a durable engine is killed."""
    luck = random.Random(seed)
    workers = WorkerBackend(1)
    options = WorkerOptions(durable=True, batching=batching, batch_window=0.001)
    engine: Engine[Any] = Engine(counter, actions, workers=workers, worker_options=options)
    await engine.start()
    kept: list[int] = []

    async def keep(number: int) -> None:
        if (await engine.dispatch_checked("keep", number)).ok:
            kept.append(number)
        if luck.random() < 0.01:
            for pid in workers.pids:
                kill(pid)

    for start in range(0, 600, 40):
        await asyncio.gather(*(keep(number) for number in range(start, start + 40)))
    seen = (await engine.state())["seen"]
    assert seen == sorted(set(seen))
    assert set(kept) <= set(seen)
    assert workers.stats().lost > 0
    await engine.shutdown()
    await workers.aclose()


async def test_the_end_in_the_middle_answers_all() -> None:
    """Those before it are done, one by one or in a batch that waits; those after it are refused."""
    for options in (WorkerOptions(), WorkerOptions(batching=True, batch_window=60.0)):
        engine: Engine[Any] = Engine(counter, actions, use_worker=True, worker_options=options)
        await engine.start()
        before = [asyncio.create_task(engine.dispatch_checked("add")) for _ in range(500)]
        await asyncio.sleep(0)
        end = asyncio.create_task(engine.shutdown())
        after = [asyncio.create_task(engine.dispatch_checked("add")) for _ in range(5)]
        await end
        assert [(await each).result for each in before] == list(range(1, 501))
        assert {type((await each).error) for each in after} == {EngineStopped}


async def test_snapshots_that_are_taken_while_actions_fail() -> None:
    """By the engine itself, for the log to stay short: what failed is in none of them."""
    options = WorkerOptions(durable=True)
    async with Engine(counter, actions, use_worker=True, worker_options=options) as engine:
        home: Any = engine._home
        for start in range(0, 6000, 500):
            steps = [("keep" if number % 3 else "change and fail", number) for number in range(start, start + 500)]
            outcomes = await asyncio.gather(*(engine.dispatch_checked(*step) for step in steps))
            assert [each.ok for each in outcomes] == [bool(number % 3) for number in range(start, start + 500)]
        assert 0 < home._in_backup < 4000
        assert isinstance((await engine.dispatch_checked("die")).error, WorkerLost)
        assert (await engine.state())["seen"] == [number for number in range(6000) if number % 3]


# Batches.


async def test_what_is_asked_comes_after_what_waits_in_a_batch() -> None:
    """Order is the order of dispatch."""
    options = WorkerOptions(batching=True, batch_window=60.0)
    async with Engine(counter, actions, use_worker=True, worker_options=options) as engine:
        waiting = [asyncio.create_task(engine.dispatch_async("add"))]
        await asyncio.sleep(0)
        assert (await engine.state())["total"] == 1
        waiting.append(asyncio.create_task(engine.dispatch_async("add")))
        await asyncio.sleep(0)
        assert [each.result for each in await engine.dispatch_many([("add", {})])] == [3]
        waiting.append(asyncio.create_task(engine.dispatch_async("add")))
        await asyncio.sleep(0)
        await engine.undo(1)
        assert (await engine.state())["total"] == 3
        assert await asyncio.gather(*waiting) == [1, 2, 4]


async def test_who_gives_up_in_a_batch_harms_nobody() -> None:
    options = WorkerOptions(batching=True, batch_window=60.0, batch_limit=3)
    async with Engine(counter, actions, use_worker=True, worker_options=options) as engine:
        waiting = [asyncio.create_task(engine.dispatch_async("add")) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert await engine.dispatch_async("add") == 3
        assert await waiting[1] == 2


# Beginnings and ends.


def _none_of(pids: list[int]) -> bool:
    return not alive(pids)


async def test_a_start_that_is_given_up_and_ended_leaves_nothing() -> None:
    for turns in range(4):
        engine: Engine[Any] = Engine(counter, actions, use_worker=True)
        starting = asyncio.create_task(engine.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting = asyncio.create_task(engine.dispatch_checked("add"))
        await asyncio.sleep(0)
        starting.cancel()
        await engine.shutdown()
        answer = await waiting
        assert answer.ok or isinstance(answer.error, BackendClosed | EngineStopped)
        workers = engine._workers
        assert isinstance(workers, WorkerBackend)
        pids = workers.pids
        await until(partial(_none_of, pids))


async def test_many_starts_are_one() -> None:
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    await asyncio.gather(*(engine.start() for _ in range(50)), *(engine.dispatch_async("add") for _ in range(50)))
    assert (await engine.state())["total"] == 50
    await engine.shutdown()


def test_another_event_loop_is_refused() -> None:
    engine: Engine[Any] = Engine(counter, actions, use_worker=True)
    with asyncio.Runner() as runner, asyncio.Runner() as other:
        assert runner.run(engine.dispatch_async("add")) == 1
        for ask in (lambda: engine.dispatch_async("add"), engine.state, engine.start, engine.shutdown, engine.undo):
            with pytest.raises(EngineError, match="another event loop"):
                other.run(ask())
        assert runner.run(engine.dispatch_async("add")) == 2
        runner.run(engine.shutdown())


async def test_a_forked_copy_is_refused() -> None:
    async with Engine(counter, actions, use_worker=True) as engine:
        await engine.dispatch_async("add")
        pid = os.fork()
        if pid == 0:
            try:
                engine.dispatch("add")
            except EngineError as error:
                os._exit(7 if "forked" in f"{error}" else 8)
            finally:
                os._exit(9)
        try:
            await until(lambda: not alive([pid]))
        finally:
            kill(pid)
            _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        assert await engine.dispatch_async("add") == 2


async def test_an_error_that_is_raised_again_and_again_does_not_grow() -> None:
    engine: Engine[Any] = Engine(counter, actions)
    await engine.shutdown()
    for _ in range(3):
        with pytest.raises(EngineStopped) as raised:
            await engine.dispatch_async("add")
    assert len(raised.traceback) < 5


FORGETFUL = """
import asyncio, sys
from hybrid_compute.engine.engine import Engine
from tests.engine.counters import actions, counter

async def main():
    engine = Engine(counter, actions, use_worker=True)
    await engine.dispatch_async("add")
    print(*engine._workers.pids, flush=True)

asyncio.run(main())
"""


async def test_an_engine_that_is_not_shut_down_leaves_no_orphan() -> None:
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", FORGETFUL, stdout=subprocess.PIPE)
    printed, _ = await program.communicate()
    pids = [int(each) for each in printed.split()]
    assert pids
    await until(lambda: not alive(pids))


# Actions that dispatch.

circular = ActionRegistry()
engines: list[Engine[Any]] = []


@circular.add("dispatch")
def dispatch(state: dict[str, Any], payload: dict[str, Any]) -> Any:
    state["total"] += 1
    return engines[payload["to"]].dispatch("total")


@circular.add("total", reads=True)
def total(state: dict[str, Any], payload: Any) -> Any:
    return state["total"]


@pytest.mark.parametrize("home", ["here", "in a thread"])
async def test_an_action_cannot_dispatch(home: str) -> None:
    """It is said, instead of waiting for itself; but it may ask another engine that lives where it is."""
    async with opening(home) as make:
        other: Engine[Any] = Engine(counter, circular)
        engines[:] = [await make(counter, circular), other]
        with pytest.raises(EngineError, match="an action cannot"):
            await engines[0].dispatch_async("dispatch", {"to": 0})
        assert await engines[0].dispatch_async("dispatch", {"to": 1}) == 0
        assert await engines[0].dispatch_async("total") == 1


def test_an_action_cannot_dispatch_to_an_engine_of_ordinary_code() -> None:
    """In a thread of this process it could, and would wait for itself."""
    options = WorkerOptions(timeout=None, mechanism="thread")
    with Engine(counter, circular, use_worker=True, worker_options=options) as engine:
        engines[:] = [engine]
        with pytest.raises(EngineError, match="an action cannot wait for another one"):
            engine.dispatch("dispatch", {"to": 0})
        assert engine.dispatch("total") == 0


async def test_an_action_cannot_dispatch_and_not_wait() -> None:
    """Nor is it done later."""
    asked: list[Any] = []
    async with opening("here") as make:
        engine = await make(counter, one_more := ActionRegistry(circular))

        @one_more.add("dispatch and forget")
        def forget(state: dict[str, Any], payload: Any) -> None:
            asked.append(engine.dispatch_async("total"))

        await engine.dispatch_async("dispatch and forget")
        with pytest.raises(EngineError, match="an action cannot dispatch another one"):
            await asked[0]
        assert len(await engine.history()) == 1


# Much.


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_100_000_at_once() -> None:
    async with Engine(counter, actions, use_worker=True) as engine:
        done = await asyncio.gather(*(engine.dispatch_async("add") for _ in range(100_000)))
        assert done == list(range(1, 100_001))
        await engine.compact()
        assert await engine.dispatch_async("add") == 100_001


async def test_the_log_is_short_after_compact() -> None:
    """Also the one that would bring the state back: a snapshot is taken of what there is now."""
    options = WorkerOptions(durable=True)
    async with Engine(counter, actions, use_worker=True, worker_options=options) as engine:
        home: Any = engine._home
        longest = 0
        for _ in range(3):
            await engine.dispatch_many([("add", {})] * 3000)
            await engine.compact()
            for _ in range(30):
                await engine.dispatch_many([("add", {})] * 100)
                await engine.history(10_000)
                longest = max(longest, len(home._log))
            await engine.compact()
        assert longest <= 2100
        assert len(home._log) == 0
        recovered: list[Any] = []
        engine.on("engine:recovered", recovered.append)
        await engine.dispatch_checked("die")
        assert await engine.dispatch_async("total") == 18_000
        assert recovered[0].payload["entries"] == 0
