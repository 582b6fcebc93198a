"""Who may come in, and how much of it: tokens, origins, hosts, tasks, quotas."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_compute.clock import ManualClock
from hybrid_compute.links.wire import JSON
from hybrid_compute.server import Tenant, hash_token, load_tenants, new_token
from hybrid_compute.server.door import Door, is_loopback
from hybrid_compute.server.limits import Limits, Turnstile
from hybrid_compute.server.refusals import Refused
from hybrid_compute.server.tenants import Keyring
from hybrid_compute.tasks import AnyTask
from tests.server import tasks
from tests.server.serving import Served, serving
from tests.server.talking import Frames, ask, post, result, wait_until

pytestmark = pytest.mark.usefixtures("complaints")

ACME, BEES, OPS, SLOW = (new_token() for _ in range(4))
CLOCK = ManualClock()
ADD = {"task": "add", "input": {"a": 1, "b": 2}}


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    tenants = [
        Tenant(
            name="acme", tokens=[hash_token(ACME)], tasks=frozenset({"add", "wait_at", "echo", "absent"}), at_once=2
        ),
        Tenant(name="bees", tokens=[hash_token(BEES), hash_token("another")], workers=1),
        Tenant(name="ops", tokens=[hash_token(OPS)], operator=True),
        Tenant(name="slow", tokens=[hash_token(SLOW)], rate=2, burst=3),
    ]
    with serving(
        tasks.registry(), tenants=tenants, workers=1, clock=CLOCK, origins=["https://ours.example"]
    ) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Tokens.


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer nobody's"},
        {"Authorization": f"Bearer {hash_token(ACME)}"},
        {"Authorization": f"Basic {ACME}"},
        {"Authorization": ACME},
        {"Authorization": f"Bearer {ACME}x"},
        {"Authorization": f"Bearer {ACME[:-1]}"},
        {"Authorization": f"Bearer {ACME} {ACME}"},
        {"Authorization": "Bearer \udcff\udcfe".encode("utf-8", "surrogateescape").decode("latin-1")},
        {"Authorization": "Bearer " + "x" * 10_000},
    ],
)
@pytest.mark.parametrize("path", ["/compute", "/tasks/add", "/tasks", "/openapi.json", "/metrics", "/events"])
def test_nobody_comes_in_without_a_token(served: Served, path: str, headers: dict[str, str]) -> None:
    """At no address but those that say how the server is."""
    method = "POST" if path in ("/compute", "/tasks/add") else "GET"
    answer = ask(served.port, method, path, b"{}", {"Content-Type": "application/json", **headers})
    assert answer.failure() == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs"])
def test_how_a_server_is_everybody_may_know(served: Served, path: str) -> None:
    """Whoever looks after it has no token."""
    assert ask(served.port, "GET", path).status == 200


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_a_token_opens_the_door(served: Served, kind: str) -> None:
    """However its kind is written."""
    assert result(served.port, "add", {"a": 1, "b": 2}, Authorization=f"{kind} {OPS}") == 3


def test_a_token_in_the_url_is_none(served: Served) -> None:
    """Unless the server allows it: addresses end up in logs."""
    assert ask(served.port, "GET", f"/tasks?access_token={OPS}").failure() == (401, "unauthorized")
    tenant = Tenant(name="page", tokens=[hash_token(OPS)])
    with serving([tasks.add], tenants=[tenant], tokens_in_url=True) as other:
        assert ask(other.port, "GET", f"/tasks?access_token={OPS}").status == 200
        assert ask(other.port, "GET", "/tasks?access_token=").failure() == (401, "unauthorized")
        with Frames(other.port, f"/compute?access_token={OPS}") as frames:
            assert frames.ask(ADD) == {"result": 3}


def test_a_page_gives_its_token_as_a_protocol(served: Served) -> None:
    """It cannot set headers."""
    with Frames(served.port, Sec_WebSocket_Protocol=f"hybrid-compute, bearer.{ACME}") as frames:
        assert frames.welcome[1]["sec-websocket-protocol"] == "hybrid-compute"
        assert frames.ask(ADD) == {"result": 3}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer x"},
        {"Sec_WebSocket_Protocol": "hybrid-compute"},
        {"Sec_WebSocket_Protocol": "bearer."},
    ],
)
def test_a_socket_without_a_token_is_turned_away(served: Served, headers: dict[str, str]) -> None:
    """Before it is one, in JSON."""
    with Frames(served.port, **headers) as frames:
        status, _, body = frames.welcome
        assert status == 401
        assert b'"code":"unauthorized"' in body


def test_how_many_tokens_there_are_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is compared, of a thousand, whether it is known or not."""
    ring = Keyring([Tenant(name=str(number), tokens=[hash_token(f"token {number}")]) for number in range(1_000)])
    compared: list[bool] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one == other)
        return compared[-1]

    monkeypatch.setattr("hmac.compare_digest", compare)
    owner = ring.owner("token 700")
    assert owner is not None
    assert (owner.name, ring.owner("token 1000"), compared) == ("700", None, [True, False])


