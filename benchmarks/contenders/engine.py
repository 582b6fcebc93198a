"""A message to the worker that an engine lives in, and back: what the Worker Mode Guide of the original measures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from benchmarks.harness import Group
from benchmarks.measure import Effort, Figures, Series, await_rate, time_awaits
from benchmarks.node import node_actions

group = Group("engine", "An action in the worker of an engine", placements=("free", "pinned"))

PING = "ping"
DISPATCH, DISPATCH_52 = "dispatch: a shuffle of no cards", "dispatch: a shuffle of 52 cards"
FIVE = "five dispatches at once, time per action"
BATCHED = "actions one by one, and batched"

TOGETHER = 5
BURST = 10_000
SHUFFLE = "stack:shuffle"
SEED = {"seed": 42}

GUIDE = {PING: 97.0, DISPATCH: 194.0, FIVE: 109.0}
"""Means in microseconds as the guide of the original gives them, on a machine of its own."""

GUIDE_P95 = 292.0
"""Of a dispatch, it seems: the guide does not say."""


@group.peer("the original's guide, a constant", *GUIDE)
def guide(effort: Effort) -> Figures:
    """Its dispatch shuffles the empty stack that its worker begins with. The median here is its mean."""
    p95 = {DISPATCH: GUIDE_P95}
    return {measure: Series("us", mean, p95.get(measure)) for measure, mean in GUIDE.items()}


def node(measure: str, verb: str, cards: int, together: int, effort: Effort) -> Figures:
    return {measure: node_actions(effort, verb, cards=cards, together=together)}


for name, measure, verb, cards, together in (
    ("Node worker_threads", PING, "ping", 0, 1),
    ("Node worker_threads", DISPATCH, SHUFFLE, 0, 1),
    ("Node worker_threads", DISPATCH_52, SHUFFLE, 52, 1),
    ("Node worker_threads", FIVE, SHUFFLE, 0, TOGETHER),
):
    group.peer(name, measure)(partial(node, measure, verb, cards, together))


@group.ours("UniversalWorker.ping", PING)
def ping(effort: Effort) -> Figures:
    from hybrid_compute.engine.universal import UniversalWorker

    async def measure() -> Series:
        async with UniversalWorker() as worker:
            return await time_awaits(worker.ping, effort)

    return {PING: asyncio.run(measure())}


def dispatch(measure: str, cards: int, together: int, effort: Effort) -> Figures:
    def shuffles(engine: Any) -> Awaitable[object]:
        if together == 1:
            return shuffle(engine)
        return asyncio.gather(*[shuffle(engine) for _ in range(together)])

    def shuffle(engine: Any) -> Awaitable[object]:
        return engine.dispatch_async(SHUFFLE, SEED)  # type: ignore[no-any-return]

    async def measured() -> Series:
        async with _table(cards) as engine:
            return await time_awaits(partial(shuffles, engine), effort, per=together)

    return {measure: asyncio.run(measured())}


for measure, cards, together in ((DISPATCH, 0, 1), (DISPATCH_52, 52, 1), (FIVE, 0, TOGETHER)):
    group.ours("Engine.dispatch_async", measure)(partial(dispatch, measure, cards, together))


# Many actions: each awaited before the next one is sent, or as few messages as there can be.


@group.ours("Engine.dispatch_async, one by one", BATCHED)
def one_by_one(effort: Effort) -> Figures:
    async def burst(engine: Any, actions: int) -> None:
        for _ in range(actions):
            await engine.dispatch_async("debug:log", {})

    return _rate(burst)(effort)


@group.ours("Engine.dispatch_async, all at once", BATCHED)
def all_at_once(effort: Effort) -> Figures:
    return _rate(_gathered)(effort)


@group.ours("Engine.dispatch_async, all at once, batching=True", BATCHED)
def batching(effort: Effort) -> Figures:
    return _rate(_gathered, batching=True)(effort)


@group.ours("Engine.dispatch_many", BATCHED)
def dispatch_many(effort: Effort) -> Figures:
    async def burst(engine: Any, actions: int) -> None:
        await engine.dispatch_many([("debug:log", {})] * actions)

    return _rate(burst)(effort)


async def _gathered(engine: Any, actions: int) -> None:
    await asyncio.gather(*[engine.dispatch_async("debug:log", {}) for _ in range(actions)])


def _rate(burst: Callable[[Any, int], Awaitable[object]], **options: Any) -> Callable[[Effort], Figures]:
    async def measured(effort: Effort) -> Series:
        async with _table(0, **options) as engine:
            return await await_rate(partial(burst, engine), BURST, effort)

    return lambda effort: {BATCHED: asyncio.run(measured(effort))}


def _table(cards: int, **options: Any) -> Any:
    from hybrid_compute.engine.options import WorkerOptions
    from hybrid_compute.tabletop.engine import TableEngine

    stack = [{"id": f"card-{number}", "label": f"Card {number}"} for number in range(cards)]
    return TableEngine(stack, use_worker=True, worker_options=WorkerOptions(**options))
