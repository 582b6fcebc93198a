"""What the tests of this folder look at: processes, descriptors, and marks that tasks leave behind.

Nothing here waits for a fixed time. `until` waits for a condition, and says which one never came.
"""

import asyncio
import os
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from hybrid_compute.backends.worker import WorkerBackend

PATIENCE = 20.0
"""Seconds after which a condition counts as never met: far more than any needs."""

MARK = struct.Struct("<Q")


class NeverHappened(AssertionError):
    """A condition was waited for in vain."""


async def until(condition: Callable[[], object], what: str = "", seconds: float = PATIENCE) -> None:
    """Let the event loop turn until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise NeverHappened(what or f"{condition}")
        await asyncio.sleep(0.001)


def wait_until(condition: Callable[[], object], what: str = "", seconds: float = PATIENCE) -> None:
    """The same in ordinary code."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise NeverHappened(what or f"{condition}")
        time.sleep(0.001)


def written(path: Path) -> bool:
    """Whether there is something in the file: one is there a moment before what is written to it."""
    return path.exists() and path.stat().st_size > 0


def marks(path: Path) -> Counter[int]:
    """How often each number was left in the file by `tasks.mark`."""
    data = path.read_bytes() if path.exists() else b""
    return Counter(number for (number,) in MARK.iter_unpack(data))


def descriptors(pid: int | str = "self") -> list[str]:
    """What every open descriptor of a process points at."""
    found = []
    for each in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{each}"))
        except FileNotFoundError:  # the one that lists them
            continue
    return sorted(found)


def memfds(pid: int | str = "self") -> int:
    return sum(name.startswith("/memfd:") for name in descriptors(pid))


def descendants(pid: int | None = None) -> list[psutil.Process]:
    """All processes below `pid`, which is this one by default, but for the tracker that `multiprocessing` keeps."""
    return [each for each in psutil.Process(pid).children(recursive=True) if not _is_tracker(each)]


def _is_tracker(process: psutil.Process) -> bool:
    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def zombies() -> list[psutil.Process]:
    found = []
    for each in descendants():
        try:
            if each.status() == psutil.STATUS_ZOMBIE:
                found.append(each)
        except psutil.NoSuchProcess:
            continue
    return found


def alive(pids: Iterable[int]) -> list[int]:
    """Those of `pids` that still run; a zombie does not."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found.append(pid)
    return found


def kill(pid: int) -> bool:
    """SIGKILL, if it still runs."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def workers_alive(backend: WorkerBackend) -> list[int]:
    return alive(backend.pids)
