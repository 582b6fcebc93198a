"""A work once more, on places of its own: somebody may still be at those that it had."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from hybrid_compute.gpu.work import Fetch, Place, Shared, Step, Work

PlaceT = TypeVar("PlaceT", bound=Place)


def once_more(work: Work) -> Work:
    """The same work, for the same reply."""
    copies = _Copies()
    again = Work(
        [copies.of_step(step) for step in work.steps],
        [copies.of(place) for place in work.places],
        [copies.of(place) for place in work.results],
        work.reply,
    )
    again.suspects, again.split = work.suspects, work.split
    return again


class _Copies:
    """Of places: there is one of each."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def of(self, place: PlaceT) -> PlaceT:
        if id(place) not in self._made:
            self._made[id(place)] = made = copy.copy(place)
            if isinstance(made, Shared):
                made.scratch = self.of(made.scratch)
            elif isinstance(made, Fetch):
                made.source = self.of(made.source)
        found: PlaceT = self._made[id(place)]
        return found

    def of_step(self, step: Step) -> Step:
        made = copy.copy(step)
        made.places = [self.of(place) for place in step.places]
        made.fresh = [(self.of(place), None if source is None else self.of(source)) for place, source in step.fresh]
        return made
