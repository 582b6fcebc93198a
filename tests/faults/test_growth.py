"""Nothing grows with the number of functions that were ever run: what is gone is forgotten everywhere."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hybrid_compute import BlockingRuntime, LocalBackend, Runtime, WorkerBackend
from hybrid_compute.blocking import MOST_SHORTCUTS
from tests.faults import tasks

COUNT = 1000


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    def add(self, other: int) -> int:
        return self.number + other


async def add_later(number: int, other: int) -> int:
    return number + other


KINDS: dict[str, Callable[[int], Any]] = {
    "lambda": lambda number: lambda other, number=number: number + other,
    "closure": lambda number: lambda other: number + other,
    "partial": lambda number: functools.partial(tasks.add.fn, number),
    "coroutine": lambda number: functools.partial(add_later, number),
    "method": lambda number: Adder(number).add,
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


@kinds
@pytest.mark.parametrize("strategy", ["auto", "local", "worker"])
async def test_functions_by_the_thousand_leave_nothing_behind(make: Callable[[int], Any], strategy: str) -> None:
    """Neither in this process, in whatever is remembered of a task, nor in the worker that ran it."""
    async with Runtime([pool := WorkerBackend(1), LocalBackend(threads=1)], strategy=strategy) as rt:

        async def use(count: int) -> None:
            for number in range(count):
                assert await rt.run(make(number), 1) == number + 1
                if number % 10 == 0:
                    assert await rt.map(make(number), [1]) == [number + 1]

        await use(COUNT // 10)
        before = objects()
        await use(COUNT)
        assert objects() - before < COUNT / 4
        assert len(rt.lanes.values()) + len(rt.timings.tasks.values()) < 10
        assert len(pool._functions._known.values()) < 10
        there = await rt.options(strategy="worker").run(tasks.count_functions)
        assert there < COUNT / 4


@kinds
def test_functions_by_the_thousand_leave_little_behind_in_ordinary_code(make: Callable[[int], Any]) -> None:
    """A thread's shortcuts keep their tasks, and there are only so many of them."""
    with BlockingRuntime([pool := WorkerBackend(1), LocalBackend(threads=1)]) as rt:
        for number in range(COUNT):
            assert rt.run(make(number), 1) == number + 1
        gc.collect()
        assert len(rt.timings.tasks.values()) <= MOST_SHORTCUTS + 10
        assert len(pool._functions._known.values()) <= MOST_SHORTCUTS + 10
        assert rt.options(strategy="worker").run(tasks.count_functions) < COUNT / 2


async def test_tasks_that_fail_or_are_given_up_leave_nothing_behind() -> None:
    """A function that raised is in its own traceback, and one that was cancelled was on its way."""

    def fail(number: int) -> Callable[[], None]:
        return lambda: tasks.fail.fn(ValueError(number))

    async with Runtime([pool := WorkerBackend(1), LocalBackend(threads=1)]) as rt:

        async def use(count: int) -> None:
            for number in range(count):
                given_up = asyncio.ensure_future(rt.run(fail(number)))
                assert isinstance((await asyncio.gather(rt.run(fail(number)), return_exceptions=True))[0], Exception)
                given_up.cancel()
                await asyncio.gather(given_up, return_exceptions=True)

        await use(COUNT // 10)
        before = objects()
        await use(COUNT // 2)
        assert objects() - before < COUNT / 4
        assert len(pool._functions._known.values()) < 10


def test_arrays_out_of_waiting_threads_are_given_back() -> None:
    """One after the other, each in the memory of the one before, whatever the calls between them are like."""
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        for number in range(50):
            assert rt.run(tasks.full, 1 << 16, number).sum() == number << 16
        for number in range(50):
            assert rt.run(tasks.full, 1 << 16, number).sum() == number << 16
            assert rt.run(tasks.total, np.full(1 << 16, number)) == number << 16
            assert rt.run(tasks.add, number, 1) == number + 1
        assert rt.run(tasks.count_memfds) <= 6
