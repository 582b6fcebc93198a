"""What is counted, for Prometheus: calls by tenant, task and outcome, their seconds, and how many are under way."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from hybrid_compute.server.limits import Turnstile

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
)


class Meters:
    """The metrics of one app, in a registry of their own: two apps in one process do not meet."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._calls = Counter(
            "hybrid_compute_calls",
            "Calls that ended, by outcome: ok, or the code of the error.",
            ["tenant", "task", "outcome"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "hybrid_compute_call_seconds",
            "Seconds from the arrival of a call to its answer.",
            ["tenant", "task"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._refused = Counter(
            "hybrid_compute_refused", "Requests turned away at the door, by code.", ["code"], registry=self._registry
        )
        self._under_way = Gauge(
            "hybrid_compute_calls_under_way", "Calls not yet answered.", ["tenant"], registry=self._registry
        )

    def meter(self, tenant: str, task: str) -> Meter:
        return Meter(self._calls, self._seconds, tenant, task)

    def watch(self, tenant: str, turnstile: Turnstile) -> None:
        """Tell how many calls of a tenant are under way."""
        self._under_way.labels(tenant).set_function(lambda: turnstile.inside)

    def refused(self, code: str) -> None:
        self._refused.labels(code).inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class Meter:
    """The counters of one task for one tenant, kept at hand: to look them up costs more than to count."""

    def __init__(self, calls: Counter, seconds: Histogram, tenant: str, task: str) -> None:
        self._calls = calls
        self._labels = (tenant, task)
        self._ok = calls.labels(tenant, task, "ok").inc
        self._observe = seconds.labels(tenant, task).observe

    def count(self, seconds: float, code: str | None) -> None:
        """Enter a call that has ended; `code` is that of its error, None if it went well."""
        self._observe(seconds)
        if code is None:
            self._ok()
        else:
            self._calls.labels(*self._labels, code).inc()
