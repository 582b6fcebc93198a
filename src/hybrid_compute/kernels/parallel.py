"""Parts of a range, side by side in several threads."""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from hybrid_compute.calls import abandoned

PIECES = 32
"""Into so many a range is split, however many threads there are: so the pieces are always the same."""

_lock = threading.Lock()
_threads: ThreadPoolExecutor | None = None


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
    results: list[Any] = [None] * len(parts)
    errors: list[tuple[int, BaseException]] = []
    todo = deque(enumerate(parts))

    def work() -> None:
        while todo and not errors:
            try:
                index, part = todo.popleft()
            except IndexError:
                return
            try:
                results[index] = run(part)
            except BaseException as error:
                errors.append((index, error))

    given_up = threading.Event()
    asked = abandoned.get()
    others: list[Future[None]] = []
    for _ in range(threads - 1):
        context = contextvars.copy_context()
        context.run(abandoned.set, lambda: given_up.is_set() or (asked is not None and asked()))
        others.append(_pool().submit(context.run, work))
    work()
    if any(not isinstance(error, Exception) for _, error in errors):
        given_up.set()
    todo.clear()
    _until_done(others, given_up)
    if errors:
        raise min(errors, key=lambda each: (isinstance(each[1], Exception), each[0]))[1]
    return results


def _until_done(others: list[Future[None]], given_up: threading.Event) -> None:
    """Who has not begun never needs to; the others use the arrays, so they have to end first, whatever happens."""
    running = [each for each in others if not each.cancel()]
    signalled: BaseException | None = None
    while not all(each.done() for each in running):
        try:
            wait(running)
        except BaseException as error:
            given_up.set()
            signalled = error
    if signalled is not None:
        raise signalled


def _pool() -> ThreadPoolExecutor:
    global _threads  # noqa: PLW0603  # one process has so many processors
    with _lock:
        if _threads is None:
            _threads = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "hybrid-compute-kernel")
        return _threads


def after_fork() -> None:
    """A child has none of the threads."""
    global _threads, _lock
    _threads, _lock = None, threading.Lock()
