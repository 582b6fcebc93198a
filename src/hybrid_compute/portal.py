"""An event loop in a thread of its own, for those who have none."""

from __future__ import annotations

import asyncio
import os
import threading
from _thread import allocate_lock
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from hybrid_compute.errors import BackendClosed

T = TypeVar("T")


class Portal:
    """Runs coroutines in its loop's thread on behalf of any other thread."""

    def __init__(self, name: str = "hybrid-compute loop") -> None:
        self.loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._lock = threading.RLock()  # a finaliser may stop the loop, and runs in the middle of anything
        self._closed = False
        self._last: Callable[[], Coroutine[Any, Any, object]] | None = None
        self._thread = threading.Thread(target=self._turn, name=name, daemon=True)
        self._thread.start()

    @property
    def foreign(self) -> bool:
        """Whether this is a forked copy, without the thread."""
        return os.getpid() != self._process

    @property
    def here(self) -> bool:
        """Whether this is the loop's own thread."""
        return threading.current_thread() is self._thread

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine over there and wait for its result; an interrupt here cancels it there."""
        if self.foreign:
            work.close()
            raise BackendClosed("a forked copy of this process cannot use the runtime of the original: make a new one")
        if self.here:
            work.close()
            raise RuntimeError("a blocking call from the runtime's own event loop would wait for itself for ever")
        with self._lock:
            if self._closed:
                work.close()
                raise BackendClosed("this runtime is closed: make a new one")
            waiting = _Waiting(work, self.loop)
            self.post(waiting.begin)
        try:
            return waiting.result()
        except asyncio.CancelledError:
            if not self._closed:
                raise
            raise BackendClosed("the runtime was closed during the call") from None
        finally:
            if not waiting.over:  # an interrupt
                with suppress(RuntimeError):  # the loop is closed
                    self.post(waiting.cancel)
            del waiting, work  # an error of theirs refers to this frame

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Call something over there soon."""
        self.loop.call_soon_threadsafe(callback, *args)

    def stop(self, last: Callable[[], Coroutine[Any, Any, object]] | None = None) -> None:
        """Have the loop stop, once it has run the coroutine that `last` makes. Returns at once."""
        with self._lock:  # what was asked before is there before the end, and nothing comes after
            if not self._closed:
                self._closed, self._last = True, last
                self.post(self.loop.stop)

    def join(self) -> None:
        """Wait until the loop has stopped."""
        self._thread.join()

    def close(self) -> None:
        """Stop the loop, after cancelling what still runs in it."""
        if self.foreign:
            return
        self.stop()
        self.join()

    def _turn(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self._run_for_ever()
            if self._last is not None:
                self.loop.run_until_complete(self._last())
        finally:
            while left := asyncio.all_tasks(self.loop):
                for task in left:
                    task.cancel()
                self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _run_for_ever(self) -> None:
        while True:
            try:
                self.loop.run_forever()
                return
            except (KeyboardInterrupt, SystemExit):  # nobody types one here: it has ended the task that raised it
                continue


class _Waiting(Generic[T]):
    """A thread that waits for a coroutine in another thread's loop.

    A future of `concurrent.futures` would do the same with a condition, which an interrupt in the middle of it may
    leave locked: then the loop waits at it for ever. A bare lock has no middle.
    """

    def __init__(self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self.over = False
        self._task: asyncio.Task[T] | None = None
        self._done = allocate_lock()
        self._done.acquire()

    def begin(self) -> None:
        """In the loop."""
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(lambda _: self._done.release())

    def cancel(self) -> None:
        """In the loop, some time after `begin`."""
        if self._task is not None:
            self._task.add_done_callback(_seen)
            self._task.cancel()

    def result(self) -> T:
        """In the thread."""
        self._done.acquire()
        task, self._task, self.over = self._task, None, True
        assert task is not None
        return task.result()


def _seen(task: asyncio.Task[Any]) -> None:
    """Nobody waits for it any more, so nobody is told that nobody has looked."""
    if not task.cancelled():
        task.exception()
