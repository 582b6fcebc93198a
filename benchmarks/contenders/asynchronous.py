"""One awaited call, and its answer, on asyncio and on uvloop. One worker each."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from benchmarks.harness import Group
from benchmarks.lazy import anyio, anyio_process, hc
from benchmarks.loops import LOOPS, Loop, run_on
from benchmarks.measure import Effort, Figures, Series, time_awaits
from benchmarks.node import node_calls
from benchmarks.raw import LoopPipe, echo, forked
from benchmarks.tasks import add

group = Group("async", "One awaited call and its answer, one worker", placements=("free", "pinned"))


def raw_pipe(loop: Loop, effort: Effort) -> Figures:
    async def measure(read: int, write: int) -> Series:
        pipe = LoopPipe(read, write)
        try:
            return await time_awaits(pipe.ask, effort)
        finally:
            pipe.close()

    with forked(echo) as (read, write):
        return {loop: run_on(loop, measure(read, write))}


def runtime_run(loop: Loop, effort: Effort) -> Figures:
    task = hc.task(add)

    async def measure() -> Series:
        async with hc.Runtime([hc.WorkerBackend(size=1)]) as rt:
            worker = rt.options(strategy="worker")
            return await time_awaits(lambda: worker.run(task, 1, 2), effort)

    return {loop: run_on(loop, measure())}


def backend_alone(loop: Loop, effort: Effort) -> Figures:
    """The worker pool with no runtime above it."""
    task = hc.task(add)

    async def measure() -> Series:
        backend = hc.WorkerBackend(size=1)
        await backend.start()
        try:
            return await time_awaits(lambda: backend.run_task(task, 1, 2), effort)
        finally:
            await backend.aclose()

    return {loop: run_on(loop, measure())}


def run_in_executor(loop: Loop, effort: Effort) -> Figures:
    async def measure() -> Series:
        running = asyncio.get_running_loop()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
            return await time_awaits(lambda: running.run_in_executor(pool, add, 1, 2), effort)

    return {loop: run_on(loop, measure())}


for each in LOOPS:
    group.limit("raw pipe, add_reader", each)(partial(raw_pipe, each))
    group.ours("Runtime.run", each)(partial(runtime_run, each))
    group.ours("WorkerBackend alone", each)(partial(backend_alone, each))
    group.peer("run_in_executor(ProcessPoolExecutor)", each)(partial(run_in_executor, each))


@group.peer("anyio.to_process", "asyncio")
def anyio_to_process(effort: Effort) -> Figures:
    async def measure() -> Series:
        one = anyio.CapacityLimiter(1)
        return await time_awaits(lambda: anyio_process.run_sync(add, 1, 2, limiter=one), effort)

    return {"asyncio": asyncio.run(measure())}


@group.peer("Node worker_threads, bare", "asyncio")
def node(effort: Effort) -> Figures:
    return {"asyncio": node_calls(effort)}
