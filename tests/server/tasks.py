"""Tasks that the tests of this folder serve.

Those that say `cost="io"` run in the process of the server, which is that of the test: the test holds them at a gate,
and sees how far they came. The others run in workers.
"""

import asyncio
import itertools
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from hybrid_compute import task
from hybrid_compute.tasks import TaskRegistry

came: Counter[str] = Counter()
"""How many calls have reached the gate of this name."""

left: Counter[str] = Counter()
"""How many have gone from there again, let through or stopped."""

gates: dict[str, threading.Event] = {}
"""The gates that are there; a call passes one that is open."""

_names = itertools.count()


def gate() -> str:
    """A new gate, which is shut."""
    name = f"gate {next(_names)}"
    gates[name] = threading.Event()
    return name


@task(pure=True, cost="trivial")
def add(a: int, b: int) -> int:
    return a + b


@task(cost="trivial")
def echo(value: Any) -> Any:
    return value


@task(cost="trivial")
def nothing() -> None:
    return None


@task(cost="trivial")
def fail(text: str) -> None:
    raise ValueError(text)


@task(cost="io")
async def wait_at(name: str) -> str:
    """Come to a gate, and say its name once it is open."""
    came[name] += 1
    try:
        while not gates[name].is_set():  # noqa: ASYNC110  # which another thread sets
            await asyncio.sleep(0.001)
        return name
    finally:
        left[name] += 1


@task(cost="io", pure=True, name="wait_at.purely")
async def wait_purely(name: str) -> str:
    return await wait_at.fn(name)


@task(cost="io")
async def count_to(stop: int, name: str = "") -> AsyncIterator[int]:
    """Numbers; each counts as one more that came to the gate, which none waits for."""
    try:
        for number in range(stop):
            came[name] += 1
            yield number
            await asyncio.sleep(0)
    finally:
        left[name] += 1


@task(cost="io")
async def pour(name: str, size: int) -> AsyncIterator[str]:
    """Large items without end."""
    try:
        while True:
            came[name] += 1
            yield "x" * size
            await asyncio.sleep(0)
    finally:
        left[name] += 1


@task(cost="io")
async def count_then_wait(stop: int, name: str) -> AsyncIterator[int]:
    for number in range(stop):
        yield number
    await wait_at.fn(name)


@task(cost="io")
async def count_then_fail(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        yield number
    raise ValueError(f"no more than {stop}")


@task(cost="io")
async def odd_items() -> AsyncIterator[Any]:
    yield 1
    yield object()


@task
def pid() -> int:
    return os.getpid()


@task
def pid_for(value: Any) -> int:
    """That of a worker, which has got the value."""
    return os.getpid()


@task
def count_in_worker(stop: int, path: str) -> Iterator[int]:
    """Numbers; the file holds the last one that was made, and then the word `ended`."""
    marks = Path(path)
    try:
        for number in range(stop):
            marks.write_text(str(number))
            yield number
    finally:
        marks.write_text("ended")


@task
def leave_mark(path: str) -> int:
    """One byte more in the file; how many there are."""
    with Path(path).open("ab") as marks:
        marks.write(b"x")
        return marks.tell()


def _mark_and_wait(path: str) -> int:
    count = leave_mark.fn(path)
    opened = Path(path).with_suffix(".open")
    while not opened.exists():
        threading.Event().wait(0.002)
    return count


@task
def mark_and_wait(path: str) -> int:
    """Leave a mark, and wait for a file beside it that ends in `.open`."""
    return _mark_and_wait(path)


@task(pure=True)
def mark_and_wait_purely(path: str) -> int:
    return _mark_and_wait(path)


@task(cost="trivial", name="a name/with ümlaut & slash")
def oddly_named(value: int) -> int:
    return -value


def registry() -> TaskRegistry:
    return TaskRegistry(
        [
            add,
            echo,
            nothing,
            fail,
            wait_at,
            wait_purely,
            count_to,
            pour,
            count_then_wait,
            count_then_fail,
            pid,
            pid_for,
            count_in_worker,
            leave_mark,
            mark_and_wait,
            mark_and_wait_purely,
            oddly_named,
        ]
    )
