"""One call from ordinary code, and its answer. One worker each."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

from benchmarks.harness import Group
from benchmarks.lazy import hc, joblib, loky
from benchmarks.measure import Effort, Figures, time_calls
from benchmarks.raw import MESSAGE, PIPE_SIZE, echo, forked
from benchmarks.tasks import add

group = Group("sync", "One blocking call and its answer, one worker", placements=("free", "pinned"))


@group.limit("raw pipe, 64 B", "call")
def raw_pipe(effort: Effort) -> Figures:
    with forked(echo) as (read, write):

        def ping() -> None:
            os.write(write, MESSAGE)
            os.read(read, PIPE_SIZE)

        return {"call": time_calls(ping, effort)}


@group.ours("BlockingRuntime.run", "call")
def blocking_runtime(effort: Effort) -> Figures:
    task = hc.task(add)
    with hc.BlockingRuntime([hc.WorkerBackend(size=1)]) as rt:
        worker = rt.options(strategy="worker")
        return {"call": time_calls(lambda: worker.run(task, 1, 2), effort)}


@group.ours("WorkerExecutor.submit", "call")
def worker_executor(effort: Effort) -> Figures:
    with hc.WorkerExecutor(1) as pool:
        return {"call": time_calls(lambda: pool.submit(add, 1, 2).result(), effort)}


@group.peer("ProcessPoolExecutor (fork)", "call")
def process_pool(effort: Effort) -> Figures:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return {"call": time_calls(lambda: pool.submit(add, 1, 2).result(), effort)}


@group.peer("multiprocessing.Pool (fork)", "call")
def multiprocessing_pool(effort: Effort) -> Figures:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return {"call": time_calls(lambda: pool.apply(add, (1, 2)), effort)}


@group.peer("loky", "call")
def loky_executor(effort: Effort) -> Figures:
    with loky.get_reusable_executor(max_workers=1) as pool:
        return {"call": time_calls(lambda: pool.submit(add, 1, 2).result(), effort)}


@group.peer("joblib (2 workers)", "call")
def joblib_parallel(effort: Effort) -> Figures:
    # With one worker joblib would run the call right here.
    call = joblib.delayed(add)(1, 2)
    with joblib.Parallel(n_jobs=2) as parallel:
        return {"call": time_calls(lambda: parallel([call]), effort)}
