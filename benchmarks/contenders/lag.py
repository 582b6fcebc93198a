"""How late an event loop is while every worker is busy and results keep coming in.

A probe sleeps a millisecond at a time and records by how much it overslept.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager

from benchmarks import machine
from benchmarks.harness import Group
from benchmarks.lazy import hc
from benchmarks.measure import Effort, Figures, Series, now
from benchmarks.raw import forked
from benchmarks.tasks import spin

group = Group("lag", "By how much an event loop oversleeps, with a busy worker on every core")

LAG = "lag"
NAP = 0.001
WORK = 0.002  # CPU seconds of each call
IN_FLIGHT = 4  # calls a worker, so that none runs dry
SETTLING = 0.1  # seconds under load before the probe starts


@group.limit("idle loop", LAG)
def idle(effort: Effort) -> Figures:
    return {LAG: asyncio.run(_probe(effort))}


@group.limit("idle loop beside busy processes", LAG)
def beside_hogs(effort: Effort) -> Figures:
    """What the operating system's scheduler costs, with no library at all."""
    with _hogs(machine.cores()):
        return {LAG: asyncio.run(_probe(effort))}


@group.ours("Runtime.run", LAG)
def runtime_run(effort: Effort) -> Figures:
    task = hc.task(spin)

    async def measure() -> Series:
        async with hc.Runtime([hc.WorkerBackend(size=machine.cores())]) as rt:
            worker = rt.options(strategy="worker")
            return await _probe_under_load(lambda: worker.run(task, WORK), effort)

    return {LAG: asyncio.run(measure())}


@group.peer("run_in_executor(ProcessPoolExecutor)", LAG)
def run_in_executor(effort: Effort) -> Figures:
    async def measure() -> Series:
        ask = asyncio.get_running_loop().run_in_executor
        with ProcessPoolExecutor(machine.cores(), mp_context=multiprocessing.get_context("fork")) as pool:
            return await _probe_under_load(lambda: ask(pool, spin, WORK), effort)

    return {LAG: asyncio.run(measure())}


async def _probe(effort: Effort) -> Series:
    # Twice the usual time: a nap takes a millisecond, and a p99 wants some hundreds of them.
    lags: list[float] = []
    end = now() + int(2 * effort.seconds * 1e9)
    while (start := now()) < end:
        await asyncio.sleep(NAP)
        lags.append((now() - start) / 1e6 - NAP * 1e3)
    return Series.of(lags, "ms")


async def _probe_under_load(call: Callable[[], Awaitable[object]], effort: Effort) -> Series:
    done = False

    async def keep_calling() -> None:
        while not done:
            await call()

    callers = [asyncio.ensure_future(keep_calling()) for _ in range(IN_FLIGHT * machine.cores())]
    await asyncio.sleep(SETTLING)
    lag = await _probe(effort)
    done = True
    await asyncio.gather(*callers)
    return lag


@contextmanager
def _hogs(count: int) -> Generator[None, None, None]:
    def work(_read: int, _write: int) -> None:
        while True:
            spin(WORK)

    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(forked(work))
        yield
