"""Strategies: plain functions from a task and the places there are to an order of places to try.

A strategy only orders. Whether a place is allowed, and able, is checked afterwards for each (`policy.py`), so no
strategy can send a private task away.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hybrid_compute.backends.base import Backend
from hybrid_compute.tasks import AnyTask
from hybrid_compute.timings import Timings

Strategy: TypeAlias = Callable[[AnyTask, Sequence[Backend]], Sequence[Backend]]

CHANGING = frozenset({"round_robin", "fastest"})
"""Names of strategies that may order the same places differently for each call."""


def auto(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
    """Workers, then other places on this machine, then this process, then remote ones; hints change the order.

    A `trivial` or `io` task starts in this process: the event loop and its threads wait as well as any worker.
    """
    if task.cost in ("trivial", "io"):
        return sorted(backends, key=lambda backend: (backend.rank != 2, backend.rank))
    return sorted(backends, key=lambda backend: backend.rank)


def unlearned(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
    """The order of `auto`, whatever has been measured: for who lets strangers choose the arguments.

    A server uses it. What was quick a thousand times may take hours for an argument that was made for it.
    """
    return auto(task, backends)


def in_order(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
    """The places in the order in which the runtime was given them."""
    return backends


def prefer(*names: str) -> Strategy:
    """The named places first, in that order, then the others by `auto`. A place that is not there is passed over."""

    def preferred(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
        present = [name for name in names if any(backend.name == name for backend in backends)]
        first = _named(present or names, backends)
        return [*first, *(backend for backend in auto(task, backends) if backend not in first)]

    return preferred


def only(*names: str) -> Strategy:
    """The named places, in that order, and no others."""

    def allowed(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
        return _named(names, backends)

    return allowed


def round_robin(*names: str) -> Strategy:
    """The named places (all, if none is named) in turn, each call starting one further.

    To `explain` is to ask, and takes a turn too.
    """
    turn = itertools.count()

    def rotated(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
        places = _named(names, backends) if names else list(backends)
        start = next(turn) % max(1, len(places))
        return [*places[start:], *places[:start]]

    return rotated


def fastest(timings: Timings) -> Strategy:
    """The place with the shortest measured total first; places not yet measured come before all, so that they are."""

    def by_time(task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
        known = timings[task]
        return sorted(auto(task, backends), key=lambda backend: known.mean(backend.name) or 0.0)

    return by_time


@dataclass(frozen=True, slots=True)
class Side:
    """How one side of a split has done. The mean of `seconds` is one in which recent calls count more."""

    calls: int
    failed: int
    seconds: float | None


class Split:
    """Two places between which calls are divided by a key: see `split`."""

    def __init__(self, a: str, b: str, share: float, by: Callable[[], object]) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"the share of {b!r} is a number from 0 to 1, not {share!r}")
        self._sides = (a, b)
        self._share = share
        self._by = by

    def __call__(self, task: AnyTask, backends: Sequence[Backend], /) -> Sequence[Backend]:
        a, b = _named(self._sides, backends)
        return [b, a] if self.side_of(self._by()) == b.name else [a, b]

    def side_of(self, key: object) -> str:
        """The place that calls with this key go to: the same today and tomorrow, in this program and in another."""
        import hashlib  # here, because only who splits needs it

        a, b = self._sides
        digest = hashlib.sha256(f"{a}\0{b}\0{key}".encode()).digest()
        return b if int.from_bytes(digest[:8], "big") < self._share * 2**64 else a

    def report(self, timings: Timings) -> dict[str, Side]:
        """How both sides have done, from what a runtime has measured (`rt.timings`)."""
        return {name: _side(name, timings) for name in self._sides}


def split(a: str, b: str, *, share: float = 0.5, by: Callable[[], object]) -> Split:
    """Divides calls between two places by a key, so that what is called for one key always goes to the same.

    `by` gives the key, in the context of the call: mostly `get` of a context variable. `share` of the keys go to `b`.
    Where its own side cannot take a call, the other gets it; `report` counts each call where it ran.

        >>> trial = split("old", "new", share=0.1, by=user.get)
        >>> async with Runtime([old, new], strategy=trial) as rt:
        ...     await rt.run(add, 1, 2)
        ...     print(trial.report(rt.timings))
    """
    return Split(a, b, share, by)


def _side(name: str, timings: Timings) -> Side:
    known = [each for each in timings.tasks.values() if name in each.tallies]
    calls = sum(each.tallies[name].calls for each in known)
    failed = sum(each.tallies[name].failed for each in known)
    measured = [(mean, each.tallies[name].calls) for each in known if (mean := each.mean(name)) is not None]
    count = sum(weight for _, weight in measured)
    return Side(calls, failed, sum(mean * weight for mean, weight in measured) / count if count else None)


def resolve(strategy: str | Strategy, backends: Sequence[Backend], timings: Timings) -> Strategy:
    """The strategy a name stands for. An unknown name is a `ValueError` that lists the known ones."""
    if callable(strategy):
        return strategy
    if strategy == "auto":
        return auto
    if strategy == "in_order":
        return in_order
    if strategy == "round_robin":
        return round_robin()
    if strategy == "fastest":
        return fastest(timings)
    names = [backend.name for backend in backends]
    if strategy in names:
        return only(strategy)
    known = ", ".join([*names, "auto", "in_order", "round_robin", "fastest"])
    raise ValueError(f"there is no strategy or backend named {strategy!r}; known are: {known}")


def _named(names: Sequence[str], backends: Sequence[Backend]) -> list[Backend]:
    by_name = {backend.name: backend for backend in backends}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ValueError(f"there is no backend named {unknown[0]!r}; known are: {', '.join(by_name)}")
    return [by_name[name] for name in names]
