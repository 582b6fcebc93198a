"""What the servers of the soak are asked to do. Each call leaves its mark when it begins."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from hybrid_compute.tasks import TaskRegistry, task


def leave_mark(path: str, id: int) -> None:
    """One line more in the file. Many processes write there: a short line is written as a whole, or not at all."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, b"%d\n" % id)
    finally:
        os.close(file)


@task(cost="cpu")
def work(path: str, id: int, seconds: float) -> int:
    """In a worker, for a while."""
    leave_mark(path, id)
    time.sleep(seconds)
    return id


@task(cost="trivial")
def note(path: str, id: int) -> int:
    """In the server's own process, at once."""
    leave_mark(path, id)
    return id


@task(cost="cpu")
def tell(path: str, id: int, items: int) -> Iterator[int]:
    """In a worker, item by item."""
    leave_mark(path, id)
    yield from range(items)


TASKS = TaskRegistry([work, note, tell])
