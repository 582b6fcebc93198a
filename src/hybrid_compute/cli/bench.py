"""`hybrid-compute bench`: a short measurement on this machine, beside the standard library's process pool.

A few seconds long, to get an idea. What the project claims is measured by `benchmarks/` in its repository.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import msgspec

from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.blocking import BlockingRuntime
from hybrid_compute.cli import screen
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import task

CALLS = 2000
BURST = 10_000
ARRAY = 8 << 20
"""Numbers in the array that is sent: 64 MiB of them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured, in seconds: here, and with a `ProcessPoolExecutor` where that makes sense."""

    what: str
    ours: float
    peer: float | None = None


@task(pure=True)
def double(x: int) -> int:
    return x * 2


@task
def echo(value: Any) -> Any:
    return value


async def measure() -> AsyncIterator[Figure]:
    """The figures, one by one as they are known."""
    with _peer() as pool:
        async with Runtime(strategy="worker") as rt:
            loop = asyncio.get_running_loop()
            yield Figure(
                "one call and its result, await",
                await _lap(CALLS, lambda: rt.run(double, 21)),
                await _lap(CALLS // 4, lambda: loop.run_in_executor(pool, double.fn, 21)),
            )
"""unfinished"""
