"""Starting, growing, losing and keeping workers, and importing the library that does it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from benchmarks.harness import Group
from benchmarks.lazy import hc, joblib, loky, psutil
from benchmarks.machine import pss
from benchmarks.measure import Effort, Figures, Series, now
from benchmarks.raw import MESSAGE, PIPE_SIZE, echo, forked
from benchmarks.tasks import add, nap, pid

group = Group("lifecycle", "Starting, growing, losing and keeping workers")

COLD = "cold start to first result"
EXTRA = "one more worker to its first result"
KILL = "kill -9 of the worker to the next answer"
PSS = "PSS per idle worker"
PSS_ALL = "PSS per idle worker, helper processes included"
IMPORT = "import, over the bare interpreter"

METHODS = ("fork", "forkserver", "spawn")
WORKERS = 16  # for the memory
LIVES = 30  # samples of a start or a death, when there is time
BUSY = 0.05  # seconds that the first worker is held while a second one is asked for
BUSY_LONG = 0.4  # the same for those who take longer than that to start one
SETTLING = 0.2  # seconds for what was just started to become idle


def _process_pool(method: str, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method))


def _loky(workers: int) -> Any:
    return loky.get_reusable_executor(max_workers=workers)


def _since(start: int) -> float:
    return (now() - start) / 1e6


def _samples(sample: Callable[[], float], effort: Effort) -> Series:
    """A life takes longer than a call, so three times the usual time."""
    deadline = now() + int(3 * effort.seconds * 1e9)
    samples: list[float] = []
    while len(samples) < effort.least or (len(samples) < LIVES and now() < deadline):
        samples.append(sample())
    return Series.of(samples, "ms")


# Cold start: one sample a process, since only the first start is cold. Imports come before the clock starts.


def _cold(open_pool: Callable[[], AbstractContextManager[Any]], ask: Callable[[Any], object]) -> Figures:
    start = now()
    with open_pool() as pool:
        ask(pool)
        return {COLD: Series.of([_since(start)], "ms")}


def _ask_executor(pool: Executor) -> int:
    return pool.submit(add, 1, 2).result()


@group.limit("fork, one message each way", COLD, EXTRA)
def raw_fork(effort: Effort) -> Figures:
    def ping() -> float:
        start = now()
        with forked(echo) as (read, write):
            os.write(write, MESSAGE)
            os.read(read, PIPE_SIZE)
            return _since(start)

    return {COLD: Series.of([ping()], "ms"), EXTRA: _samples(ping, effort)}


@group.ours("BlockingRuntime", COLD)
def blocking_runtime_cold(effort: Effort) -> Figures:
    task = hc.task(add)
    return _cold(
        lambda: hc.BlockingRuntime([hc.WorkerBackend(size=1)]),
        lambda rt: rt.options(strategy="worker").run(task, 1, 2),
    )


def process_pool_cold(method: str, effort: Effort) -> Figures:
    return _cold(partial(_process_pool, method, 1), _ask_executor)


for each in METHODS:
    group.peer(f"ProcessPoolExecutor ({each})", COLD)(partial(process_pool_cold, each))


@group.peer("multiprocessing.Pool (fork)", COLD)
def multiprocessing_pool_cold(effort: Effort) -> Figures:
    return _cold(lambda: multiprocessing.get_context("fork").Pool(1), lambda pool: pool.apply(add, (1, 2)))


@group.peer("loky", COLD)
def loky_cold(effort: Effort) -> Figures:
    _ = loky.get_reusable_executor
    return _cold(partial(_loky, 1), _ask_executor)


@group.peer("joblib (2 workers)", COLD)
def joblib_cold(effort: Effort) -> Figures:
    call = joblib.delayed(add)(1, 2)
    return _cold(lambda: joblib.Parallel(n_jobs=2), lambda parallel: parallel([call]))


# One more worker: asked for by name, or needed because the pool may have two, the first is held, and a call comes.


@group.ours("WorkerBackend.warm_up", EXTRA)
def warm_up_extra(effort: Effort) -> Figures:
    async def measure() -> Series:
        backend = hc.WorkerBackend(size=WORKERS)
        async with hc.Runtime([backend]):
            await backend.warm_up(1)
            return Series.of([await sample(backend, count) for count in range(2, WORKERS + 1)], "ms")

    async def sample(backend: Any, count: int) -> float:
        start = now()
        await backend.warm_up(count)
        return _since(start)

    return {EXTRA: asyncio.run(measure())}


@group.ours("Runtime.run, the worker is held", EXTRA)
def runtime_extra(effort: Effort) -> Figures:
    hold, ask = hc.task(nap), hc.task(pid)

    async def sample() -> float:
        async with hc.Runtime([hc.WorkerBackend(size=2)]) as rt:
            run = rt.options(strategy="worker").run
            first = await run(ask)
            held = asyncio.ensure_future(run(hold, BUSY))
            await asyncio.sleep(BUSY / 5)
            start = now()
            second = await run(ask)
            took = _since(start)
            await held
            return _checked(took, first, second)

    return {EXTRA: _samples(lambda: asyncio.run(sample()), effort)}


def process_pool_extra(method: str, effort: Effort) -> Figures:
    def sample() -> float:
        with _process_pool(method, 2) as pool:
            first = pool.submit(pid).result()
            pool.submit(nap, BUSY_LONG)
            time.sleep(BUSY / 5)
            start = now()
            second = pool.submit(pid).result()
            return _checked(_since(start), first, second)

    return {EXTRA: _samples(sample, effort)}


def _checked(took: float, first: int, second: int) -> float:
    if first == second:
        raise RuntimeError(f"no second worker was started: the held one answered after {took:.0f} ms")
    return took


# With fork the executor starts all its workers at the first call, so it has no "one more".
for each in ("forkserver", "spawn"):
    group.peer(f"ProcessPoolExecutor ({each}), the worker is held", EXTRA)(partial(process_pool_extra, each))


# A lost worker. Who has to build a new pool does so on the clock.


@group.ours("BlockingRuntime", KILL)
def blocking_runtime_kill(effort: Effort) -> Figures:
    task, who = hc.task(pure=True)(add), hc.task(pid)
    with hc.BlockingRuntime([hc.WorkerBackend(size=1)]) as rt:
        worker = rt.options(strategy="worker")

        def answer() -> object:
            # The call that meets the dying worker may be lost with it; the next one meets its replacement.
            while True:
                try:
                    return worker.run(task, 1, 2)
                except hc.errors.BackendError:
                    continue

        def sample() -> float:
            start = _kill(worker.run(who))
            answer()
            return _since(start)

        answer()
        return {KILL: _samples(sample, effort)}


@group.ours("Runtime", KILL)
def runtime_kill(effort: Effort) -> Figures:
    task, who = hc.task(pure=True)(add), hc.task(pid)

    async def measure() -> Series:
        async with hc.Runtime([hc.WorkerBackend(size=1)]) as rt:
            run = rt.options(strategy="worker").run

            async def answer() -> object:
                while True:
                    try:
                        return await run(task, 1, 2)
                    except hc.errors.BackendError:
                        continue

            async def sample() -> float:
                start = _kill(await run(who))
                await answer()
                return _since(start)

            await answer()
            return Series.of([await sample() for _ in range(LIVES)], "ms")

    return {KILL: asyncio.run(measure())}


def _executor_kill(open_pool: Callable[[], Any], broken: type[Exception], effort: Effort) -> Figures:
    def sample() -> float:
        pool = open_pool()
        start = _kill(pool.submit(pid).result())
        while True:
            try:
                _ask_executor(pool)
                break
            except broken:
                pool = open_pool()
        took = _since(start)
        pool.shutdown()
        return took

    return {KILL: _samples(sample, effort)}


def _kill(process: int) -> int:
    """When it was killed."""
    os.kill(process, signal.SIGKILL)
    return now()


def process_pool_kill(method: str, effort: Effort) -> Figures:
    return _executor_kill(partial(_process_pool, method, 1), BrokenProcessPool, effort)


for each in METHODS:
    group.peer(f"ProcessPoolExecutor ({each}), pool rebuilt", KILL)(partial(process_pool_kill, each))


@group.peer("loky, pool rebuilt", KILL)
def loky_kill(effort: Effort) -> Figures:
    return _executor_kill(partial(_loky, 1), loky.process_executor.BrokenProcessPool, effort)


# Memory: what each worker adds to the machine, shared pages split among those who share them.


@group.ours("Runtime", PSS, PSS_ALL)
def runtime_memory(effort: Effort) -> Figures:
    async def measure() -> Figures:
        backend = hc.WorkerBackend(size=WORKERS)
        async with hc.Runtime([backend]):
            await backend.warm_up()
            await asyncio.sleep(SETTLING)
            return _memory()

    return asyncio.run(measure())


def _executor_memory(pool: Executor) -> Figures:
    with pool:
        wait([pool.submit(nap, BUSY) for _ in range(WORKERS)])
        time.sleep(SETTLING)
        return _memory()


def process_pool_memory(method: str, effort: Effort) -> Figures:
    return _executor_memory(_process_pool(method, WORKERS))


for each in METHODS:
    group.peer(f"ProcessPoolExecutor ({each})", PSS, PSS_ALL, slow=each != "fork")(partial(process_pool_memory, each))


@group.peer("multiprocessing.Pool (fork)", PSS, PSS_ALL)
def multiprocessing_pool_memory(effort: Effort) -> Figures:
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        pool.map(nap, [BUSY] * WORKERS, chunksize=1)
        time.sleep(SETTLING)
        return _memory()


@group.peer("loky", PSS, PSS_ALL, slow=True)
def loky_memory(effort: Effort) -> Figures:
    return _executor_memory(_loky(WORKERS))


def _memory() -> Figures:
    """Of all descendants of this process. Who has children, or tracks resources, helps; the others work."""
    descendants = psutil.Process().children(recursive=True)
    workers = [process for process in descendants if not process.children() and not _tracks_resources(process)]
    if len(workers) != WORKERS:
        raise RuntimeError(f"{len(workers)} workers are running instead of {WORKERS}")
    everything = sum(pss(process.pid) for process in descendants)
    return {
        PSS: Series.of([pss(worker.pid) for worker in workers], "MB"),
        PSS_ALL: Series.of([everything / WORKERS], "MB"),
    }


def _tracks_resources(process: Any) -> bool:
    return any("resource_tracker" in part for part in process.cmdline())


# Import


OPTIONAL = {"numpy", "uvloop", "starlette", "uvicorn", "aiohttp", "wasmtime", "wgpu", "ray", "rich", "psutil"}


def _import(module: str, effort: Effort) -> Figures:
    importing, bare = f"import {module}", "pass"
    _interpreter(importing)  # once, so that it is compiled and in the page cache
    pairs = [(_interpreter(importing), _interpreter(bare)) for _ in range(5 if effort.name == "quick" else 10)]
    with_import, without = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {IMPORT: Series("ms", with_import - without)}


def _interpreter(code: str) -> float:
    start = now()
    subprocess.run([sys.executable, "-c", code], check=True)
    return _since(start)


group.limit("asyncio", IMPORT)(partial(_import, "asyncio"))


@group.ours("hybrid_compute", IMPORT)
def import_ours(effort: Effort) -> Figures:
    _ = hc.task  # says it plainly if the library is not there
    code = f"import hybrid_compute, sys; print(*{OPTIONAL} & sys.modules.keys())"
    also = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    if also.strip():
        raise ImportError(f"import hybrid_compute also imports {also.strip()}")
    return _import("hybrid_compute", effort)


for each in ("concurrent.futures.process", "anyio.to_process", "loky", "joblib"):
    group.peer(each, IMPORT, slow=each == "joblib")(partial(_import, each))
