"""The events: calls as they end, for whoever looks on; each sees its own, nobody is waited for."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from hybrid_compute.server.feed import Ended, Feed
from hybrid_compute.server.limits import Limits
from tests.server.serving import Served, serving
from tests.server.talking import PATIENCE, ask, post, wait_until
from tests.server.test_metrics import bearer, double, fail, here, tenant


class Onlooker:
    """A client that reads `/events`."""

    def __init__(self, response: HTTPResponse) -> None:
        self.response = response

    def block(self) -> list[str]:
        """The lines up to the next blank one; none once it is over."""
        lines: list[str] = []
        while (line := self.response.readline().decode()) not in ("", "\n"):
            lines.append(line.rstrip("\n"))
        return lines

    def call(self) -> dict[str, Any]:
        """The next call that it is told of."""
        (line,) = self.block()
        return dict(json.loads(line.removeprefix("data: ")))


@contextmanager
def looking_on(served: Served, **headers: str) -> Iterator[Onlooker]:
    """Somebody reads, from before the block begins until it ends."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    connection.request("GET", "/events", headers=headers)
    with connection.getresponse() as response:
        assert (response.status, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        onlooker = Onlooker(response)
        assert onlooker.block() == [": calls as they end"]
        onlookers = served.app.feed._onlookers
        wait_until(lambda: onlookers)
        yield onlooker
    connection.close()


def test_a_call_is_told_when_it_ends() -> None:
    """Whose it was, of which task, how long it took, and the code of its error."""
    with serving(here(double, fail)) as served, looking_on(served) as onlooker:
        post(served.port, {"task": "double", "input": 1})
        ended = onlooker.call()
        assert 0 < ended.pop("seconds") < PATIENCE
        assert ended == {"tenant": "everybody", "task": "double", "code": None}
        post(served.port, {"task": "fail"})
        assert onlooker.call()["code"] == "task_failed"


def test_a_tenant_is_told_of_its_own_calls_alone() -> None:
    """And an operator of all."""
    tenants = [tenant("acme"), tenant("beta"), tenant("root", operator=True)]
    with (
        serving(here(double), tenants=tenants) as served,
        looking_on(served, **bearer("beta")) as beta,
        looking_on(served, **bearer("root")) as root,
    ):
        wait_until(lambda: len(served.app.feed._onlookers) == 2)
        for name in ("acme", "beta"):
            post(served.port, {"task": "double", "input": 1}, **bearer(name))
        assert beta.call()["tenant"] == "beta"
        assert [root.call()["tenant"] for _ in range(2)] == ["acme", "beta"]
        assert ask(served.port, "GET", "/events").failure() == (401, "unauthorized")


def test_who_falls_behind_is_told_how_many_calls_it_missed() -> None:
    """The oldest are let go of, so that a reader that does not read costs the server nothing but that."""
    with serving(here(double)) as served, looking_on(served) as onlooker:
        served.loop.call_soon_threadsafe(lambda: [served.app.feed.tell(ended(n)) for n in range(1_003)])
        assert onlooker.block() == ["event: missed", "data: 3"]
        assert [onlooker.call()["task"] for _ in range(1_000)] == [f"task{n}" for n in range(3, 1_003)]


def test_a_reader_hears_that_the_server_is_there() -> None:
    """Through a silence comes a sign of life, so that no proxy closes the connection."""
    with serving(here(double), limits=Limits(silence=0.01)) as served, looking_on(served) as onlooker:
        assert onlooker.block() == [": still here"]
        assert onlooker.block() == [": still here"]


def test_the_events_end_when_the_server_stops() -> None:
    """A reader does not hold up the end, and its stream is whole: it was not cut off."""
    with serving(here(double)) as served, looking_on(served) as onlooker:
        served.server.should_exit = True
        while onlooker.block():
            pass
        assert onlooker.response.isclosed()
        served.thread.join(PATIENCE)
        assert not served.thread.is_alive()


def test_a_tenant_has_so_many_readers() -> None:
    """One more is refused, until another has gone; other tenants have their own."""
    tenants = [tenant("acme"), tenant("beta")]
    with serving(here(double), tenants=tenants, limits=Limits(onlookers=2, silence=1_000)) as served:
        with looking_on(served, **bearer("acme")):
            with looking_on(served, **bearer("acme")):
                assert ask(served.port, "GET", "/events", None, bearer("acme")).failure() == (429, "limit_exceeded")
                with looking_on(served, **bearer("beta")):
                    assert post(served.port, {"task": "double", "input": 1}, **bearer("acme")).status == 200
            wait_until(lambda: served.app._onlookers["acme"] == 1)
            with looking_on(served, **bearer("acme")):
                pass


def test_nothing_is_made_of_a_call_while_nobody_looks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed is asked, and that is all; so it is again once the last reader has gone."""
    with serving(here(double)) as served:
        with looking_on(served):
            assert served.app.feed
        wait_until(lambda: not served.app.feed)
        monkeypatch.setattr(served.app.feed, "tell", None)  # to call it would fail
        assert post(served.port, {"task": "double", "input": 1}).value == {"result": 2}


# The feed itself.


def ended(number: int) -> Ended:
    return Ended("acme", f"task{number}", 0.1, None)


async def test_calls_come_together_and_in_their_order() -> None:
    """A reader that is slow gets all that happened meanwhile at once."""
    feed = Feed()
    calls = feed.calls(lambda call: call.task != "task1", 60)
    first = asyncio.ensure_future(anext(calls))
    await asyncio.sleep(0)  # now it listens
    for number in range(3):
        feed.tell(ended(number))
    assert await first == ([ended(0), ended(2)], 0)
    await calls.aclose()
    assert not feed


async def test_a_closed_feed_lets_go_of_those_who_come_late_too() -> None:
    """Nobody waits for what cannot happen any more."""
    feed = Feed()
    feed.close()
    assert [each async for each in feed.calls(lambda _: True, 60)] == []
    assert not feed
