"""Tasks that the tests offer as tools."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from hybrid_compute import progress, task
from hybrid_compute.testing.tasks import PATIENCE


class Point(msgspec.Struct):
    x: float
    y: float = 0.0


@task(tool=True, pure=True)
def add(a: int, b: int = 0) -> int:
    """Add two numbers.

    The second may be left out.
    """
    return a + b


@task(tool=True)
def mirrored(point: Point) -> Point:
    return Point(-point.x, -point.y)


@task(tool=True)
def joined(*words: str) -> str:
    return " ".join(words)


@task(tool=True)
def named(**ages: int) -> dict[str, int]:
    return ages


@task(tool=True)
def nothing() -> None: ...


@task(tool=True)
def echo(value: Any = None) -> Any:
    return value


@task(tool=True)
def boom(text: str) -> str:
    raise ValueError(text)


@task(tool=True)
def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@task(tool=True)
def loud(text: str) -> str:
    """Return the text, after printing it."""
    print(text)  # noqa: T201  # it is what is tested
    return text


@task(tool=True)
def countdown(start: int) -> Iterator[int]:
    yield from range(start, 0, -1)


@task(tool=True)
async def countdown_async(start: int) -> AsyncIterator[int]:
    for number in range(start, 0, -1):
        yield number
        await asyncio.sleep(0)


@task(tool=True)
def report(steps: list[float], note: str = "") -> int:
    """Say each of these as progress, of 10."""
    for step in steps:
        progress(step, 10, note)
    return len(steps)


@task(tool=True)
def report_and_hold(folder: str) -> str:
    """Say how far it is, then wait for the word to go on."""
    progress(1, 2, "half way")
    return _hold(folder)


@task(tool=True)
def hold(folder: str) -> str:
    return _hold(folder)


@task(tool=True)
def tick(folder: str) -> Iterator[int]:
    """Count without end, and say when it was stopped."""
    number = 0
    try:
        while True:
            yield number
            number += 1
            time.sleep(0.001)
    finally:
        Path(folder, "stopped").touch()


@task(tool=True)
def spin(folder: str) -> None:
    """Say which process this is, and compute for ever."""
    begun = Path(folder, "begun")
    begun.with_suffix(".new").write_text(str(os.getpid()))
    begun.with_suffix(".new").rename(begun)
    while True:
        pass


@task
def secret() -> str:
    """Not for models."""
    return "hush"


TOOLS = [add, mirrored, joined, named, nothing, echo, boom, nested, loud, countdown, countdown_async, report]
TOOLS += [report_and_hold, hold, tick, spin]


def _hold(folder: str) -> str:
    Path(folder, "begun").touch()
    until = time.monotonic() + PATIENCE
    while not Path(folder, "go").exists():
        if time.monotonic() > until:
            raise AssertionError("nobody let this task go on")
        time.sleep(0.002)
    return "done"
