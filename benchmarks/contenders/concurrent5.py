"""Five calls at once, again and again: the time per call. A pool that wakes too many workers loses here."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from benchmarks.harness import Group
from benchmarks.lazy import anyio, anyio_process, hc
from benchmarks.loops import LOOPS, Loop, run_on
from benchmarks.measure import Effort, Figures, Series, time_awaits
from benchmarks.node import node_calls
from benchmarks.raw import MESSAGE, PIPE_SIZE, echo, forked
from benchmarks.tasks import add

group = Group("concurrent5", "Five awaited calls at once, time per call", placements=("free", "pinned"))

TOGETHER = 5


def raw_pipe(loop: Loop, effort: Effort) -> Figures:
    """Five messages in one write, five futures set when the echo is read."""

    async def measure(read: int, write: int) -> Series:
        running = asyncio.get_running_loop()
        waiting: list[asyncio.Future[None]] = []

        def answered() -> None:
            for future in waiting[: len(os.read(read, PIPE_SIZE)) // len(MESSAGE)]:
                future.set_result(None)

        def ask() -> asyncio.Future[list[None]]:
            waiting[:] = [running.create_future() for _ in range(TOGETHER)]
            os.write(write, MESSAGE * TOGETHER)
            return asyncio.gather(*waiting)

        running.add_reader(read, answered)
        try:
            return await time_awaits(ask, effort, per=TOGETHER)
        finally:
            running.remove_reader(read)

    with forked(echo) as (read, write):
        return {loop: run_on(loop, measure(read, write))}


def runtime_run(loop: Loop, workers: int, effort: Effort) -> Figures:
    task = hc.task(add)

    async def measure() -> Series:
        async with hc.Runtime([hc.WorkerBackend(size=workers)]) as rt:
            run = rt.options(strategy="worker").run
            return await time_awaits(
                lambda: asyncio.gather(*[run(task, 1, 2) for _ in range(TOGETHER)]), effort, per=TOGETHER
            )

    return {loop: run_on(loop, measure())}


def node(workers: int, effort: Effort) -> Figures:
    return {"asyncio": node_calls(effort, workers=workers, together=TOGETHER)}


for each in LOOPS:
    group.limit("raw pipe, one write, one read", each)(partial(raw_pipe, each))
    group.ours("Runtime.run, 1 worker", each)(partial(runtime_run, each, 1))
    group.ours("Runtime.run, 2 workers", each)(partial(runtime_run, each, 2))

group.peer("Node worker_threads, 1 worker", "asyncio")(partial(node, 1))
group.peer("Node worker_threads, 2 workers", "asyncio")(partial(node, 2))


@group.peer("run_in_executor(ProcessPoolExecutor)", "asyncio")
def run_in_executor(effort: Effort) -> Figures:
    async def measure() -> Series:
        ask = asyncio.get_running_loop().run_in_executor
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
            return await time_awaits(
                lambda: asyncio.gather(*[ask(pool, add, 1, 2) for _ in range(TOGETHER)]), effort, per=TOGETHER
            )

    return {"asyncio": asyncio.run(measure())}


@group.peer("anyio.to_process", "asyncio")
def anyio_to_process(effort: Effort) -> Figures:
    async def measure() -> Series:
        two, ask = anyio.CapacityLimiter(2), anyio_process.run_sync
        return await time_awaits(
            lambda: asyncio.gather(*[ask(add, 1, 2, limiter=two) for _ in range(TOGETHER)]),
            effort,
            per=TOGETHER,
        )

    return {"asyncio": asyncio.run(measure())}
