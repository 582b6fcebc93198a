"""What a guest was granted, called: in its thread, while it waits.

a plain function            is called as it is, and nothing interrupts it
a coroutine                 runs in an event loop of its own, wherever the guest runs; it is cancelled when the
                            guest is stopped
a task with a timeout       is waited for no longer: a coroutine is cancelled, a guest is stopped, and a plain
                            function runs to its end unheard, in a thread
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from time import monotonic
from typing import Any

from hybrid_compute.errors import TaskTimeout
from hybrid_compute.links import threads
from hybrid_compute.tasks import AnyTask, as_task
from hybrid_compute.wasm.contained import Contained
from hybrid_compute.wasm.leash import Leash

_STACK = 8 << 20


class Granted:
    """A function that guests may call. Raises `TypeError` for one that they cannot: what gives a stream."""

    def __init__(self, what: Callable[..., Any]) -> None:
        self.task: AnyTask = as_task(what)
        if self.task.streams:
            raise TypeError(f"task {self.task.name!r} gives a stream, which cannot be granted to a guest")

    def call(self, leash: Leash, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What it gives, for the guest that this leash holds. Raises what it raises, or `TaskTimeout`."""
        task = self.task
        if task.is_async:
            return _waited(leash, task, lambda: task.fn(*args, **kwargs))
        if task.timeout is None:
            return task.fn(*args, **kwargs)
        if isinstance(task.fn, Contained):
            own = Leash()
            own.limit(monotonic() + task.timeout, lambda: _late(task))
            return task.fn.run(own, args, kwargs)
        return _waited(leash, task, lambda: _from_thread(lambda: task.fn(*args, **kwargs)))


def check(grants: Mapping[str, Any]) -> None:
    """Raise `TypeError` for what cannot be granted: a function, a task, or a list of tasks can."""
    for name, grant in grants.items():
        if callable(grant):
            Granted(grant)
        elif isinstance(grant, list | tuple | set | frozenset):
            for each in grant:
                Granted(each)
        else:
            raise TypeError(f"a guest cannot be granted {grant!r} as {name!r}: it calls functions, or a list of tasks")


def _waited(leash: Leash, task: AnyTask, begin: Callable[[], Awaitable[Any]]) -> Any:
    """What this gives, in an event loop of its own: here, unless this thread has one that runs already."""

    def run() -> Any:
        return asyncio.run(_held(leash, task, begin))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    return _opened(_in_thread(run).result())


async def _held(leash: Leash, task: AnyTask, begin: Callable[[], Awaitable[Any]]) -> Any:
    limit = asyncio.timeout(task.timeout)
    work = asyncio.ensure_future(begin())
    try:
        async with limit:
            with _told(leash, work):
                return await work
    except TimeoutError:
        if limit.expired():
            raise _late(task) from None
        raise


@contextmanager
def _told(leash: Leash, work: asyncio.Future[Any]) -> Generator[None]:
    """Within the block the work is cancelled when the guest may not go on: who tells the guest, tells us too."""
    loop, tick = asyncio.get_running_loop(), leash.tick

    def look() -> None:
        if not leash.may_go_on():
            work.cancel()

    def tell() -> None:
        if tick is not None:
            tick()
        try:
            loop.call_soon_threadsafe(look)
        except RuntimeError:  # by one who still knew of it when all was over
            pass

    leash.tick = tell
    try:
        look()  # it may have been told before
        yield
    finally:
        leash.tick = tick


_Outcome = tuple[Any, BaseException | None]
"""What a thread gives: a future of asyncio would not carry every exception."""


def _in_thread(work: Callable[[], Any]) -> Future[_Outcome]:
    done: Future[_Outcome] = Future()
    context = contextvars.copy_context()

    def perform() -> None:
        done.set_running_or_notify_cancel()  # from here on who gives up waiting does not cancel it
        try:
            done.set_result((context.run(work), None))
        except BaseException as error:
            done.set_result((None, error))

    threads.start(perform, stack=_STACK, name="hybrid-compute-wasm-granted")
    return done


async def _from_thread(work: Callable[[], Any]) -> Any:
    return _opened(await asyncio.wrap_future(_in_thread(work)))


def _opened(outcome: _Outcome) -> Any:
    result, error = outcome
    if error is not None:
        raise error
    return result


def _late(task: AnyTask) -> TaskTimeout:
    return TaskTimeout(f"task {task.name!r}, which was granted to a guest, was not done after {task.timeout:g} s")
