"""The tasks that `BackendContract` gives to a backend. A module of its own, so that a worker loads little else."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from hybrid_compute.tasks import task

PATIENCE = 30.0
"""Seconds after which a task that waits for a sign gives up, so that a broken backend cannot hang for ever."""


@task(name="contract.add")
def add(a: int, b: int = 0) -> int:
    return a + b


@task(name="contract.echo")
def echo(value: Any) -> Any:
    return value


@task(name="contract.nothing")
def nothing() -> None:
    pass


@task(name="contract.fail")
def fail(text: str) -> None:
    """Raise a `ValueError` with a cause and a note."""
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        error = ValueError(text)
        error.add_note("a note for the reader")
        raise error from cause


class Peculiar(Exception):
    """An exception that pickles and does not unpickle: its constructor wants more than it passes on."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


@task(name="contract.fail_peculiarly")
def fail_peculiarly(text: str) -> None:
    raise Peculiar(text, 7)


@task(name="contract.run_out")
def run_out() -> object:
    """Let a `StopIteration` escape, as a forgotten default of `next` does."""
    return next(iter(()))


@task(name="contract.be_late")
def be_late() -> None:
    """Raise a `TimeoutError` of its own, which is no timeout of the call."""
    raise TimeoutError("the printer does not answer")


@task(name="contract.leave")
def leave() -> None:
    sys.exit("enough")


@task(name="contract.append")
def append(path: str, line: str) -> None:
    """Add a line to a file, in one write."""
    with open(path, "ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


@task(name="contract.hold")
def hold(folder: str) -> str:
    """Say in `folder` that it has begun, wait there for the word to go on, and return "done"."""
    _say(folder, "begun")
    until = time.monotonic() + PATIENCE
    while not os.path.exists(os.path.join(folder, "go")):
        if time.monotonic() > until:
            raise AssertionError("nobody let this task go on")
        time.sleep(0.002)
    return "done"


@task(name="contract.add_async")
async def add_async(a: int, b: int = 0) -> int:
    await asyncio.sleep(0)
    return a + b


@task(name="contract.wait_async")
async def wait_async() -> None:
    await asyncio.sleep(PATIENCE)


@task(name="contract.count")
def count(upto: int) -> Iterator[int]:
    yield from range(upto)


@task(name="contract.count_async")
async def count_async(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number
        await asyncio.sleep(0)


@task(name="contract.count_and_fail")
def count_and_fail(upto: int) -> Iterator[int]:
    yield from range(upto)
    raise ValueError("no more")


@task(name="contract.tick")
def tick(folder: str) -> Iterator[int]:
    """Count without end, and say in `folder` when it was stopped."""
    number = 0
    try:
        while True:
            yield number
            number += 1
            time.sleep(0.001)
    finally:
        _say(folder, "stopped")


def _say(folder: str, what: str) -> None:
    Path(folder, what).touch()