@pytest.mark.parametrize("task", ["echo", "wait_at"])
@pytest.mark.parametrize("over", ["http", "socket"])
def test_who_has_no_calls_left_has_no_input_read(over: str, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be large. That of others is read once, and counts once, wherever their task runs."""
    read: list[bytes] = []
    bind = type(JSON).bind

    def watched(self: Any, task: AnyTask, data: Any) -> Any:
        read.append(bytes(data))
        return bind(self, task, data)

    monkeypatch.setattr(type(JSON), "bind", watched)
    name = tasks.gate()
    tasks.gates[name].set()
    few = [Tenant(name="few", tokens=[hash_token(SLOW)], rate=1, burst=2)]
    with serving(tasks.registry(), tenants=few, workers=1, clock=ManualClock()) as served:
        with Frames(served.port, **bearer(SLOW)) as frames:
            for count in (1, 2, 3):
                call = {"task": task, "input": name}
                found = post(served.port, call, **bearer(SLOW)).value if over == "http" else frames.ask(call)
                assert found.get("code") == (None if count < 3 else "limit_exceeded")
                assert len(read) == min(count, 2)


@given(st.text(max_size=50) | st.sampled_from([ACME, BEES, ACME.upper(), f" {ACME}", f"{ACME}\0"]))
def test_only_a_token_itself_is_known(token: str) -> None:
    """To the letter."""
    tenant = Tenant(name="acme", tokens=[hash_token(ACME)])
    scope = {"headers": [(b"authorization", f"Bearer {token}".encode("utf-8", "surrogatepass"))], "subprotocols": []}
    door = Door([tenant])
    if token.strip() == ACME:
        assert door.admit(scope) is tenant
    else:
        with pytest.raises(Refused) as caught:
            door.admit(scope)
        assert caught.value.code == "unauthorized"


# Tasks.


def test_a_tenant_sees_only_its_tasks(served: Served) -> None:
    """In the list, in the document, and when it calls."""
    listed = ask(served.port, "GET", "/tasks", headers=bearer(ACME)).value["tasks"]
    assert [each["name"] for each in listed] == ["add", "echo", "wait_at"]
    paths = ask(served.port, "GET", "/openapi.json", headers=bearer(ACME)).value["paths"]
    assert not any("fail" in path for path in paths)
    assert len(ask(served.port, "GET", "/tasks", headers=bearer(OPS)).value["tasks"]) == len(tasks.registry())


def test_the_tasks_of_others_are_not_there(served: Served) -> None:
    """A tenant is told the same of them as of those that nobody has."""
    texts = set()
    for name in ("fail", "nowhere", "absent"):
        answer = post(served.port, {"task": name}, **bearer(ACME))
        assert answer.failure() == (404, "task_not_found")
        texts.add(answer.value["error"].replace(name, "..."))
        with Frames(served.port, **bearer(ACME)) as frames:
            assert frames.ask({"task": name})["code"] == "task_not_found"
            assert frames.ask({"task": name, "stream": True})["code"] == "task_not_found"
            assert frames.ask([{"task": name}])[0]["code"] == "task_not_found"
    assert len(texts) == 1


def test_a_tenant_with_workers_has_its_own(served: Served) -> None:
    """Other processes than all the others."""
    assert result(served.port, "pid", **bearer(BEES)) != result(served.port, "pid", **bearer(OPS))


def test_only_an_operator_sees_the_metrics(served: Served) -> None:
    """Everybody's calls are in them."""
    result(served.port, "add", {"a": 1, "b": 2}, **bearer(ACME))
    assert ask(served.port, "GET", "/metrics", headers=bearer(ACME)).failure() == (403, "forbidden")
    text = ask(served.port, "GET", "/metrics", headers=bearer(OPS)).body
    assert b'hybrid_compute_calls_total{outcome="ok",task="add",tenant="acme"}' in text
    assert b"hybrid_compute_refused_total" in text


# Quotas.


def test_no_more_calls_at_once_than_agreed(served: Served) -> None:
    """The next is told when to come again; other tenants do not notice."""
    name = tasks.gate()
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(result, served.port, "wait_at", name, **bearer(ACME)) for _ in range(2)]
        wait_until(lambda: tasks.came[name] == 2)
        refused = post(served.port, {"task": "wait_at", "input": name}, **bearer(ACME))
        assert refused.failure() == (429, "limit_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        with Frames(served.port, **bearer(ACME)) as frames:
            assert frames.ask({"id": 1, "task": "wait_at", "input": name})["code"] == "limit_exceeded"
        assert result(served.port, "add", {"a": 1, "b": 2}, **bearer(BEES)) == 3
        tasks.gates[name].set()
        assert [each.result() for each in running] == [name, name]
    assert result(served.port, "add", {"a": 1, "b": 2}, **bearer(ACME)) == 3


def test_a_large_batch_goes_through_a_small_quota(served: Served) -> None:
    """Of ten thousand calls, two at a time, none is refused: a batch does not get in its own way."""
    calls = [{"task": "echo", "input": number} for number in range(10_000)]
    assert [each["result"] for each in post(served.port, calls, **bearer(ACME)).value] == list(range(10_000))


def test_what_is_refused_gives_back_its_place(served: Served) -> None:
    """Whatever was wrong with it."""
    for call in (
        {"task": "add"},
        {"task": "add", "input": 1},
        {"task": "no"},
        {**ADD, "timeout": -1},
        {**ADD, "key": ""},
    ):
        for _ in range(5):
            assert post(served.port, call, **bearer(ACME)).status in (400, 404, 422)
    assert served.app.desk.under_way == 0
    assert result(served.port, "add", {"a": 1, "b": 2}, **bearer(ACME)) == 3


def test_no_more_calls_in_a_second_than_agreed(served: Served) -> None:
    """Three after a pause, then two each second; a batch is cut short where they end."""
    CLOCK.advance(10)
    found = post(served.port, [ADD] * 5, **bearer(SLOW)).value
    assert [each.get("code", "ok") for each in found] == ["ok"] * 3 + ["limit_exceeded"] * 2
    refused = post(served.port, ADD, **bearer(SLOW))
    assert refused.failure() == (429, "limit_exceeded")
    assert refused.headers["retry-after"] == "1"
    CLOCK.advance(0.5)
    assert post(served.port, ADD, **bearer(SLOW)).status == 200
    assert post(served.port, ADD, **bearer(SLOW)).status == 429


def test_the_server_has_a_limit_of_its_own() -> None:
    """For all tenants together; what it refuses does not count against theirs."""
    name = tasks.gate()
    with serving(tasks.registry(), limits=Limits(calls=1), workers=1) as served, ThreadPoolExecutor(1) as pool:
        running = pool.submit(result, served.port, "wait_at", name)
        wait_until(lambda: tasks.came[name] == 1)
        assert post(served.port, ADD).failure() == (429, "limit_exceeded")
        tasks.gates[name].set()
        assert running.result() == name
        assert post(served.port, ADD).status == 200


@given(
    st.integers(1, 5) | st.none(),
    st.floats(0.1, 100) | st.none(),
    st.integers(1, 5) | st.none(),
    st.lists(st.sampled_from(["enter", "leave", "wait"]), max_size=60),
)
def test_a_turnstile_lets_in_what_was_agreed(
    at_once: int | None, rate: float | None, burst: int | None, steps: list[str]
) -> None:
    """Never more at once than `at_once`, never more in `t` seconds than the burst and `rate * t`."""
    clock = ManualClock()
    turnstile = Turnstile("it", clock, at_once=at_once, rate=rate, burst=burst)
    inside = entered = 0
    for step in steps:
        if step == "wait":
            clock.advance(0.3)
        elif step == "leave" and inside:
            turnstile.leave()
            inside -= 1
        elif step == "enter":
            try:
                turnstile.enter()
            except Refused:
                continue
            inside += 1
            entered += 1
    assert turnstile.inside == inside
    assert at_once is None or inside <= at_once
    if rate is not None:
        assert entered <= max(1.0, float(burst or rate)) + rate * clock.time() + 1e-6


def test_who_was_refused_may_come_when_told() -> None:
    """The time that is said is the time it takes."""
    clock = ManualClock()
    turnstile = Turnstile("it", clock, at_once=None, rate=0.25, burst=1)
    turnstile.enter()
    with pytest.raises(Refused) as caught:
        turnstile.enter()
    assert caught.value.retry_after == pytest.approx(4)
    clock.advance(4)
    turnstile.enter()


# Origins and hosts.


@pytest.mark.parametrize(
    "origin",
    [
        "https://theirs.example",
        "null",
        "https://ours.example.theirs.example",
        "http://[",
        "",
        "x",
        "HTTPS://OURS.EXAMPLE",
    ],
)
def test_pages_of_strangers_are_turned_away(served: Served, origin: str) -> None:
    """Though their browser may send a token along."""
    answer = post(served.port, ADD, Origin=origin, **bearer(OPS))
    assert answer.failure() == (403, "forbidden")
    with Frames(served.port, Origin=origin, **bearer(OPS)) as frames:
        assert frames.welcome[0] == 403
        assert b'"code":"forbidden"' in frames.welcome[2]


def test_our_own_pages_may_call(served: Served) -> None:
    """Those on the list, and those that this server gave out."""
    for origin in ("https://ours.example", f"http://127.0.0.1:{served.port}"):
        assert post(served.port, ADD, Origin=origin, **bearer(OPS)).status == 200
    with Frames(served.port, Origin="https://ours.example", **bearer(OPS)) as frames:
        assert frames.ask(ADD) == {"result": 3}


def test_a_browser_is_told_what_our_pages_may_do(served: Served) -> None:
    """And of others, nothing."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}
    allowed = ask(served.port, "OPTIONS", "/compute", headers={"Origin": "https://ours.example", **asked})
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://ours.example")
    others = ask(served.port, "OPTIONS", "/compute", headers={"Origin": "https://theirs.example", **asked})
    assert "access-control-allow-origin" not in others.headers
    with serving([tasks.add]) as plain:
        answer = ask(plain.port, "OPTIONS", "/compute", headers={"Origin": f"http://127.0.0.1:{plain.port}", **asked})
        assert answer.status == 405
        assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "host",
    [
        "theirs.example",
        "localhost.theirs.example",
        "127.0.0.1.theirs.example",
        "[",
        "10.0.0.1",
        "a b",
        "0.0.0.0",
        "user@theirs.example",
    ],
)
def test_without_tokens_only_this_machine_is_served(host: str) -> None:
    """Under its own names: a stranger's page could take the name of another host and lead it here."""
    scope = {"headers": [(b"host", host.encode())], "server": ("127.0.0.1", 80), "subprotocols": []}
    with pytest.raises(Refused, match="give it tokens") as caught:
        Door([]).admit(scope)
    assert caught.value.code == "forbidden"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.1.2.3:99", "[::1]", "[::1]:80", ""])
def test_this_machine_has_many_names(host: str) -> None:
    """All of them will do."""
    scope = {"headers": [(b"host", host.encode())], "server": ("127.0.0.1", 80), "subprotocols": []}
    assert Door([]).admit(scope).name == "everybody"


@pytest.mark.parametrize("server", [("10.0.0.1", 80), ("0.0.0.0", 80), ("::", 80), None, ("example.org", 80)])
def test_without_tokens_nobody_is_served_from_outside(server: Any) -> None:
    """Whatever the request says of its host; unless the server is told that it may."""
    scope = {"headers": [(b"host", b"localhost")], "server": server, "subprotocols": []}
    with pytest.raises(Refused) as caught:
        Door([]).admit(scope)
    assert caught.value.code == "unauthorized"
    assert Door([], insecure=True).admit(scope).name == "everybody"


def test_a_host_with_no_tokens_in_a_real_request() -> None:
    """A page that renamed itself is turned away over HTTP and WebSocket."""
    with serving([tasks.add]) as served:
        answer = ask(
            served.port, "POST", "/compute", b"{}", {"Host": "theirs.example", "Content-Type": "application/json"}
        )
        assert answer.failure() == (403, "forbidden")
        assert ask(served.port, "GET", "/tasks", headers={"Host": "["}).failure() == (403, "forbidden")
        with Frames(served.port, Origin="http://[") as frames:
            assert frames.welcome[0] == 403


@given(st.text(max_size=30))
def test_any_text_is_loopback_or_not(host: str) -> None:
    """None makes the question fail."""
    assert is_loopback(host) in (True, False)


# Tenants as such.


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"tokens": ["secret"]}, "hashes"),
        ({"tokens": ["sha256:" + "x" * 63]}, "hashes"),
        ({"tokens": ["sha256:" + "x" * 64]}, "hashes"),
        ({"at_once": 0}, "at_once"),
        ({"rate": -1.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"burst": 0}, "burst"),
        ({"workers": 0}, "workers"),
    ],
)
def test_a_tenant_that_cannot_be_is_refused(wrong: dict[str, Any], why: str) -> None:
    """When it is made, by name."""
    with pytest.raises(ValueError, match=f"(?s){why}.*'acme'|'acme'.*{why}"):
        Tenant(name="acme", **wrong)


