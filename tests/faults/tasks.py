"""Tasks that behave badly, for the tests of this folder."""

import asyncio
import contextvars
import ctypes
import functools
import gc
import itertools
import os
import resource
import signal
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from hybrid_compute import BlockingRuntime, Runtime, WorkerBackend, task
from hybrid_compute.reporting import progress

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
def mark_pid(path: str, seconds: float) -> None:
    """Leave the number of this process as the mark, and stay for a while."""
    mark(path, os.getpid())
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))  # a signal that comes just before a sleep begins is heard when it ends


@task
def mark_pid_and_yield(path: str) -> Iterator[None]:
    """The same before a first item that never comes."""
    mark_pid.fn(path, 3600.0)
    yield


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
    """A real overflow of the C stack: `repr` goes down and down where there is less of it than Python thinks."""
    deep: Any = []
    for _ in range(1_000_000):
        deep = [deep]
    sys.setrecursionlimit(10**9)
    threading.stack_size(128 << 10)
    thread = threading.Thread(target=repr, args=[deep])
    thread.start()
    thread.join()


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
    time.sleep(3600)  # the very mistake that is tested


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


@task
def busy_in_c(path: str, number: int) -> None:
    """Hold the GIL in C code, where no Python signal handler would ever run."""
    mark(path, number)
    sum(itertools.repeat(0))


@task
def run_nested(path: str, number: int) -> None:
    """A runtime inside a worker, whose own workers never finish."""
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as rt:
        rt.map(add_one, range(10))
        rt.run(mark_and_wait, path, number)


@task
def sum_in_workers(count: int) -> int:
    with BlockingRuntime([WorkerBackend(2)], strategy="worker") as rt:
        return sum(rt.map(add_one, range(count)))


@task
def add_one(number: int) -> int:
    return number + 1


@task(pure=True)
def die_purely() -> None:
    die("exit")


