"""Programs that the tests start, to kill or to interrupt them: `python -m tests.faults.programs NAME PATH`."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from hybrid_compute import Runtime, WorkerBackend
from hybrid_compute.tasks import AnyTask
from tests.faults import tasks


async def keep_workers_at(task: AnyTask, path: str, *, portable: bool = False) -> None:
    """Two workers at it, until somebody puts an end to this program."""
    async with Runtime([pool := WorkerBackend(2, portable=portable)], strategy="worker") as rt:
        await pool.warm_up()
        await asyncio.gather(*(rt.run(task, path, number) for number in (1, 2)))


async def keep_workers_at_with_signals_blocked(path: str, *, portable: bool = False) -> None:
    """A program that takes its signals in one thread blocks them in all others, and children inherit that."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGTERM})
    await keep_workers_at(tasks.mark_and_wait, path, portable=portable)


async def keep_workers_idle(path: str) -> None:
    async with Runtime([pool := WorkerBackend(2)], strategy="worker"):
        await pool.warm_up()
        tasks.mark(path, 1)
        tasks.mark(path, 2)
        await asyncio.get_running_loop().create_future()


PROGRAMS: dict[str, Callable[[str], Coroutine[Any, Any, None]]] = {
    "idle": keep_workers_idle,
    "asleep": lambda path: keep_workers_at(tasks.mark_and_wait, path),
    "busy in C": lambda path: keep_workers_at(tasks.busy_in_c, path),
    "in a coroutine": lambda path: keep_workers_at(tasks.wait_for_ever, path),
    "signals blocked": keep_workers_at_with_signals_blocked,
    "nested": lambda path: keep_workers_at(tasks.run_nested, path),
    "portable, asleep": lambda path: keep_workers_at(tasks.mark_and_wait, path, portable=True),
    "portable, busy in C": lambda path: keep_workers_at(tasks.busy_in_c, path, portable=True),
    "portable, signals blocked": lambda path: keep_workers_at_with_signals_blocked(path, portable=True),
}

if __name__ == "__main__":
    asyncio.run(PROGRAMS[sys.argv[1]](sys.argv[2]))
