"""Parts of a range, side by side in several threads.

A signal may be handled between any two steps of the main thread, and its handler may raise. All the same nobody works
on arrays when their call has ended. So it waits for the others by steps that can be repeated, each of which is one
operation of C: a thread pool of the standard library may be left in the middle of one, with its locks held.
"""

from __future__ import annotations

import _thread
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any

from hybrid_compute.calls import abandoned
from hybrid_compute.wasm.shield import shielded

PIECES = 32
"""Into so many a range is split, however many threads there are: so the pieces are always the same."""

_MOST = max(1, (os.cpu_count() or 1) - 1)
_jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
_started = 0
"""So many threads take jobs."""
_starting = threading.Lock()
"""Who starts one has it, and so counts alone. No signal interrupts who has it: that is never the main thread."""


def parts(span: range) -> Iterator[range]:
    """The pieces of a range that goes one by one."""
    size = max(1, -(-len(span) // PIECES))
    for start in range(span.start, span.stop, size):
        yield range(start, min(start + size, span.stop))


def side_by_side(run: Callable[[range], Any], parts: list[range], threads: int) -> list[Any]:
    """What `run` gives for each part; this thread is one of those that work.

    If a part fails, those that have not begun are left out, and the first error is raised. When a signal ends this
    thread's part, such as that of Ctrl-C, the others are stopped too.
    """
    call = _Call(run, parts, threads - 1)
    try:
        call.ask_for_help()
        call.work()
    except BaseException:
        call.given_up = True
        raise
    finally:
        call.end()
    if call.errors:
        raise min(call.errors, key=lambda each: (isinstance(each[1], Exception), each[0]))[1]
    return call.results


class _Call:
    """Parts that are being worked on, by the thread whose call it is and by helpers."""

    given_up = False

    def __init__(self, run: Callable[[range], Any], parts: list[range], helpers: int) -> None:
        self.results: list[Any] = [None] * len(parts)
        self.errors: list[tuple[int, BaseException]] = []
        self._run = run
        self._todo = deque(enumerate(parts))
        self._helpers = range(helpers)
        self._nobody = threading.Lock()
        self._seats: dict[int, threading.Lock] = {}
        """Who has each helper's place: its lock is held as long as that one works. The first who comes gets it."""

    def ask_for_help(self) -> None:
        asked = abandoned.get()
        for number in self._helpers:
            context = contextvars.copy_context()
            context.run(abandoned.set, lambda: self.given_up or (asked is not None and asked()))
            _put(partial(context.run, partial(self._help, number)))

    def work(self) -> None:
        while self._todo and not self.errors:
            try:
                index, part = self._todo.popleft()
            except IndexError:
                return
            try:
                self.results[index] = self._run(part)
            except BaseException as error:
                self.errors.append((index, error))
                if not isinstance(error, Exception):
                    raise

    def _help(self, number: int) -> None:
        busy = threading.Lock()
        with busy:
            if self._seats.setdefault(number, busy) is busy:
                self.work()

    @shielded
    def end(self) -> None:
        """Who has not begun never will; the others use the arrays, so they have to end first, whatever happens."""
        try:
            self._todo.clear()
            for number in self._helpers:
                with self._seats.setdefault(number, self._nobody):
                    pass
        except BaseException:
            self.given_up = True
            self.end()
            raise


def _put(job: Callable[[], None]) -> None:
    """Have a thread do it, when one is free. Nobody does where the system has no threads: the next job asks again."""
    if _started < _MOST:
        # A thread's own `start` waits until it runs, which a signal may end halfway: another thread does that.
        with suppress(_thread.error):
            _thread.start_new_thread(_start, (job,))
            return
    if _started:
        _jobs.put(job)


def _start(job: Callable[[], None]) -> None:
    """Have one thread more, if it can be had, and then put the job where threads find it."""
    global _started  # noqa: PLW0603  # one process has so many processors
    with _starting:
        if _started < _MOST:
            thread = threading.Thread(target=_serve, args=(_jobs,), name="hybrid-compute-kernel", daemon=True)
            with suppress(_thread.error):
                thread.start()
                _started += 1
    if _started:
        _jobs.put(job)


def _serve(jobs: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        with suppress(BaseException):  # whose call it is knows of it
            jobs.get()()


def after_fork() -> None:
    """A child has none of the threads."""
    global _started, _jobs, _starting
    _started, _jobs, _starting = 0, SimpleQueue(), threading.Lock()
