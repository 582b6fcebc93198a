"""What is counted, for Prometheus: calls by tenant, task and outcome, their seconds, and how many are under way.

Counting is a few additions to plain numbers. Only when somebody asks are they put as the library of Prometheus wants
them: its own counters take a lock each, and three of them cost more than a small call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from hybrid_compute.server.limits import Turnstile

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_NAMES = [*map(str, map(float, _BOUNDS)), "+Inf"]


class Meter:
    """The numbers of one task for one tenant."""

    def __init__(self, tenant: str, task: str) -> None:
        self.labels = (tenant, task)
        self.outcomes: Counter[str] = Counter()
        self.seconds = 0.0
        self._within = [0] * len(_NAMES)

    def count(self, seconds: float, code: str | None) -> None:
        """Enter a call that has ended; `code` is that of its error, None if it went well."""
        self.seconds += seconds
        self._within[bisect_left(_BOUNDS, seconds)] += 1
        self.outcomes[code or "ok"] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """How many calls took up to each bound, those of the lower ones included."""
        return list(zip(_NAMES, map(float, accumulate(self._within)), strict=True))


class Meters(Collector):
    """The metrics of one app, in a registry of their own: two apps in one process do not meet."""

    def __init__(self) -> None:
        self._meters: list[Meter] = []
        self._turnstiles: dict[str, Turnstile] = {}
        self._refused: Counter[str] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def meter(self, tenant: str, task: str) -> Meter:
        """Where the calls of a task by a tenant are counted."""
        self._meters.append(Meter(tenant, task))
        return self._meters[-1]

    def watch(self, tenant: str, turnstile: Turnstile) -> None:
        """Tell how many calls of a tenant are under way."""
        self._turnstiles[tenant] = turnstile

    def refused(self, code: str) -> None:
        self._refused[code] += 1

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "hybrid_compute_calls",
            "Calls that ended, by outcome: ok, or the code of the error.",
            labels=["tenant", "task", "outcome"],
        )
        seconds = HistogramMetricFamily(
            "hybrid_compute_call_seconds",
            "Seconds from the arrival of a call to its answer.",
            labels=["tenant", "task"],
        )
        for meter in self._meters:
            seconds.add_metric(meter.labels, meter.buckets(), meter.seconds)
            for outcome, count in sorted(meter.outcomes.items()):
                calls.add_metric((*meter.labels, outcome), count)
        yield calls
        yield seconds
        refused = CounterMetricFamily(
            "hybrid_compute_refused", "Requests turned away at the door, by code.", labels=["code"]
        )
        for code, count in sorted(self._refused.items()):
            refused.add_metric((code,), count)
        yield refused
        under_way = GaugeMetricFamily("hybrid_compute_calls_under_way", "Calls not yet answered.", labels=["tenant"])
        turned_away = CounterMetricFamily(
            "hybrid_compute_calls_turned_away", "Calls refused because a tenant had its share.", labels=["tenant"]
        )
        for tenant, turnstile in self._turnstiles.items():
            under_way.add_metric((tenant,), turnstile.inside)
            turned_away.add_metric((tenant,), turnstile.turned_away)
        yield under_way
        yield turned_away

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is known before there are calls
