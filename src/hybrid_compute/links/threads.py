"""Threads that run what they are given, first come, first served, and tell an event loop what came of it.

They have the stack that guests of WASM need, and are there from the first call on. Unlike an executor's they are not
waited for when the program ends, and nothing lies between a call and its thread but one queue.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

_Work = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Threads:
    """So many threads with a stack of `stack` bytes each."""

    def __init__(self, count: int, *, stack: int, name: str) -> None:
        self.count = count
        self._stack = stack
        self._name = name
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._started = 0
        self._under_way = 0  # given and not yet answered, as the event loop sees it

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run this in a thread. What is cancelled before it has begun never runs."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._started < min(self._under_way + 1, self.count):
            self._start()
        self._under_way += 1
        self._queue.put((work, future, loop))
        return future

    @property
    def busy(self) -> bool:
        """Whether what is given now would have to wait."""
        return self._under_way >= self.count

    def close(self) -> None:
        """Each thread ends after what it has begun."""
        for _ in range(self._started):
            self._queue.put(None)

    def _start(self) -> None:
        start(self._serve, stack=self._stack, name=f"{self._name}-{self._started + 1}")
        self._started += 1

    def _serve(self) -> None:
        for work, future, loop in iter(self._queue.get, None):
            settle: Callable[[asyncio.Future[Any], Any], None] = self._answer
            outcome = None
            try:
                if not future.cancelled():
                    outcome = work()
            except BaseException as error:
                outcome, settle = error, self._fail
            try:
                loop.call_soon_threadsafe(settle, future, outcome)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass
            del work, future, outcome  # nothing is kept alive by a thread that waits

    # In the loop.

    def _answer(self, future: asyncio.Future[Any], result: Any) -> None:
        self._under_way -= 1
        if not future.done():
            future.set_result(result)

    def _fail(self, future: asyncio.Future[Any], error: Any) -> None:
        self._under_way -= 1
        if not future.done():
            future.set_exception(error)


def start(work: Callable[[], object], *, stack: int, name: str) -> threading.Thread:
    """A daemon thread with a stack of `stack` bytes that does this."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    with _stack_sizes:
        before = threading.stack_size(stack)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    return thread


_stack_sizes = threading.Lock()
"""The size is set for the whole process: no two threads may set it at once."""
