"""Tasks that give the same object twice, objects that hold shared memory, and the like."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from hybrid_compute import task


class Unreadable:
    """Holds shared memory, and does not unpickle in one process."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.values = np.ones(1 << 16)

    def __reduce__(self) -> Any:
        return unless_in, (self.process, self.values)


def unless_in(process: int, values: Any) -> Any:
    if os.getpid() == process:
        raise RuntimeError("not in the parent")
    return values


@task
def unreadable_items(count: int, process: int) -> Iterator[Unreadable]:
    for _ in range(count):
        yield Unreadable(process)


SCRATCH = np.zeros(4)
LARGE_SCRATCH = np.zeros(1 << 14)


@task
def scratch(number: int) -> Any:
    SCRATCH[:] = number
    return SCRATCH


@task
def scratch_list(number: int, used: list[int] = [0]) -> list[int]:  # noqa: B006  # the very mistake that is tested
    used[0] = number
    return used


@task
def large_scratch(number: int) -> Any:
    LARGE_SCRATCH[:] = number
    return LARGE_SCRATCH


@task
def sometimes_a_list(number: int) -> Any:
    return number if number % 7 else [number]


@task
def arrays_until_thirteen(number: int) -> Any:
    if number == 13:
        raise ValueError("thirteen")
    return np.full(1 << 16, number)