def test_two_tenants_share_neither_a_token_nor_a_name() -> None:
    """Nobody could tell them apart."""
    token = hash_token("x")
    with pytest.raises(ValueError, match=r"'a' and 'b'"):
        Door([Tenant(name="a", tokens=[token]), Tenant(name="b", tokens=[token])])
    with pytest.raises(ValueError, match="name of its own"):
        Door([Tenant(name="a", tokens=[token]), Tenant(name="a")])
    with pytest.raises(ValueError, match="nobody could come in"):
        Door([Tenant(name="a")])


def test_tenants_are_read_from_a_file(tmp_path: Path) -> None:
    """And what is wrong with it is said."""
    path = tmp_path / "tenants.toml"
    token = hash_token(ACME)
    path.write_text(f'[tenant.acme]\ntokens = ["{token}"]\ntasks = ["add"]\nat_once = 8\nrate = 100\n')
    assert load_tenants(path) == [Tenant(name="acme", tokens=[token], tasks=frozenset({"add"}), at_once=8, rate=100)]
    for text, why in (
        ("[tenant.acme]\ntoken = []", "token"),
        ("[tenants.acme]", "tenants"),
        ("[tenant.acme]\nat_once = 0", "at_once"),
        ("[tenant.acme]\ntokens = ['plain']", "hashes"),
        ("not toml", "tenants.toml"),
        ("tenant = 7", "tenants.toml"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=why) as caught:
            load_tenants(path)
        assert str(path) in str(caught.value)


def test_a_token_is_long_and_another_each_time() -> None:
    """So that one round of hashing is enough."""
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) > 40
    assert ACME not in repr(Tenant(name="acme", tokens=[hash_token(ACME)]))


@pytest.mark.parametrize("odd", ["a.example", "https://a.example/", "https://a.example/x", "https://", ""])
def test_an_origin_that_could_never_match_is_a_mistake(odd: str) -> None:
    """A browser says a scheme and a host, and nothing behind them."""
    with pytest.raises(ValueError, match="an origin is a scheme and a host"):
        Door([], origins=[odd])
