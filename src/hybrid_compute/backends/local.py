"""This process: in the event loop for what never blocks it, in a thread for the rest."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing, contextmanager
from functools import partial
from time import perf_counter
from typing import Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.calls import Call, abandoned
from hybrid_compute.errors import TaskFailed
from hybrid_compute.links.codec import OF_THE_TASK, failure_of
from hybrid_compute.reporting import Reporter, reporter
from hybrid_compute.tasks import AnyTask


class LocalBackend(Backend):
    """Runs tasks in this process.

    Coroutines run in the event loop, tasks marked `cost="trivial"` right there too; every other function runs in one
    of `threads` threads, so that it cannot block the loop. A thread cannot be stopped, unless it is in a kernel: after
    a timeout or a cancellation the caller goes on, and the function runs to its end unheard. A generator whose reader
    has gone is closed where it yields next; until then it has its thread.
    """

    name = "local"
    rank = 2
    provides = frozenset({"cpu", "thread", "in-process"})

    def __init__(self, *, threads: int | None = None) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None

    def can_run(self, task: AnyTask, /) -> bool:
        return True

    async def aclose(self) -> None:
        await super().aclose()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self._run(Call(task, args, kwargs))

    async def run_call(self, call: Call, /) -> Any:
        async with self.within_limits(call):
            return await self._run(call)

    def run_now(self, call: Call) -> Any:
        """Run a plain function here, at once, in the calling thread."""
        if not self.hooks and call.listener is None:
            return _timed(call)
        with _heard_by(self._reporter(call)):
            return _timed(call)

    def stream_call(self, call: Call, /) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        return self._stream(call)

    async def _run(self, call: Call) -> Any:
        self.check_open()
        task = call.task
        if task.streams:
            async with self._stream(call) as items:
                return [item async for item in items]
        if task.kind == "coroutine":
            return await self._run_coroutine(call)
        if task.cost == "trivial":
            return self.run_now(call)
        return await self._in_thread(call, partial(_timed, call))

    async def _run_coroutine(self, call: Call) -> Any:
        token = reporter.set(self._reporter(call))
        began = perf_counter()
        try:
            return await call.task.fn(*call.args, **call.kwargs)
        except _of_the_task() as error:
            raise failure_of(error, call.task.name) from error
        finally:
            call.ran = perf_counter() - began
            reporter.reset(token)

    def _in_thread(self, call: Call, work: Callable[[], Any]) -> asyncio.Future[Any]:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="hybrid-compute")
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        context.run(reporter.set, self._reporter(call, loop))
        asked: list[asyncio.Future[Any]] = []
        context.run(abandoned.set, lambda: bool(asked) and asked[0].cancelled())
        running = loop.run_in_executor(self._executor, context.run, work)
        asked.append(running)
        return running

    def _reporter(self, call: Call, loop: asyncio.AbstractEventLoop | None = None) -> Reporter:
        def report(done: float, total: float | None, note: str) -> None:
            if self.hooks or call.listener is not None:
                tell = self.hooks.report
                loop.call_soon_threadsafe(tell, call, done, total, note) if loop else tell(call, done, total, note)

        return report

    @asynccontextmanager
    async def _stream(self, call: Call) -> AsyncGenerator[AsyncIterator[Any]]:
        self.check_open()
        if call.task.kind == "async generator":
            async with aclosing(self._items(call)) as items:
                yield self._limited(call, items)
            return
        pump = _ThreadPump(call)
        running = self._in_thread(call, pump.run)
        try:
            yield self._limited(call, pump.items())
        finally:
            pump.stop()
            running.cancel()  # takes it out of the line, if it has not begun

    async def _items(self, call: Call) -> AsyncGenerator[Any]:
        """The items of an async generator, in our errors."""
        listener = self._reporter(call)
        try:
            async with aclosing(call.task.fn(*call.args, **call.kwargs)) as items:
                while True:
                    with _heard_by(listener):
                        item = await anext(items)
                    yield item
        except StopAsyncIteration:
            return
        except _of_the_task() as error:
            raise failure_of(error, call.task.name) from error

    async def _limited(self, call: Call, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The items within the call's deadline."""
        while True:
            async with self.within_limits(call):
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            yield item


@contextmanager
def _heard_by(listener: Reporter) -> Generator[None]:
    token = reporter.set(listener)
    try:
        yield
    finally:
        reporter.reset(token)


def _timed(call: Call) -> Any:
    """Run the function and time it. Whatever it raises is `TaskFailed`, an error of this library as well."""
    began = perf_counter()
    try:
        return call.task.fn(*call.args, **call.kwargs)
    except _of_the_task() as error:
        raise failure_of(error, call.task.name) from error
    finally:
        call.ran = perf_counter() - began


_ANY_OF_THE_TASK = (*OF_THE_TASK, KeyboardInterrupt)


def _of_the_task() -> tuple[type[BaseException], ...]:
    """What comes from a task that runs in this thread. Nobody types an interrupt in any but the main one."""
    return OF_THE_TASK if threading.current_thread() is threading.main_thread() else _ANY_OF_THE_TASK


class _ThreadPump:
    """A generator that runs in a thread, a few items ahead of its reader at most."""

    _END = object()

    def __init__(self, call: Call, ahead: int = 16) -> None:
        self._call = call
        self._room = threading.Semaphore(ahead)
        self._ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._failure: TaskFailed | None = None
        self._stopped = False

    def run(self) -> None:
        """In the thread. Nothing is raised here: what no future carries, or would end the program, is handed over."""
        began = perf_counter()
        try:
            with closing(self._call.task.fn(*self._call.args, **self._call.kwargs)) as items:
                for item in items:
                    self._hand_over(item)
                    self._room.acquire()
                    if self._stopped:
                        break
        except _ANY_OF_THE_TASK as error:
            self._failure = failure_of(error, self._call.task.name)
        self._call.ran = perf_counter() - began
        self._hand_over(self._END)

    def _hand_over(self, item: Any) -> None:
        self._ready.put(item)
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the loop is closed: its reader has gone long ago
            pass

    def stop(self) -> None:
        """In the loop: the reader has gone."""
        self._stopped = True
        self._room.release()

    async def items(self) -> AsyncIterator[Any]:
        """In the loop."""
        while True:
            while self._ready.empty():
                self._arrived.clear()
                await self._arrived.wait()
            item = self._ready.get()
            if item is self._END:
                await asyncio.sleep(0)  # what the task has said of its progress is on the loop's list: that comes first
                if self._failure is not None:
                    raise self._failure
                return
            self._room.release()
            yield item
