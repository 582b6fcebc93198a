"""A task that is cheaper than leaving the process: what asking the runtime costs once it has learned that."""

from __future__ import annotations

import asyncio

from benchmarks.harness import Group
from benchmarks.lazy import hc
from benchmarks.measure import Effort, Figures, Series, time_awaits, time_calls
from benchmarks.tasks import add

group = Group("trivial", "A call of a learned, trivial task under strategy auto", placements=("free", "pinned"))

LEARNING = 1000  # calls before the clock starts
AT_A_TIME = 10  # calls a sample: reading the clock costs as much as a bare coroutine


@group.limit("bare coroutine", "call")
def bare_coroutine(effort: Effort) -> Figures:
    async def answer(a: int, b: int) -> int:
        return add(a, b)

    async def several() -> None:
        for _ in range(AT_A_TIME):
            await answer(1, 2)

    return {"call": asyncio.run(time_awaits(several, effort, per=AT_A_TIME))}


@group.ours("Runtime.run, auto", "call")
def runtime_run(effort: Effort) -> Figures:
    task = hc.task(add)

    async def measure() -> Series:
        async with hc.Runtime() as rt:
            for _ in range(LEARNING):
                await rt.run(task, 1, 2)

            async def several() -> None:
                for _ in range(AT_A_TIME):
                    await rt.run(task, 1, 2)

            return await time_awaits(several, effort, per=AT_A_TIME)

    return {"call": asyncio.run(measure())}


@group.ours("BlockingRuntime.run, auto", "call")
def blocking_runtime(effort: Effort) -> Figures:
    task = hc.task(add)
    with hc.BlockingRuntime() as rt:
        for _ in range(LEARNING):
            rt.run(task, 1, 2)

        def several() -> None:
            for _ in range(AT_A_TIME):
                rt.run(task, 1, 2)

        return {"call": time_calls(several, effort, per=AT_A_TIME)}


@group.peer("asyncio.to_thread", "call")
def to_thread(effort: Effort) -> Figures:
    return {"call": asyncio.run(time_awaits(lambda: asyncio.to_thread(add, 1, 2), effort))}
