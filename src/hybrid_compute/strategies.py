"""Strategies: plain functions from a task and the places there are to an order of places to try.

A strategy only orders. Whether a place is allowed, and able, is checked afterwards for each (`policy.py`), so no
strategy can send a private task away.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
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
