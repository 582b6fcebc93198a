"""Tasks that the tests of the command name: `shop:double`."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hybrid_compute import progress, task


@task(pure=True)
def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


@task(name="text.join", pure=True, timeout=5.0, private=True, needs={"cpu"}, cost="cpu", retries=2)
def join(first: str, second: str = "!") -> str:
    """Two texts, one after the other."""
    return first + second


@task
def count_to(n: int) -> Iterator[int]:
    """The numbers up to `n`."""
    yield from range(1, n + 1)


@task
def one_then_wait_for(path: str) -> Iterator[int]:
    """1, and 2 once the file is there."""
    yield 1
    while not Path(path).exists():
        time.sleep(0.001)
    yield 2


@task
def report_and_return(n: int) -> int:
    """`n`, after saying how it goes."""
    for step in range(n):
        progress(step, n, "stirring [/b]")
        time.sleep(0.15)  # longer than a bar takes to be drawn again
    return n


@task
def print_and_return(text: str) -> str:
    """The text, after printing it."""
    print("printed:", text)  # noqa: T201  # it is what is tested
    return text


@task
def where() -> int:
    """The process this runs in."""
    return os.getpid()


@task
def refuse_odd(x: int) -> int:
    """An even number."""
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


@task
def die(x: int) -> int:
    """Nothing: the process goes down."""
    if x % 2:
        os.abort()
    return x


@task
def spin() -> None:
    """For ever."""
    while True:
        pass


@task
def doze(seconds: float) -> float:
    """The seconds that were slept."""
    time.sleep(seconds)
    return seconds


@task
async def doze_aside(seconds: float) -> float:
    """The same, beside others."""
    await asyncio.sleep(seconds)
    return seconds


@task(needs={"gpu"})
def draw() -> None:
    """Nothing, where no GPU is."""


@task
def no_json() -> object:
    """Something that JSON cannot say."""
    return {"deep": [object()]}


def without_mark(x: int) -> int:
    return -x


ANSWER = 42
