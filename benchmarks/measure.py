"""From repeated calls to a few numbers. Nothing here knows what it measures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["us", "ms", "kB", "MB", "calls/s", "items/s"]

NANOSECONDS = {"us": 1e3, "ms": 1e6}
ENOUGH_FOR_P95, ENOUGH_FOR_P99 = 20, 100

now = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look at each thing: for `calls` calls or `seconds`, but at least for `least` calls."""

    name: str
    rounds: int
    calls: int
    seconds: float
    least: int

    @property
    def warm_up(self) -> Effort:
        return Effort("warm-up", 1, max(self.calls // 10, 1), self.seconds / 5, 1)


EFFORTS = {
    effort.name: effort
    for effort in (
        Effort("full", rounds=3, calls=3000, seconds=0.4, least=2),
        Effort("quick", rounds=1, calls=1000, seconds=0.08, least=1),
        Effort("once", rounds=1, calls=1, seconds=0.05, least=1),  # does it still run?
    )
}


@dataclass(frozen=True, slots=True)
class Series:
    """What a set of samples comes to. A percentile that too few samples carry is None."""

    unit: Unit
    p50: float
    p95: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, samples: Iterable[float], unit: Unit) -> Series:
        """Times and sizes: the higher percentiles are the bad ones."""
        ordered = sorted(samples)
        count = len(ordered)
        return cls(
            unit,
            statistics.median(ordered),
            ordered[int(count * 0.95)] if count >= ENOUGH_FOR_P95 else None,
            ordered[int(count * 0.99)] if count >= ENOUGH_FOR_P99 else None,
        )

    @property
    def higher_is_better(self) -> bool:
        return self.unit.endswith("/s")


Figures: TypeAlias = dict[str, Series]
"""What a contender found out: a series for each measure."""


def median_of(rounds: Sequence[Series]) -> Series:
    """The median of each percentile over the rounds."""
    p95 = [series.p95 for series in rounds if series.p95 is not None]
    p99 = [series.p99 for series in rounds if series.p99 is not None]
    return Series(
        rounds[0].unit,
        statistics.median(series.p50 for series in rounds),
        statistics.median(p95) if p95 else None,
        statistics.median(p99) if p99 else None,
    )


def time_calls(
    call: Callable[[], object], effort: Effort, *, unit: Unit = "us", per: int = 1, warm: bool = False
) -> Series:
    """How long one `call()` takes, divided by `per`, after a warm-up unless it is `warm` already."""
    if not warm:
        _clock(call, effort.warm_up)
    return _series(_clock(call, effort), unit, per)


async def time_awaits(
    call: Callable[[], Awaitable[object]], effort: Effort, *, unit: Unit = "us", per: int = 1
) -> Series:
    """The same for `await call()`."""
    await _clock_awaits(call, effort.warm_up)
    return _series(await _clock_awaits(call, effort), unit, per)


def call_rate(burst: Callable[[int], object], calls: int, effort: Effort) -> Series:
    """How many calls a second go through when `burst(calls)` makes that many."""
    burst(calls // 10)
    return _rate(_clock(lambda: burst(calls), effort), calls)


async def await_rate(burst: Callable[[int], Awaitable[object]], calls: int, effort: Effort) -> Series:
    """The same for `await burst(calls)`."""
    await burst(calls // 10)
    return _rate(await _clock_awaits(lambda: burst(calls), effort), calls)


# The two loops below are the ones whose own cost is in every sample: keep them this short, and alike.


def _clock(call: Callable[[], object], effort: Effort) -> list[int]:
    samples: list[int] = []
    deadline = now() + int(effort.seconds * 1e9)
    while len(samples) < effort.calls:
        start = now()
        call()
        end = now()
        samples.append(end - start)
        if end > deadline and len(samples) >= effort.least:
            break
    return samples


async def _clock_awaits(call: Callable[[], Awaitable[object]], effort: Effort) -> list[int]:
    samples: list[int] = []
    deadline = now() + int(effort.seconds * 1e9)
    while len(samples) < effort.calls:
        start = now()
        await call()
        end = now()
        samples.append(end - start)
        if end > deadline and len(samples) >= effort.least:
            break
    return samples


def _series(samples: Iterable[int], unit: Unit, per: int) -> Series:
    return Series.of((sample / NANOSECONDS[unit] / per for sample in samples), unit)


def _rate(samples: Iterable[int], calls: int) -> Series:
    return Series("calls/s", statistics.median(calls * 1e9 / sample for sample in samples))
