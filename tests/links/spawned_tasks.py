"""What the tests of the portable path run in workers. Light, as each worker imports it anew."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybrid_compute import empty, progress, task

initialized: list[Any] = []


def initialize(*values: Any) -> None:
    initialized.extend(values)


@task
def seen(name: str) -> tuple[list[Any], bool]:
    """What the initializer got, and whether a module is loaded already."""
    import sys

    return initialized, name in sys.modules


@task
def add(a: int, b: int) -> int:
    return a + b


@task(pure=True)
def pure_add(a: int, b: int) -> int:
    return a + b


@task
def pid() -> int:
    return os.getpid()


@task
def double(array: Any) -> Any:
    return array * 2


@task
def ones(count: int) -> Any:
    """An array in shared memory."""
    array = empty(count)
    array[:] = 1
    return array


@task
def total(array: Any, mine: str, other: str) -> tuple[int, float]:
    """Meets the other call first, so that both run in workers of their own."""
    Path(mine).touch()
    while not Path(other).exists():
        time.sleep(0.001)
    return os.getpid(), float(array.sum())


@task
def die_with_memory(count: int) -> None:
    ones(count)
    os._exit(7)


@task
def touch_and_wait(path: str) -> None:
    Path(path).touch()
    time.sleep(3600)


@task
def count(stop: int) -> Iterator[int]:
    for number in range(stop):
        progress(number, stop)
        yield number


@task
async def short() -> int:
    await asyncio.sleep(0)
    return os.getpid()


@task
def fork_and_return() -> tuple[int, int]:
    """Both processes come back from here."""
    copy = os.fork()
    return os.getpid(), copy


@task
def surroundings() -> dict[str, Any]:
    child = multiprocessing.get_context("spawn").Process(target=abs, args=(-1,))
    child.start()
    child.join()
    return {
        "input": subprocess.run(["cat"], capture_output=True, check=True).stdout,
        "threads": os.environ["OMP_NUM_THREADS"],
        "own session": os.getsid(0) == os.getpid(),
        "child of its own": child.exitcode,
    }
