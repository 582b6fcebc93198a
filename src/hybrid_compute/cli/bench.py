"""`hybrid-compute bench`: a short measurement on this machine, beside the standard library's process pool.

A few seconds long, to get an idea. What the project claims is measured by `benchmarks/` in its repository.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import msgspec

from hybrid_compute.backends.worker import usable_cores
from hybrid_compute.blocking import BlockingRuntime
from hybrid_compute.cli import screen
from hybrid_compute.runtime import Runtime
from hybrid_compute.timings import duration

CALLS = 1000
BURST = 10_000
ARRAY = 8 << 20
"""Numbers in the array that is sent: 64 MiB of them."""
ECHOES = 7


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured, in seconds: with us, and with a `ProcessPoolExecutor` where it can do that at all."""

    what: str
    ours: float
    peer: float | None = None

    @property
    def times_faster(self) -> float | None:
        return self.peer / self.ours if self.peer is not None else None


def double(x: int) -> int:
    return x * 2


def echo(value: Any) -> Any:
    return value


def measure() -> Iterator[Figure]:
    """The figures, one by one as they are known."""
    # Started before any thread is, and not by fork: then it works everywhere, and is as quick once it runs.
    with ProcessPoolExecutor(usable_cores(), multiprocessing.get_context("spawn")) as pool:
        with _deaf_children():
            list(pool.map(double, range(usable_cores())))
        yield asyncio.run(_round_trip(pool))
        yield _blocking_round_trip(pool)
        yield asyncio.run(_gathered(pool))
        yield _mapped(pool)
        if find_spec("numpy") is not None:
            yield _array(pool)
    yield asyncio.run(_learned())


@contextmanager
def _deaf_children() -> Generator[None]:
    """Processes started here never hear of Ctrl-C: at a terminal it reaches them too, and each would print a traceback.

    It reaches this one too, but only when the block is left. Where there are no masks (Windows), nothing changes.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _round_trip(pool: ProcessPoolExecutor) -> Figure:
    loop = asyncio.get_running_loop()
    async with Runtime(strategy="worker") as rt:
        ours = await _typical(lambda: rt.run(double, 21))
    return Figure("one call, await", ours, await _typical(lambda: loop.run_in_executor(pool, double, 21)))


def _blocking_round_trip(pool: ProcessPoolExecutor) -> Figure:
    with BlockingRuntime(strategy="worker") as rt:
        ours = _lap(lambda: rt.run(double, 21), CALLS)
    return Figure("one call, blocking", ours, _lap(lambda: pool.submit(double, 21).result(), CALLS))


async def _gathered(pool: ProcessPoolExecutor) -> Figure:
    loop = asyncio.get_running_loop()
    async with Runtime(strategy="worker") as rt:
        await rt.run(double, 21)
        began = perf_counter()
        await asyncio.gather(*(rt.run(double, each) for each in range(BURST)))
        ours = perf_counter() - began
    began = perf_counter()
    await asyncio.gather(*(loop.run_in_executor(pool, double, each) for each in range(BURST)))
    return Figure(f"{BURST:,} calls, gathered", ours, perf_counter() - began)


def _mapped(pool: ProcessPoolExecutor) -> Figure:
    with BlockingRuntime(strategy="worker") as rt:
        rt.run(double, 21)
        ours = _lap(lambda: rt.map(double, range(BURST)), 3)
    return Figure(f"{BURST:,} calls, map", ours, _lap(lambda: list(pool.map(double, range(BURST))), 1))


def _array(pool: ProcessPoolExecutor) -> Figure:
    import numpy as np

    array = np.arange(ARRAY, dtype=np.float64)
    with BlockingRuntime(strategy="worker") as rt:
        ours = _lap(lambda: rt.run(echo, array), ECHOES)
    return Figure("64 MiB array, there and back", ours, _lap(lambda: pool.submit(echo, array).result(), 2))


async def _learned() -> Figure:
    async with Runtime() as rt:
        return Figure("one call, learned to be trivial", await _typical(lambda: rt.run(double, 21)))


async def _typical(call: Callable[[], Awaitable[Any]]) -> float:
    """The median of many calls, one after the other; the first ones warm up."""
    laps: list[float] = []
    for _ in range(CALLS + CALLS // 10):
        began = perf_counter()
        await call()
        laps.append(perf_counter() - began)
    return median(laps[CALLS // 10 :])


def _lap(call: Callable[[], Any], count: int) -> float:
    """The same without await; the first call warms up."""
    laps: list[float] = []
    for _ in range(1 + count):
        began = perf_counter()
        call()
        laps.append(perf_counter() - began)
    return median(laps[1:])


def show(figures: Iterator[Figure]) -> None:
    """Print a table for a person, once all is measured."""
    console = screen.console()
    shown = screen.table("median", "hybrid-compute", "ProcessPoolExecutor", "times faster")
    with screen.bar(screen.console(stderr=True)) as progress:
        progress.add_task("measuring", total=None)
        for each in figures:
            peer, times = "–", "–"
            if each.peer is not None and each.times_faster is not None:
                peer, times = duration(each.peer), f"{each.times_faster:.1f} ×"
            shown.add_row(each.what, duration(each.ours), peer, times)
    console.print(shown)


def as_json(figures: Iterator[Figure]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(list(figures)), indent=2)