@task
def fail_in_stream(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


@task
def recurse(depth: int) -> int:
    return recurse(depth + 1) + 1


@task
def take_memory(size: int) -> int:
    return len(bytearray(size))


@task
def return_more_than_can_be_copied() -> bytes:
    """The result fits into memory, but not twice."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    value = bytes(64 << 20)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (8 << 20), hard))
    return value


@task
def shout(count: int) -> int:
    sys.stdout.write("x" * count + "\n")
    sys.stderr.write("y" * count + "\n")
    return count


@task
def close_descriptors(start: int, stop: int) -> int:
    os.closerange(start, stop)
    return os.getpid()


@task
def close_everything(then: str) -> int:
    if then == "nothing":
        return os.getpid()
    os.closerange(0, 1000)
    if then == "open":
        # Now the numbers of the worker's own pipes name something that never answers.
        ends = [os.pipe() for _ in range(20)]
        return len(ends)
    if then == "sleep":
        time.sleep(3600)
    return os.getpid()


@task
def fork_and_return(path: str, number: int) -> int:
    """Both processes come back from here."""
    os.fork()
    return mark(path, number)


@task
def fork_and_die(when: str) -> None:
    if when == "later":
        return
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    os._exit(9)


@task
def mark_or_wait(path: str, number: int, wait: bool) -> int:
    """One function, nearly always quick: the pool reads it ahead."""
    mark(path, number)
    if wait:
        time.sleep(3600)
    return number


@task(timeout=0.1)
def timed_mark(path: str, number: int) -> int:
    return mark(path, number)


@task
def get_stuck(where: str, path: str) -> Iterator[int]:
    try:
        yield 0
        if where == "between items":
            mark(path, 1)
            time.sleep(3600)
        yield from itertools.count(1)
    finally:
        if where == "at the end":
            time.sleep(3600)


@task
def arrays(count: int, size: int, path: str = "") -> Iterator[Any]:
    import numpy as np

    for number in range(count):
        if path:
            mark(path, number)
        yield np.full(size, number, np.int64)


@task
def full(size: int, number: int) -> Any:
    import numpy as np

    return np.full(size, number, np.int64)


@task
def total(array: Any) -> int:
    return int(array.sum())


@task
def count_memfds() -> int:
    from tests.faults.watching import memfds  # here: psutil is not for every worker

    return memfds()


@task
def count_and_fail(count: int) -> Iterator[int]:
    yield from range(count)
    raise ValueError("at the end")


@task
def report_from_plain(count: int) -> None:
    for number in range(count):
        progress(number, count, f"step {number}")


@task
async def report_from_coroutine(count: int) -> None:
    for number in range(count):
        progress(number, count, f"step {number}")
        await asyncio.sleep(0)


@task
def report_from_generator(count: int) -> Iterator[int]:
    for number in range(count):
        progress(number, count, f"step {number}")
        yield number


@task
async def report_from_async_generator(count: int) -> AsyncIterator[int]:
    for number in range(count):
        progress(number, count, f"step {number}")
        yield number


@task
def report_and_wait() -> None:
    progress(1, 2, "half way")
    time.sleep(3600)


def _report(count: int) -> None:
    for number in range(count):
        progress(number, count)


@task
async def report_from_threads(threads: int, count: int) -> bytes:
    await asyncio.gather(*(asyncio.to_thread(_report, count) for _ in range(threads)))
    return b"x" * (1 << 20)


@task
def report_from_a_thread_of_a_plain_task(count: int) -> bytes:
    thread = threading.Thread(target=contextvars.copy_context().run, args=(_report, count))
    thread.start()
    _report(count)
    return b"x" * (1 << 20)


@task
def measure(text: str) -> int:
    return len(text)


_initialized = 0


def initialize(path: str, number: int) -> None:
    global _initialized  # noqa: PLW0603  # what initializers are for
    mark(path, number)
    _initialized = number


@task
def initialized() -> int:
    return _initialized


def fail_to_initialize(path: str, how: str) -> None:
    mark(path, 1)
    if how == "raise":
        raise ValueError("not like this")
    if how == "unpicklable":
        raise ValueError(threading.Lock())
    if how == "sys.exit":
        sys.exit(3)
    if how == "kill":
        os.kill(os.getpid(), 9)
    die(how)


def fail_at_first(path: str, times: int) -> None:
    mark(path, 1)
    if os.stat(path).st_size <= times * MARK.size:
        raise ValueError("not yet")


@task
def is_loaded(module: str) -> bool:
    return module in sys.modules


@task
async def sum_in_workers_async(count: int) -> int:
    async with Runtime([WorkerBackend(2)], strategy="worker") as rt:
        return sum(await rt.map(add_one, range(count)))


@task
def sum_three_deep(count: int) -> int:
    with BlockingRuntime([WorkerBackend(1)], strategy="worker") as rt:
        return rt.run(sum_in_workers, count)


@task
def count_functions() -> int:
    """How many functions this worker knows."""
    workers = [each for each in gc.get_objects() if type(each).__name__ == "Worker" and hasattr(each, "functions")]
    return len(workers[0].functions)


def mark_and_wait_for_file(path: str, number: int) -> int:
    """Leave the mark, and come back once there is a file of that name that ends in `.go`."""
    mark(path, number)
    while not Path(path).with_suffix(".go").exists():
        time.sleep(0.005)
    return number


def mark_or_wait_for_file(path: str, number: int) -> int:
    return mark(path, number) if number == 0 else mark_and_wait_for_file(path, number)


def capture(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


class Thing:
    def method(self, other: object) -> None:
        return None


def make_object(_: int) -> Thing:
    return Thing()


def sleep_and_print(seconds: float, text: str) -> None:
    time.sleep(seconds)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@task(pure=True)
def change_and_die_once(values: Any, flag: str) -> float:
    """Change the argument; then, the first time, die."""
    array = values[0] if isinstance(values, list) else values
    array += 1
    if not os.path.exists(flag):
        Path(flag).touch()
        os.kill(os.getpid(), 9)
    return float(array[0])


@task
def fail_with(values: Any) -> None:
    raise ValueError(f"not with {len(values)} of them")


@task
def interrupt_and_answer(process: int) -> int:
    """Interrupt whoever waits for this, and answer a moment later."""
    if process:
        os.kill(process, signal.SIGUSR1)
        time.sleep(0.01)
    return process


@task
def divide(a: int, b: int) -> float:
    return a / b


def set_up_once(flag: str) -> None:
    if os.path.exists(flag):
        raise RuntimeError("this worker cannot be set up")
    Path(flag).touch()


FILLERS: list[int] = []


@task
def fill_files() -> None:
    """Open files in this worker until there is no room for one more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    try:
        while True:
            FILLERS.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass


@task
def close_files() -> None:
    while FILLERS:
        os.close(FILLERS.pop())
