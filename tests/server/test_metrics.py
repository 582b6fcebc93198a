"""The metrics: what Prometheus reads of a server, and who may."""

import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.clock import ManualClock
from hybrid_compute.runtime import Runtime
from hybrid_compute.server.limits import Turnstile
from hybrid_compute.server.meters import Meters
from hybrid_compute.server.tenants import Tenant, hash_token
from hybrid_compute.tasks import TaskRegistry, task
from tests.server.serving import Served, serving
from tests.server.talking import ask, post, wait_until

CALLS, SECONDS = "hybrid_compute_calls_total", "hybrid_compute_call_seconds"


@task
def double(x: int) -> int:
    return 2 * x


@task
def fail() -> None:
    raise ValueError("no")


def here(*tasks: Any) -> Runtime:
    return Runtime([LocalBackend()], tasks=TaskRegistry(tasks))


def tenant(name: str, **more: Any) -> Tenant:
    """A tenant whose token is its name."""
    return Tenant(name=name, tokens=[hash_token(name)], **more)


def samples(text: bytes) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]


def read(served: Served, **headers: str) -> list[Sample]:
    """What Prometheus sees."""
    answer = ask(served.port, "GET", "/metrics", headers=headers)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return samples(answer.body)


def value(found: list[Sample], name: str, **labels: str) -> float:
    """The one sample with this name and these labels."""
    (sample,) = (each for each in found if each.name == name and each.labels == labels)
    return sample.value


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


@pytest.fixture
def guarded() -> Iterator[Served]:
    tenants = [tenant("acme"), tenant("beta", rate=0.001, burst=1), tenant("root", operator=True)]
    with serving(here(double, fail), tenants=tenants, clock=ManualClock()) as server:
        yield server


def test_calls_are_counted_by_tenant_task_and_outcome(guarded: Served) -> None:
    """Each call that ended is in one counter: `ok`, or the code of its error."""
    for name, call in [
        ("acme", {"task": "double", "input": 1}),
        ("acme", {"task": "double", "input": 2}),
        ("acme", {"task": "double", "input": "two"}),
        ("acme", {"task": "fail"}),
        ("beta", {"task": "fail"}),
    ]:
        post(guarded.port, call, **bearer(name))
    found = read(guarded, **bearer("root"))
    counted = {
        tuple(each.labels[name] for name in ("tenant", "task", "outcome")): each.value
        for each in found
        if each.name == CALLS
    }
    assert counted == {
        ("acme", "double", "ok"): 2,
        ("acme", "double", "invalid_input"): 1,
        ("acme", "fail", "task_failed"): 1,
        ("beta", "fail", "task_failed"): 1,
    }
    assert value(found, f"{SECONDS}_count", tenant="acme", task="double") == 3
    assert value(found, f"{SECONDS}_bucket", tenant="acme", task="double", le="+Inf") == 3
    assert value(found, f"{SECONDS}_sum", tenant="acme", task="double") > 0


def test_what_is_refused_is_counted(guarded: Served) -> None:
    """At the door by its code; because of a tenant's share, by tenant. A task that nobody has makes no label."""
    post(guarded.port, {"task": "double", "input": 1})
    post(guarded.port, {"task": "double", "input": 1}, Origin="https://evil.example")
    for _ in range(3):
        post(guarded.port, {"task": "double", "input": 1}, **bearer("beta"))
    for number in range(5):
        post(guarded.port, {"task": f"guess{number}"}, **bearer("acme"))
    found = read(guarded, **bearer("root"))
    assert value(found, "hybrid_compute_refused_total", code="unauthorized") == 1
    assert value(found, "hybrid_compute_refused_total", code="forbidden") == 1
    assert value(found, "hybrid_compute_calls_turned_away_total", tenant="beta") == 2
    assert value(found, "hybrid_compute_calls_turned_away_total", tenant="acme") == 0
    assert {each.labels["task"] for each in found if "task" in each.labels} == {"double"}


def test_calls_under_way_are_shown() -> None:
    """While a call runs the gauge of its tenant is up, and down again afterwards."""
    begun, release = threading.Event(), threading.Event()

    @task
    def hold() -> None:
        begun.set()
        release.wait(20)

    def under_way() -> float:
        return value(read(served), "hybrid_compute_calls_under_way", tenant="everybody")

    with serving(here(hold)) as served:
        assert under_way() == 0
        caller = threading.Thread(target=post, args=(served.port, {"task": "hold"}))
        caller.start()
        assert begun.wait(20)
        assert under_way() == 1
        release.set()
        caller.join(20)
        wait_until(lambda: under_way() == 0)


def test_only_operators_see_metrics(guarded: Served) -> None:
    """They tell of all tenants, so one of them is told nothing; where there are no tokens, everybody is one."""
    assert ask(guarded.port, "GET", "/metrics").failure() == (401, "unauthorized")
    assert ask(guarded.port, "GET", "/metrics", headers=bearer("acme")).failure() == (403, "forbidden")
    assert read(guarded, **bearer("root"))
    with serving(here(double)) as open_:
        assert read(open_)


def test_two_apps_in_one_process_count_apart() -> None:
    """Each has a registry of its own."""
    with serving(here(double)) as one, serving(here(double)) as other:
        post(one.port, {"task": "double", "input": 1})
        assert value(read(one), CALLS, tenant="everybody", task="double", outcome="ok") == 1
        assert [each for each in read(other) if each.name == CALLS] == []


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), st.text(st.characters(codec="utf-8"), max_size=20)
)
def test_any_name_is_a_label(tenant: str, name: str) -> None:
    """Quotes, backslashes and newlines in the name of a tenant or task break nothing."""
    meters = Meters()
    meters.meter(tenant, name).count(0.1, None)
    meters.watch(tenant, Turnstile("it", ManualClock(), at_once=None, rate=None, burst=None))
    assert value(samples(meters.text()), CALLS, tenant=tenant, task=name, outcome="ok") == 1


@given(st.lists(st.floats(0, 1_000)))
def test_a_histogram_counts_every_call_once(durations: list[float]) -> None:
    """Each bucket holds the calls up to its bound, and the last one all of them."""
    meters = Meters()
    meter = meters.meter("acme", "double")
    for seconds in durations:
        meter.count(seconds, None)
    found = samples(meters.text())
    buckets = [(float(each.labels["le"]), each.value) for each in found if each.name == f"{SECONDS}_bucket"]
    assert all(count == sum(each <= bound for each in durations) for bound, count in buckets)
    assert all(lower[0] < upper[0] and lower[1] <= upper[1] for lower, upper in pairwise(buckets))
    assert value(found, f"{SECONDS}_count", tenant="acme", task="double") == buckets[-1][1] == len(durations)
    assert value(found, f"{SECONDS}_sum", tenant="acme", task="double") == pytest.approx(sum(durations))
