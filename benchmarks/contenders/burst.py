"""Ten thousand tiny calls at once, by each of the ways a user has to ask for them. Two workers each."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
from collections.abc import Awaitable, Generator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

from benchmarks.harness import Group
from benchmarks.lazy import hc, joblib
from benchmarks.loops import LOOPS, Loop, run_on
from benchmarks.measure import Effort, Figures, Series, await_rate, call_rate
from benchmarks.raw import forked
from benchmarks.tasks import double

group = Group("burst", "A burst of 10,000 calls, two workers")

CALLS = 10_000
WORKERS = 2
CHUNK = 512

GATHER, SUBMIT, MAP = "gather of awaited calls", "submitted one by one", "map"


# gather: every call is awaited on its own


@group.limit("gather of futures, no process", GATHER)
def future_gather(effort: Effort) -> Figures:
    async def measure() -> Series:
        future = asyncio.get_running_loop().create_future

        async def burst(calls: int) -> None:
            asked = [future() for _ in range(calls)]
            gathered = asyncio.gather(*asked)
            for i, each in enumerate(asked):
                each.set_result(double(i))
            await gathered

        return await await_rate(burst, CALLS, effort)

    return {GATHER: asyncio.run(measure())}


@group.limit("gather of coroutines, no process", GATHER)
def coroutine_gather(effort: Effort) -> Figures:
    async def answer(x: int) -> int:
        return double(x)

    async def measure() -> Series:
        return await await_rate(lambda calls: asyncio.gather(*map(answer, range(calls))), CALLS, effort)

    return {GATHER: asyncio.run(measure())}


def runtime_gather(loop: Loop, effort: Effort) -> Figures:
    task = hc.task(double)

    async def measure() -> Series:
        async with hc.Runtime([hc.WorkerBackend(size=WORKERS)]) as rt:
            run = rt.options(strategy="worker").run

            def burst(calls: int) -> Awaitable[object]:
                return asyncio.gather(*[run(task, i) for i in range(calls)])

            return await await_rate(burst, CALLS, effort)

    return {GATHER: run_on(loop, measure())}


def executor_gather(loop: Loop, effort: Effort) -> Figures:
    async def measure() -> Series:
        ask = asyncio.get_running_loop().run_in_executor
        with _fork_pool() as pool:

            def burst(calls: int) -> Awaitable[object]:
                return asyncio.gather(*[ask(pool, double, i) for i in range(calls)])

            return await await_rate(burst, CALLS, effort)

    return {GATHER: run_on(loop, measure())}


for each in LOOPS:
    group.ours(f"Runtime.run, {each}", GATHER)(partial(runtime_gather, each))
    group.peer(f"run_in_executor(ProcessPoolExecutor), {each}", GATHER, slow=each == "uvloop")(
        partial(executor_gather, each)
    )


# submit: ordinary code, a future for each call


@group.ours("WorkerExecutor.submit", SUBMIT)
def worker_executor_submit(effort: Effort) -> Figures:
    with hc.WorkerExecutor(WORKERS) as pool:
        return {SUBMIT: call_rate(partial(_submit_all, pool), CALLS, effort)}


@group.peer("ProcessPoolExecutor.submit", SUBMIT)
def process_pool_submit(effort: Effort) -> Figures:
    with _fork_pool() as pool:
        return {SUBMIT: call_rate(partial(_submit_all, pool), CALLS, effort)}


def _submit_all(pool: Executor, calls: int) -> None:
    for future in [pool.submit(double, i) for i in range(calls)]:
        future.result()


@group.peer("multiprocessing.Pool.apply_async", SUBMIT)
def pool_apply_async(effort: Effort) -> Figures:
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:

        def burst(calls: int) -> None:
            for answer in [pool.apply_async(double, (i,)) for i in range(calls)]:
                answer.get()

        return {SUBMIT: call_rate(burst, CALLS, effort)}


# map: the whole batch in one call, in chunks of the library's own choice where it has one


@group.limit("raw pipe, one child, 512 calls a pickle", MAP)
def raw_chunks(effort: Effort) -> Figures:
    with forked(_serve_chunks) as pipe, _open_pair(*map(os.dup, pipe)) as (answers, asked):

        def burst(calls: int) -> None:
            for start in range(0, calls, CHUNK):
                pickle.dump((double, list(range(start, min(start + CHUNK, calls)))), asked, protocol=5)
                asked.flush()
                pickle.load(answers)

        return {MAP: call_rate(burst, CALLS, effort)}


def _serve_chunks(read: int, write: int) -> None:
    with _open_pair(read, write) as (asked, answers):
        while True:
            fn, items = pickle.load(asked)
            pickle.dump([fn(item) for item in items], answers, protocol=5)
            answers.flush()


@contextmanager
def _open_pair(read: int, write: int) -> Generator[tuple[BinaryIO, BinaryIO], None, None]:
    with open(read, "rb") as reader, open(write, "wb") as writer:
        yield reader, writer


@group.ours("BlockingRuntime.map", MAP)
def blocking_map(effort: Effort) -> Figures:
    task = hc.task(double)
    with hc.BlockingRuntime([hc.WorkerBackend(size=WORKERS)]) as rt:
        worker = rt.options(strategy="worker")
        return {MAP: call_rate(lambda calls: worker.map(task, range(calls)), CALLS, effort)}


@group.ours("Runtime.map", MAP)
def runtime_map(effort: Effort) -> Figures:
    task = hc.task(double)

    async def measure() -> Series:
        async with hc.Runtime([hc.WorkerBackend(size=WORKERS)]) as rt:
            worker = rt.options(strategy="worker")
            return await await_rate(lambda calls: worker.map(task, range(calls)), CALLS, effort)

    return {MAP: asyncio.run(measure())}


@group.peer("ProcessPoolExecutor.map, chunksize 512", MAP)
def process_pool_map(effort: Effort) -> Figures:
    with _fork_pool() as pool:
        return {MAP: call_rate(lambda calls: list(pool.map(double, range(calls), chunksize=CHUNK)), CALLS, effort)}


@group.peer("multiprocessing.Pool.starmap", MAP)
def pool_starmap(effort: Effort) -> Figures:
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        return {MAP: call_rate(lambda calls: pool.starmap(double, zip(range(calls))), CALLS, effort)}


@group.peer("joblib", MAP)
def joblib_parallel(effort: Effort) -> Figures:
    call = joblib.delayed(double)
    with joblib.Parallel(n_jobs=WORKERS) as parallel:
        return {MAP: call_rate(lambda calls: parallel(call(i) for i in range(calls)), CALLS, effort)}


def _fork_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork"))
