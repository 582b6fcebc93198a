"""Where a call may go: the decision, what it is remembered as, and how it reads.

Everything here is plain: facts in, a `Route` out. Whoever carries it out is in `runtime.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendError, HybridComputeError, TaskFailed
from hybrid_compute.policy import Policy, forbidden, unable
from hybrid_compute.strategies import Strategy
from hybrid_compute.tasks import AnyTask
from hybrid_compute.timings import Choice, Tally, TaskTimings

Recover: TypeAlias = Callable[[Call, HybridComputeError], Coroutine[Any, Any, Any]]
"""How a call goes on after its first place has failed."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call may go: the places in order, and for all others the reason why not."""

    order: tuple[Backend, ...]
    refusals: Mapping[str, str]
    forbidden: bool = False  # a policy, not ability, is what stood in the way

    @property
    def error(self) -> str:
        return ", ".join(f"{name} ({reason})" for name, reason in self.refusals.items())


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a call would run, and why. Prints as a short text."""

    task: str
    place: str | None
    because: str
    order: tuple[str, ...]
    refusals: Mapping[str, str]
    learned: Choice
    measured: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        where = f"runs at {self.place}" if self.place else "runs nowhere"
        lines = [f"{self.task}: {where}", f"  because {self.because}"]
        if len(self.order) > 1:
            lines.append(f"  then, if that fails: {', '.join(self.order[1:])}")
        lines += [f"  not {name}: {reason}" for name, reason in self.refusals.items()]
        lines += [f"  measured at {place}: {text}" for place, text in self.measured.items()]
        return "\n".join(lines)


def route(task: AnyTask, backends: Sequence[Backend], strategy: Strategy, policies: Iterable[Policy]) -> Route:
    """Decide where a task may run. Asks each place in the strategy's order: is it allowed, is it able?"""
    order: list[Backend] = []
    refusals: dict[str, str] = {}
    able_but_forbidden = False
    for backend in strategy(task, backends):
        reason = unable(task, backend)
        if reason is None:
            reason = forbidden(task, backend, policies)
            able_but_forbidden = able_but_forbidden or reason is not None
        if reason is None:
            order.append(backend)
        else:
            refusals[backend.name] = reason
    return Route(tuple(order), refusals, able_but_forbidden)


def because(task: AnyTask, strategy: str | Strategy, decided: Route, learned: Choice) -> str:
    """Why a call goes where it goes, in words that follow "because"."""
    if not decided.order:
        return _why_nowhere(decided)
    if learned != "default":
        return _LEARNED[learned]
    name = strategy if isinstance(strategy, str) else getattr(strategy, "__name__", type(strategy).__name__)
    if isinstance(strategy, str) and strategy not in _ORDERS:
        return f"strategy {name!r} allows no other place"
    if len(decided.order) == 1 and not decided.refusals:
        return "there is no other place"
    order = _ORDERS.get(name, f"in the order of strategy {name!r}")
    hint = f" for cost={task.cost!r}" if name == "auto" and task.cost is not None else ""
    others = ", of those that do not refuse" if decided.refusals else ""
    return f"it is the first {order}{hint}{others}"


_LEARNED: Mapping[Choice, str] = {
    "inline": "it is measured far below the cost of leaving the process",
    "local": "its arguments cost more to move than they gain elsewhere",
}
_ORDERS = {
    "auto": "in the usual order",
    "in_order": "in the order that the runtime was given",
    "round_robin": "in this turn",
    "fastest": "in the order of measured times",
}


def _why_nowhere(decided: Route) -> str:
    if decided.forbidden:
        return "a policy forbids every place that could run it"
    return "no place can run it" if decided.refusals else "the strategy named no place"


@dataclass(slots=True)
class Lane:
    """What one set of options remembers of one task, so that a call need not decide what cannot have changed."""

    timings: TaskTimings
    learns: bool
    route: Route | None
    first: Backend | None
    tally: Tally
    direct: LocalBackend | WorkerBackend | None = None  # a place that a waiting thread may use by itself
    workers: WorkerBackend | None = None  # the first place, if calls may be given to it without further ado
    recover: Recover | None = None  # what to do when the first place fails, if there is anything to do

    def count(self, call: Call) -> None:
        """Enter a call that the first place has answered."""
        tally = self.tally
        tally.calls += 1
        tally.sent += call.sent
        tally.received += call.received


def may_retry(error: HybridComputeError, task: AnyTask) -> bool:
    """Whether `retries` apply: the task's code raised, or its place failed in a way that lets it run again."""
    if isinstance(error, BackendError):
        return not error.started or task.pure
    return isinstance(error, TaskFailed)
