"""Coroutines in a worker: an event loop that turns while the main loop waits for input.

The main loop stays the only reader of frames. Instead of blocking in `read` it lets this loop run; the loop stops as
soon as there is input, or when its last coroutine has ended.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable
from functools import partial
from threading import get_ident
from time import perf_counter
from typing import Any, Protocol

from hybrid_compute.links import frames
from hybrid_compute.reporting import reporter


class Function(Protocol):
    """What is called."""

    fn: Callable[..., Any]
    kind: str
    mean: float


class Channel(Protocol):
    """Where input comes from."""

    def ready(self) -> bool: ...

    def wake(self, loop: asyncio.AbstractEventLoop) -> None: ...


class Worker(Protocol):
    """The main loop, as far as it matters here: its input, and the ways to answer."""

    out: list[bytes]

    @property
    def channel(self) -> Channel: ...

    def answer(self, call: int, ran: float, value: Any) -> None: ...

    def deliver(self, kind: int, call: int, ran: float, value: Any) -> object: ...

    def fail(self, call: int, ran: float, error: BaseException) -> None: ...

    def flush(self) -> None: ...

    def report(self, done: float, total: float | None, note: str, call: int) -> None: ...

    def send(self, kind: int, call: int) -> None: ...


class Aside:
    """The coroutines in progress in one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._thread = get_ident()
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._credit: dict[int, _Credit] = {}
        self._cancelled: set[int] = set()  # asked to stop, and not yet at their end
        worker.channel.wake(self._loop)

    def start(self, call: int, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin a coroutine or an async generator; it runs once the main loop waits."""
        context = contextvars.copy_context()
        context.run(reporter.set, partial(self._report, call))
        made = function.fn(*args, **kwargs)
        if function.kind == "async generator":
            self._credit[call] = _Credit()
            made = self._drain(call, made, self._credit[call])
        task = self._tasks[call] = self._loop.create_task(made, context=context)
        task.add_done_callback(partial(self._finished, call, function, perf_counter()))

    def grant(self, call: int, credit: int) -> None:
        """The reader of a stream asks for `credit` more items."""
        if call in self._credit:
            self._credit[call].add(credit)

    def cancel(self, call: int) -> None:
        """Ask a coroutine to stop; its CANCELLED or its result follows."""
        if call in self._tasks:
            self._cancelled.add(call)
            self._tasks[call].cancel()

    def run_until_input(self) -> None:
        """Turn the loop until the parent has sent something or nothing is left to run."""
        while self._tasks and not self._worker.channel.ready():
            self._run()
        self._worker.flush()

    def turn(self) -> None:
        """Turn the loop once."""
        if self._tasks:
            self._loop.call_soon(self._loop.stop)
            self._run()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            pass  # asyncio lets them through; the task has failed with it all the same, and says so

    def _report(self, call: int, done: float, total: float | None, note: str) -> None:
        """From the coroutine itself, or from a thread that it sent on its way with its context."""
        if get_ident() == self._thread:
            self._worker.report(done, total, note, call)
        else:
            self._loop.call_soon_threadsafe(self._worker.report, done, total, note, call)

    def _finished(self, call: int, function: Function, began: float, task: asyncio.Task[Any]) -> None:
        ran = perf_counter() - began
        del self._tasks[call]
        self._credit.pop(call, None)
        try:
            result = task.result()
        except BaseException as error:
            if call in self._cancelled and isinstance(error, asyncio.CancelledError):
                self._worker.send(frames.CANCELLED, call)
            else:
                self._worker.fail(call, ran, error)
        else:
            function.mean += (ran - function.mean) * 0.2
            self._worker.answer(call, ran, result)
        self._cancelled.discard(call)
        if len(self._worker.out) == 1:
            self._loop.call_soon(self._worker.flush)
        if not self._tasks:
            self._loop.stop()

    async def _drain(self, call: int, generator: AsyncGenerator[Any], credit: _Credit) -> None:
        try:
            while True:
                await credit.spend()
                try:
                    item = await anext(generator)
                except StopAsyncIteration:
                    return
                self._worker.deliver(frames.ITEM, call, 0.0, item)
                self._worker.flush()
        finally:
            await generator.aclose()


class _Credit:
    """How many more items a reader is willing to hold."""

    def __init__(self) -> None:
        self._left = 0
        self._more = asyncio.Event()

    def add(self, count: int) -> None:
        self._left += count
        self._more.set()

    async def spend(self) -> None:
        while not self._left:
            self._more.clear()
            await self._more.wait()
        self._left -= 1
