"""What lies between steps may share memory, where no step needs two of it at the same time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from hybrid_compute.gpu.work import Kept, Place, Scratch, Step


@dataclass(frozen=True, slots=True)
class Life:
    """From which step to which an array is needed, both included, and its bytes."""

    first: int
    last: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Sharing:
    """Pieces of memory, and in which of them each array lies."""

    sizes: Sequence[int]
    piece: Sequence[int]

    @classmethod
    def of(cls, lives: Sequence[Life]) -> Sharing:
        """Each array gets the free piece that must grow the least for it, and of those the smallest."""
        sizes, ends, piece = list[int](), list[int](), [0] * len(lives)
        for number, life in sorted(enumerate(lives), key=lambda each: each[1].first):
            free = [at for at, end in enumerate(ends) if end < life.first]
            if free:
                at = min(free, key=lambda at: (max(0, life.nbytes - sizes[at]), sizes[at]))
            else:
                at = len(sizes)
                sizes.append(0)
                ends.append(0)
            sizes[at], ends[at], piece[number] = max(sizes[at], life.nbytes), life.last, at
        return cls(sizes, piece)


@dataclass(frozen=True, slots=True)
class Between:
    """What lies between the steps of a recording: it does not come out, or it is read before it does.

    All else that comes out lies in one buffer, which no step may both read and write.
    """

    places: Sequence[Place]
    sharing: Sharing
    fresh: Sequence[Sequence[Kept]]
    """For each step, what begins just before it: as zeros, or as what the host has."""

    @classmethod
    def of(cls, steps: Sequence[Step], places: Iterable[Place], come_out: Collection[int], *, stay: bool) -> Between:
        """`come_out` has the ids of the places that do; with `stay`, in buffers of their own."""
        first, last, read = _use(steps)
        passing = set() if stay else read & set(come_out)
        found = [each for each in places if _is_made(each) and (id(each) not in come_out or id(each) in passing)]
        lives = [
            Life(first.get(id(each), 0), len(steps) if id(each) in passing else last.get(id(each), 0), each.nbytes)
            for each in found
        ]
        fresh: list[list[Kept]] = [[] for _ in steps]
        for place in found:
            if isinstance(place, Kept) and not place.written and id(place) in first:
                fresh[first[id(place)]].append(place)
        return cls(found, Sharing.of(lives), fresh)


def _is_made(place: Place) -> bool:
    return isinstance(place, Scratch | Kept)


def _use(steps: Sequence[Step]) -> tuple[dict[int, int], dict[int, int], set[int]]:
    """The first step and the last that each place is bound in, and the places that are read."""
    first, last, read = dict[int, int](), dict[int, int](), set[int]()
    for number, step in enumerate(steps):
        for place, (_, access) in zip(step.places, step.kernel.bindings, strict=True):
            first.setdefault(id(place), number)
            last[id(place)] = number
            if access == "read":
                read.add(id(place))
    return first, last, read
