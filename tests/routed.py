"""Tasks that the tests of the runtime route about."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from hybrid_compute import task


@task
def where() -> int:
    """The process it runs in."""
    return os.getpid()


@task(needs={"process"})
def where_isolated() -> int:
    return os.getpid()


@task(retries=2)
def third_time_lucky(folder: str, x: int) -> int:
    """Fails twice for each `x`, then succeeds."""
    mark = Path(folder) / str(x)
    with mark.open("a") as file:
        file.write("|")
    if len(mark.read_text()) < 3:
        raise ValueError("not yet")
    return x


@task(timeout=0.2, pure=True)
def slow(x: int) -> int:
    time.sleep(0.05)
    return x


@task
def count(upto: int) -> Iterator[int]:
    yield from range(upto)


@task
def double(x: int) -> int:
    return x * 2
