"""Token actions in one process, beside what the original has done; and what many engines cost, or a large one."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.harness import Group
from benchmarks.machine import pss
from benchmarks.measure import Effort, Figures, Series, call_rate, now, time_calls

group = Group("actions", "Token actions in one process")

SHUFFLE, DRAW, PLACE, CREATE = "stack:shuffle, 52 cards", "stack:draw", "space:place, 300", "agent:create, 300"
FLAT = "stack:draw after 100,000 actions"
ENGINES = "memory of each of 10,000 engines"
SAVED = "snapshot and restore, 10,000 tokens"

ORIGINAL = {SHUFFLE: 42.0, DRAW: 1637.0, PLACE: 1517.0, CREATE: 2938.0}
"""Actions a second that the original did: one thread of node 20 on two shared cores, medians of five rounds."""

ROUNDS = 7  # at least
MANY = 10_000
LONG = 100_000


@group.peer("the original, as measured once", *ORIGINAL)
def original(effort: Effort) -> Figures:
    return {measure: Series("calls/s", rate) for measure, rate in ORIGINAL.items()}


# As the original was measured: a fresh table with 52 cards for each round, and one action after the other.


def _shuffle(engine: Any, number: int) -> None:
    engine.dispatch("stack:shuffle", {"seed": number})


def _draw(engine: Any, number: int) -> None:
    engine.dispatch("stack:draw", {"count": 1})


def _place(engine: Any, number: int) -> None:
    engine.dispatch("space:place", {"zone": "table", "card": {"id": f"card-{number}"}})


def _create(engine: Any, number: int) -> None:
    engine.dispatch("agent:create", {"name": f"Player {number}"})


def rounds(measure: str, do: Callable[[Any, int], object], count: int, effort: Effort) -> Figures:
    rates: list[float] = []
    deadline = now() + int(effort.seconds * 1e9)
    while len(rates) < ROUNDS or now() < deadline:
        engine = _table()
        start = now()
        for number in range(count):
            do(engine, number)
        rates.append(count * 1e9 / (now() - start))
    return {measure: Series("calls/s", statistics.median(rates))}


for measure, do, count in ((SHUFFLE, _shuffle, 60), (DRAW, _draw, 52), (PLACE, _place, 300), (CREATE, _create, 300)):
    group.ours("Engine.dispatch", measure)(partial(rounds, measure, do, count))


@group.ours("Engine.dispatch, a table with no past", FLAT)
def no_past(effort: Effort) -> Figures:
    return {FLAT: _draws(_table(), effort)}


@group.ours("Engine.dispatch, the same table later", FLAT)
def long_past(effort: Effort) -> Figures:
    engine = _table()
    _draw_all_day(engine, LONG)
    return {FLAT: _draws(engine, effort)}


def _draws(engine: Any, effort: Effort) -> Series:
    return call_rate(partial(_draw_all_day, engine), 5_200, effort)


def _draw_all_day(engine: Any, actions: int) -> None:
    for number in range(actions):
        if number % 52 == 0:
            engine.dispatch("stack:reset", {})
        else:
            engine.dispatch("stack:draw", {"count": 1})


# Many engines, and a large one.


@group.ours("Engine, no cards", ENGINES)
def empty_engines(effort: Effort) -> Figures:
    return {ENGINES: _memory(lambda: _table(0))}


@group.ours("Engine, 52 cards", ENGINES)
def engines(effort: Effort) -> Figures:
    return {ENGINES: _memory(_table)}


def _memory(make: Callable[[], Any]) -> Series:
    make()
    gc.collect()
    before = pss(os.getpid())
    made = [make() for _ in range(MANY)]
    gc.collect()
    return Series("kB", (pss(os.getpid()) - before) * 1024 / len(made))


@group.ours("Engine.snapshot, Engine.restore", SAVED)
def saved(effort: Effort) -> Figures:
    engine = _table(MANY)

    async def save_and_restore() -> None:
        await engine.restore(await engine.snapshot())

    with asyncio.Runner() as runner:
        return {SAVED: time_calls(lambda: runner.run(save_and_restore()), effort, unit="ms")}


def _table(cards: int = 52) -> Any:
    from hybrid_compute.tabletop.engine import TableEngine

    return TableEngine([{"id": f"card-{number}", "label": f"Card {number}"} for number in range(cards)])
