"""Engines that are made from others: forks, and those that do again what another has done."""

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.watchers import Entry, Policy
from hybrid_compute.errors import EngineError
from hybrid_compute.tabletop.engine import TableEngine
from tests.engine.again import SEED, engine_of, shown
from tests.engine.counters import actions, counter
from tests.engine.homes import HOMES, Make, opening


@pytest.fixture(params=HOMES)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    async with opening(request.param) as make:
        yield make


async def test_a_fork_goes_its_own_way(make: Make) -> None:
    """From the state, the history and the luck that the other has; each ends by itself."""
    engine = await make(seed=SEED)
    await engine.dispatch_async("add", {"by": 5})
    fork = await engine.fork()
    async with fork:
        assert await fork.history() == await engine.history()
        await fork.dispatch_async("add")
        await engine.dispatch_async("add", {"by": 10})
        assert [await each.dispatch_async("total") for each in (fork, engine)] == [6, 15]
        lots = [await each.dispatch_async("draw lots") for each in (fork, engine)]
        assert lots[0][1:] == lots[1][1:]
    assert await engine.dispatch_async("total") == 15


async def test_the_fork_of_a_table_is_a_table() -> None:
    async with TableEngine([{"id": "a"}, {"id": "b"}]) as engine:
        async with await engine.fork() as fork:
            assert await fork.aio.stack.draw(1) == [{"id": "b"}]
        assert await engine.aio.stack.draw(2) == [{"id": "b"}, {"id": "a"}]


async def test_what_an_engine_is(make: Make) -> None:
    engine = await make(seed=SEED)
    await engine.dispatch_async("add")
    await engine.watch(Policy("idle", lambda inside, entry: False, lambda inside, entry: None))
    is_now = await engine.describe()
    assert is_now._replace(actions=[]) == ("dict", [], SEED, 1, ["idle"])
    assert is_now.actions == sorted(actions)


# Doing again.

WORK: dict[str, list[tuple[str, Any]]] = {
    "table": [
        ("stack:shuffle", {}),
        ("agent:create", {"name": "Alice"}),
        ("agent:drawCards", {"name": "Alice", "count": 3}),
        ("space:place", {"zone": "river", "card": {"id": "x"}}),
        ("token:split", {"token": {"id": "x"}, "count": 3}),
        ("stack:shuffle", {"seed": 7}),
        ("game:start", {}),
    ],
    "functions": [("draw lots", {}), ("add", {"by": 3}), ("change and fail", {}), ("keep", [1.5]), ("draw lots", {})],
    "class": [("draw", {"times": 3}), ("sort", {}), ("draw", {"times": 2}), ("sort", {})],
    "deck": [("draw", {"count": 2}), ("put_back", {"cards": ["X"]})],
}


@pytest.mark.parametrize("kind", WORK)
async def test_log_and_seed_give_the_same_state_in_another_process(kind: str, tmp_path: Path) -> None:
    """Whatever strings hash to there."""
    engine, log = engine_of(kind), tmp_path / "log"
    for _ in range(20):
        for type, payload in WORK[kind]:
            await engine.dispatch_checked(type, payload)
    log.write_bytes(pickle.dumps(await engine.history()))
    program = [sys.executable, "-m", "tests.engine.again", kind, str(log)]
    there = await asyncio.create_subprocess_exec(
        *program, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": "1"}
    )
    printed, _ = await there.communicate()
    assert printed.decode() == await shown(engine)


async def test_doing_again_where_it_lives(make: Make) -> None:
    """In place of what was there, and it can be undone."""
    first = Engine(counter, actions, seed=SEED)
    for _ in range(60):
        await first.dispatch_async("draw lots")
    engine = await make(seed=SEED)
    await engine.dispatch_async("add")
    history = await first.history()
    assert await engine.replay(history) == 60
    assert await engine.state() == await first.state()
    history[0].payload["changed"] = True  # the engine has its own
    assert (await engine.history())[0].payload == {}
    for each in (engine, first):
        await each.undo(3)
        await each.dispatch_async("draw lots")
    assert [lots[1:] for lots in (await engine.state())["seen"]] == [lots[1:] for lots in (await first.state())["seen"]]


@pytest.mark.parametrize("type", ["no such", "change and fail"])
async def test_what_cannot_be_done_again_changes_nothing(make: Make, type: str) -> None:
    engine = await make()
    await engine.dispatch_async("add")
    with pytest.raises(EngineError, match=f"entry 1 of the log, '{type}', cannot be done again"):
        await engine.replay([Entry(1, "add", {}, 0), Entry(2, type, {}, 0)])
    assert await engine.state() == {"total": 1, "seen": []}
    assert len(await engine.history()) == 1


async def test_what_history_gives_is_not_the_log_itself(make: Make) -> None:
    engine = await make()
    await engine.dispatch_async("keep", [1])
    (await engine.history())[0].payload.append(2)
    assert (await engine.history())[0].payload == [1]
