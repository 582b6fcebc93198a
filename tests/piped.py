"""Tasks that the tests of pipelines join together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from hybrid_compute import task


@task
def count(upto: int) -> Iterator[int]:
    yield from range(upto)


@task
async def count_here(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@task(pure=True)
def double(x: int) -> int:
    return x * 2


@task
def where(x: int) -> tuple[int, int]:
    return x, os.getpid()


@task
def whence(x: tuple[int, int]) -> tuple[int, int, int]:
    return *x, os.getpid()


# Stages of every kind, for numbers. How long they take, in turns of the event loop, depends on the number alone.


class Refused(Exception):
    """What `picky` raises."""


@task(cost="trivial")
def increment(x: int) -> int:
    return x + 1


@task
async def dawdle(x: int) -> int:
    for _ in range(x * 7 % 5):
        await asyncio.sleep(0)
    return x + 3


@task
async def repeat(x: int) -> AsyncIterator[int]:
    """The number up to twice, or not at all."""
    for time in range(x % 3):
        for _ in range(x % 2):
            await asyncio.sleep(0)
        yield x + time


@task
def split(x: int) -> Iterator[int]:
    yield from (x // 2, x - x // 2)


@task
async def picky(x: int) -> int:
    """One number in eleven is refused."""
    await dawdle(x)
    if x % 11 == 7:
        raise Refused(x)
    return x


# Death and its company.


@task(pure=True)
def die_once(job: tuple[str, int]) -> int:
    """The first call that finds no file there kills its worker."""
    path, number = job
    if number == 3:
        try:
            Path(path).touch(exist_ok=False)
        except FileExistsError:
            return number
        os.kill(os.getpid(), 9)
    return number


@task
def say_pid_and_stay(job: tuple[str, int]) -> int:
    """Number 3 writes the number of its process to a file, and never returns."""
    path, number = job
    if number == 3:
        Path(path).with_suffix(".new").write_text(str(os.getpid()))
        Path(path).with_suffix(".new").rename(path)
        while True:
            os.read(_never(), 1)
    return number


def _never() -> int:
    """A descriptor that there will be nothing to read from."""
    return os.pipe()[0]


@task(timeout=0.1)
def never_done(x: int) -> int:
    return os.read(_never(), 1)[0] + x
