"""What a device takes, and how much of it in one go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.gpu.work import Work

DISPATCHES = 1024
"""In one frame. While it is computed the next one is encoded, and finds bound what was bound for the one before."""


def portions(works: Iterable[Work], most: int) -> list[list[Work]]:
    """Works that fit together in a frame of so many bytes; one that does not fit, or shall go alone, has its own."""
    made: list[list[Work]] = []
    size = count = 0
    for work in works:
        nbytes = sum(place.nbytes for place in work.places) if work.suspects is None else most
        dispatches = sum(step.count for step in work.steps)
        if not made or size + nbytes > most or count + dispatches > DISPATCHES:
            made.append([])
            size = count = 0
        made[-1].append(work)
        size += nbytes
        count += dispatches
    return made


def check_groups(name: str, groups: Sequence[int], most: int) -> None:
    """Raises `InvalidInput` for more workgroups than a device takes."""
    if max(groups) > most:
        raise InvalidInput(
            f"{name} would need {groups} workgroups, and a device takes {most:,} in each direction: use more of "
            f"them, or have each invocation do several elements (with @builtin(num_workgroups))"
        )


def check_size(nbytes: int, most: int) -> None:
    """Raises `LimitExceeded` for an array that cannot be bound."""
    if nbytes > most:
        raise LimitExceeded(
            f"an array of {nbytes:,} bytes is more than the device binds at once, {most:,} "
            f"(max-storage-buffer-binding-size): split it",
            backend="gpu",
        )
