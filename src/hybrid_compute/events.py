"""What happens, as values: frozen events, and the list of callables that receive them.

A hook is any callable that takes one event. It runs where the event happens, in the event loop, so it must be
quick. With no hook registered nothing is built and nothing is called: an emitter tests the list first.

    hooks: Hooks = Hooks()
    if hooks:
        hooks.emit(CallStarted(...))
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from hybrid_compute.calls import Call
from hybrid_compute.reporting import tell

_log = logging.getLogger("hybrid_compute")


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call was handed to a backend."""

    call: int
    task: str
    backend: str


@dataclass(frozen=True, slots=True)
class CallFinished:
    """A call ended. `seconds` from submission; `ran` in the task's own code; `error` is None when it went well."""

    call: int
    task: str
    backend: str
    seconds: float
    ran: float | None
    sent: int
    received: int
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class CallPassedOn:
    """A backend failed a call in a way that lets the next backend try."""

    call: int
    task: str
    backend: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class Progress:
    """A running task said how far it is."""

    call: int
    task: str
    done: float
    total: float | None
    note: str


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A backend started a worker process."""

    backend: str
    worker: int


@dataclass(frozen=True, slots=True)
class WorkerStopped:
    """A worker process ended. `exit_code` is negative for a signal, None when unknown; `why` is one line."""

    backend: str
    worker: int
    exit_code: int | None
    why: str


Event: TypeAlias = CallStarted | CallFinished | CallPassedOn | Progress | WorkerStarted | WorkerStopped
Hook: TypeAlias = Callable[[Event], None]


class Hooks(list[Hook]):
    """The hooks of one runtime: an ordinary list, and `emit`."""

    def emit(self, event: Event) -> None:
        """Give `event` to every hook. A hook that raises is logged with its traceback and breaks nothing else."""
        for hook in tuple(self):
            try:
                hook(event)
            except Exception:
                _log.exception("hook %r failed on %r", hook, event)

    def report(self, call: Call, done: float, total: float | None, note: str) -> None:
        """Pass on what a running task says of its progress: to every hook, and to whoever listens to this call."""
        if self:
            self.emit(Progress(call.number, call.task.name, done, total, note))
        if call.listener is not None:
            tell(call.listener, done, total, note)
