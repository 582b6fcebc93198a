"""What processes hold over time, and whether that grows."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.lazy import psutil
from benchmarks.machine import pss

EVERY = 1.0  # seconds between two looks
SHARE = 0.1  # by which a third may exceed another
SLACK = {"MB": 8.0, "open files": 20.0}  # and by how much besides: caches fill, and buffers come and go


@dataclass(frozen=True, slots=True)
class Growth:
    """What was held in the first third of the time and in the last, medians of both."""

    what: str
    unit: str
    first: float
    last: float

    @property
    def flat(self) -> bool:
        return self.last <= self.first * (1 + SHARE) + SLACK[self.unit]


def growth(what: str, unit: str, samples: Sequence[float]) -> Growth:
    third = max(1, len(samples) // 3)
    return Growth(what, unit, statistics.median(samples[:third]), statistics.median(samples[-third:]))


class Watch:
    """Looks at some processes every second, until it is cancelled."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = processes
        self._seen: dict[tuple[str, str], list[float]] = {
            (name, unit): [] for name in processes for unit in ("MB", "open files")
        }

    async def look(self) -> None:
        while True:
            for name, pid in self._processes.items():
                self._seen[name, "MB"].append(pss(pid))
                self._seen[name, "open files"].append(psutil.Process(pid).num_fds())
            await asyncio.sleep(EVERY)

    def growths(self) -> list[Growth]:
        return [growth(name, unit, samples) for (name, unit), samples in self._seen.items() if samples]
