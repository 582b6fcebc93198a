"""A program that waits in ordinary code, to be interrupted: `python -m tests.faults.interrupts HOW PLACE PATH`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid_compute import BlockingRuntime, LocalBackend, WorkerBackend
from tests.faults import tasks
from tests.faults.watching import alive, marks, wait_until


def run_again(rt: BlockingRuntime, path: str) -> None:
    """The second call of a task may go past the event loop, out of the calling thread."""
    rt.run(tasks.mark_pid, path, 0.0)
    rt.run(tasks.mark_pid, path, 3600.0)


def read(rt: BlockingRuntime, path: str) -> None:
    with rt.stream(tasks.mark_pid_and_yield, path) as items:
        list(items)


WAYS: dict[str, Callable[[BlockingRuntime, str], Any]] = {
    "run": lambda rt, path: rt.run(tasks.mark_pid, path, 3600.0),
    "run again": run_again,
    "starmap": lambda rt, path: rt.starmap(tasks.mark_pid, [(path, 3600.0)]),
    "stream": read,
}


def main(how: str, place: str, path: str) -> None:
    with BlockingRuntime([WorkerBackend(1), LocalBackend()], strategy=place) as rt:
        try:
            WAYS[how.removesuffix(", uncaught")](rt, path)
        except KeyboardInterrupt:
            if how.endswith(", uncaught"):
                raise
            sys.stdout.write("interrupted\n")
        if place == "worker":
            wait_until(lambda: not alive(list(marks(Path(path)))[-1:]), "its worker is gone")
        sys.stdout.write(f"{rt.run(tasks.add, 1, 2)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
