"""Policies: hard rules that forbid places. A plain function answers with the reason, or None to allow.

Policies are asked after the strategy, for each place it named, and nothing overrides them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from hybrid_compute.backends.base import Backend
from hybrid_compute.errors import BackendError, WorkerLost
from hybrid_compute.tasks import AnyTask

Policy: TypeAlias = Callable[[AnyTask, Backend], str | None]


def private_stays_here(task: AnyTask, backend: Backend, /) -> str | None:
    """A private task never leaves this machine. Always in force."""
    if task.private and not backend.on_this_machine:
        return "the task is private and must not leave this machine"
    return None


def allow_only(*names: str) -> Policy:
    """Only the named tasks may run at all."""

    def allowed(task: AnyTask, backend: Backend, /) -> str | None:
        return None if task.name in names else f"task {task.name!r} is not on the list of allowed tasks"

    return allowed


def forbidden(task: AnyTask, backend: Backend, policies: Iterable[Policy]) -> str | None:
    """The first reason why the place is not allowed, or None."""
    for policy in policies:
        reason = policy(task, backend)
        if reason is not None:
            return reason
    return None


def unable(task: AnyTask, backend: Backend) -> str | None:
    """Why the place could not run the task, or None."""
    missing = task.needs - backend.provides
    if missing:
        return f"it does not provide {', '.join(sorted(missing))}"
    return None if backend.can_run(task) else backend.why_not(task)


def may_pass_on(error: BackendError, task: AnyTask, following: Sequence[Backend]) -> bool:
    """Whether a call that failed with `error` may be tried at the next place.

    Three cases. It never began: yes. It may have begun and is not pure: no, it must not run twice. It is pure but took
    its worker down with it: only where a crash cannot take this process down as well.
    """
    if not following:
        return False
    if not error.started:
        return True
    if not task.pure:
        return False
    return not isinstance(error, WorkerLost) or following[0].isolates or not following[0].on_this_machine
