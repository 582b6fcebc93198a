"""`progress(done, total, note)`: a running task says how far it is, wherever it runs. `heard_by`: who wants to know.

    with heard_by(show):                whoever asks for a call
        await rt.run(crunch, files)     whose task says progress(3, 10, "third file")  ->  show(3, 10, "third file")

The place that runs tasks installs `reporter`; where nobody listens, saying so costs one test and goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Reporter: TypeAlias = Callable[[float, float | None, str], None]

reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)
"""Who listens in this context: set around a task by the place that runs it."""

listener: ContextVar[Reporter | None] = ContextVar("listener", default=None)
"""Who wants to hear of the calls that are made in this context: each call takes it along."""


Stepper: TypeAlias = Callable[[int], None]

stepper: ContextVar[Stepper | None] = ContextVar("stepper", default=None)
"""Where a call of several parts says which one it begins, counted from 1: that is known even if it never ends."""


def progress(done: float, total: float | None = None, note: str = "") -> None:
    """Report that `done` of `total` units are finished. Reaches the runtime's hooks as a `Progress` event."""
    report = reporter.get()
    if report is not None:
        report(done, total, note)
    elif (hear := listener.get()) is not None:  # the task runs right where it was asked for
        tell(hear, done, total, note)


@contextmanager
def heard_by(hear: Reporter) -> Generator[None]:
    """Calls and streams that are asked for, and awaited, in the block tell `hear(done, total, note)` how far they are.

    It is called in the event loop, in the order of the reports, and never after the block. What a task asks for in
    turn is not heard; nor is `map`, whose calls travel together, nor a `BlockingRuntime`, which has its hooks.
    """
    inside = True

    def hear_inside(done: float, total: float | None, note: str) -> None:
        if inside:  # a thread that was given up may go on reporting
            hear(done, total, note)

    heard, silenced = listener.set(hear_inside), reporter.set(None)
    try:
        yield
    finally:
        inside = False
        reporter.reset(silenced)
        listener.reset(heard)


def asker() -> Reporter | None:
    """Who wants to hear of a call that is made here. Within a task that is nobody: its asker listens to it alone."""
    return listener.get() if reporter.get() is None else None


def tell(hear: Reporter, done: float, total: float | None, note: str) -> None:
    """Let a listener hear. One that raises is logged with its traceback and breaks nothing else."""
    try:
        hear(done, total, note)
    except Exception:
        import logging  # here, because every worker has this module

        logging.getLogger("hybrid_compute").exception("listener %r failed on (%r, %r, %r)", hear, done, total, note)
