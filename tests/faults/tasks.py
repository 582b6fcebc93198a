"""Tasks that behave badly, for the tests of this folder."""

import asyncio
import ctypes
import functools
import os
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from hybrid_compute import task

MARK = struct.Struct("<Q")


@functools.cache
def opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


@task
def mark(path: str, number: int) -> int:
    """Leave `number` in the file: a side effect that anybody can count."""
    os.write(opened(path), MARK.pack(number))
    return number


@task
def mark_pair(pair: tuple[str, int]) -> int:
    return mark(*pair)


@task(pure=True)
def mark_pure(path: str, number: int) -> int:
    return mark(path, number)


@task
async def mark_in_coroutine(path: str, number: int) -> int:
    await asyncio.sleep(0)
    return mark(path, number)


@task
def mark_and_stream(path: str, number: int) -> Iterator[int]:
    mark(path, number)
    yield number


@task
def mark_after(path: str, number: int, seconds: float) -> int:
    """Do nothing useful for a while, and then leave the mark."""
    time.sleep(seconds)
    return mark(path, number)


@task
def mark_and_wait(path: str, number: int) -> None:
    """Leave the mark and never come back."""
    mark(path, number)
    time.sleep(3600)


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def pid() -> int:
    return os.getpid()


@task
def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@task
def echo(value: Any) -> Any:
    return value


@task
def die(how: str) -> None:
    """Leave this world in one of many ways."""
    ways = {
        "segfault": lambda: ctypes.string_at(0),
        "abort": os.abort,
        "exit": lambda: os._exit(7),
        "overflow the stack": overflow,
    }
    ways[how]()


def overflow() -> None:
    """A real overflow of the C stack: `repr` of this goes down and down where no limit is kept."""
    deep: Any = functools.partial(print)
    for _ in range(500_000):
        deep = functools.partial(deep)
        deep = {"": deep}
    sys.setrecursionlimit(10**9)
    ctypes.pythonapi.PyObject_Repr(ctypes.py_object(deep))


@task
def fail(error: BaseException) -> None:
    raise error


@task
async def fail_in_coroutine(error: BaseException) -> None:
    raise error


@task
async def wait_for_ever(path: str, number: int) -> None:
    mark(path, number)
    await asyncio.get_running_loop().create_future()


@task
async def short_wait(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()


@task
async def refuse_to_stop(path: str, number: int) -> None:
    """A coroutine that takes no cancellation for an answer."""
    mark(path, number)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@task
async def block_the_loop(path: str, number: int) -> None:
    mark(path, number)
    time.sleep(3600)  # noqa: ASYNC251  # the very mistake that is tested


@task
def count_to(stop: int, path: str = "") -> Iterator[int]:
    """Numbers; each is marked as it is made, and -1 (as the largest number) when the generator ends."""
    try:
        for number in range(stop):
            if path:
                mark(path, number)
            yield number
    finally:
        if path:
            mark(path, 2**64 - 1)


@task
async def count_slowly_to(stop: int, path: str = "") -> AsyncIterator[int]:
    try:
        for number in range(stop):
            if path:
                mark(path, number)
            await asyncio.sleep(0)
            yield number
    finally:
        if path:
            mark(path, 2**64 - 1)
