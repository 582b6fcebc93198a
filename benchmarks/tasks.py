"""What the contenders are asked to do: plain functions that any worker process can import."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

MICROSECONDS = 1e-6


def add(a: int, b: int) -> int:
    return a + b


def double(x: int) -> int:
    return x * 2


def echo(value: Any) -> Any:
    return value


def times_two(array: Any) -> Any:
    return array * 2


def total(array: Any) -> float:
    return float(array.sum())


def spin(seconds: float) -> float:
    """Keep a core busy. Counts this thread's own time, so that two spins on one core take twice as long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


# One function for each length of work: what a runtime learns, it learns about a function.


def work_1us(x: int) -> int:
    return sum(range(x % 8, 90))


def work_100us() -> float:
    return spin(100 * MICROSECONDS)


def work_10ms() -> float:
    return spin(10_000 * MICROSECONDS)


def nap(seconds: float) -> int:
    """Hold a worker without using its core; says which worker it was."""
    time.sleep(seconds)
    return os.getpid()


def pid() -> int:
    return os.getpid()


def count(stop: int) -> Iterator[int]:
    yield from range(stop)


async def count_in_loop(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        yield number
