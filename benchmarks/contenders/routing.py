"""Is the learned choice of place as good as the best fixed one? Four kinds of calls, all asked for at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from benchmarks import machine
from benchmarks.harness import Group
from benchmarks.lazy import hc, numpy
from benchmarks.measure import Effort, Figures, time_awaits, time_calls
from benchmarks.tasks import total, work_1us, work_10ms, work_100us

group = Group("routing", "Wall time of a batch: learned against fixed places, a worker on every core")

Batch: TypeAlias = list[tuple[Callable[..., Any], tuple[Any, ...]]]

MIX = "mix of all"
KINDS = ("300 calls of 1 us", "60 calls of 100 us", "8 calls of 10 ms", "2 sums of 64 MiB")
MEASURES = (MIX, *KINDS)
STRATEGIES = ("auto", "local", "worker")
LEARNING = 3  # times that the mix is run before the clock starts


def batches() -> dict[str, Batch]:
    array = numpy.ones(16 << 20, numpy.float32)
    kinds: tuple[Batch, ...] = (
        [(work_1us, (i,)) for i in range(300)],
        [(work_100us, ())] * 60,
        [(work_10ms, ())] * 8,
        [(total, (array,))] * 2,
    )
    mix = [call for kind in kinds for call in kind]
    random.Random(0).shuffle(mix)
    return {MIX: mix, **dict(zip(KINDS, kinds, strict=True))}


@group.limit("plain calls, one after another, no runtime", *MEASURES)
def plain_calls(effort: Effort) -> Figures:
    """Not a true limit: several cores can beat it."""

    def run(batch: Batch) -> None:
        for fn, args in batch:
            fn(*args)

    return {name: time_calls(partial(run, batch), effort, unit="ms") for name, batch in batches().items()}


def runtime(strategy: str, effort: Effort) -> Figures:
    async def measure() -> Figures:
        workers = hc.WorkerBackend(size=machine.cores())
        async with hc.Runtime([workers, hc.LocalBackend()]) as rt:
            run = rt.options(strategy=strategy).run

            async def run_batch(batch: Batch) -> None:
                await asyncio.gather(*[run(fn, *args) for fn, args in batch])

            asked = batches()
            for _ in range(LEARNING):
                await run_batch(asked[MIX])
            return {
                name: await time_awaits(partial(run_batch, batch), effort, unit="ms") for name, batch in asked.items()
            }

    return asyncio.run(measure())


for each in STRATEGIES:
    group.ours(f"Runtime.run, {each}", *MEASURES)(partial(runtime, each))
