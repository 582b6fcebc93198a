"""A remote backend against the real server: what it carries, what it knows, what it refuses, what it says."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.remote import batch
from hybrid_compute.backends.remote.backend import RemoteBackend
from hybrid_compute.backends.remote.line import CREDIT, Message
from hybrid_compute.backends.remote.upkeep import Upkeep
from hybrid_compute.calls import Call
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import (
    BackendError,
    BackendUnavailable,
    InvalidInput,
    LimitExceeded,
    NoBackendAvailable,
    NotTransferable,
    PolicyRefused,
    RemoteProtocolError,
    TaskFailed,
    TaskTimeout,
)
from hybrid_compute.events import CallPassedOn, Event, Progress
from hybrid_compute.reporting import heard_by
from hybrid_compute.runtime import Runtime
from hybrid_compute.server import Limits, Tenant, hash_token
from hybrid_compute.tasks import Task
from hybrid_compute.testing import MockBackend
from hybrid_compute.tracing import traceparent
from tests.backends import remoting
from tests.backends.remoting import TASKS, until
from tests.server.serving import Served, serving

TOKEN = "a-token-for-tests"
Make = Callable[..., RemoteBackend]


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with serving(TASKS) as running:
        yield running


@pytest.fixture(params=["http", "ws"])
def make(request: pytest.FixtureRequest, served: Served) -> Make:
    """Makes a backend for the server, by either kind of line."""

    def made(**options: Any) -> RemoteBackend:
        return RemoteBackend(f"{request.param}://127.0.0.1:{served.port}", **options)

    return made


# What it carries.


async def test_hundreds_of_calls_are_in_flight_on_one_socket(served: Served, tmp_path: Path) -> None:
    """They do not wait for each other, and each gets its own answer."""
    async with Runtime([RemoteBackend(served.socket_url)]) as rt:
        slow = asyncio.create_task(rt.run(remoting.nap, str(tmp_path)))
        await until((tmp_path / "begun").exists)
        answers = await asyncio.gather(*(rt.run(remoting.double, number) for number in range(500)))
        assert answers == [2 * number for number in range(500)]
        assert not slow.done()
        slow.cancel()


async def test_a_socket_is_opened_once(served: Served) -> None:
    """All calls share it, also those that come before it is open."""
    async with remoting.relay(served.port) as relay:
        async with Runtime([RemoteBackend(f"ws://127.0.0.1:{relay.port}")]) as rt:
            await asyncio.gather(*(rt.run(remoting.double, number) for number in range(50)))
            await rt.run(remoting.double, 1)
        assert relay.accepted == 1  # first for the list of tasks, then as the socket


async def test_http_connections_are_kept(served: Served) -> None:
    """A second call finds the connection of the first."""
    async with remoting.relay(served.port) as relay:
        async with Runtime([RemoteBackend(f"http://127.0.0.1:{relay.port}")]) as rt:
            for number in range(20):
                await rt.run(remoting.double, number)
        assert relay.accepted == 1


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_arrays_arrive(make: Make, encoding: Any) -> None:
    """In MessagePack as arrays, in JSON as lists of numbers."""
    values = np.arange(100_000, dtype=np.float32)
    async with Runtime([make(encoding=encoding)]) as rt:
        if encoding == "msgpack":
            assert await rt.run(remoting.total, values) == float(values.sum())
            back = await rt.run(remoting.twice, values)
            assert back.dtype == np.float32
            assert np.array_equal(back, values * 2)
        else:
            assert await rt.run(remoting.twice, values[:3]) == [0.0, 1.0, 2.0] * 2  # a list, times two


async def test_a_large_array_is_sent_in_parts_and_counted(make: Make) -> None:
    """Some tens of megabytes go there and back, and the statistics say so."""
    values = np.ones(4 << 20)
    async with Runtime([make()]) as rt:
        assert (await rt.run(remoting.twice, values)).sum() == 2.0 * len(values)
        tally = rt.stats()["twice"]["remote"]
        assert values.nbytes < tally.sent < values.nbytes + 1000
        assert values.nbytes < tally.received < values.nbytes + 1000


async def test_a_deadline_is_carried(make: Make, tmp_path: Path) -> None:
    """The server stops the task when its time is up, and not because its client has gone."""
    async with Runtime([make()]) as rt:
        with pytest.raises(TaskTimeout, match=r"'nap' was (not done|stopped) after 0\.3 s"):
            await rt.options(timeout=0.3).run(remoting.nap, str(tmp_path))
        await until((tmp_path / "ended").exists)


async def test_the_server_is_told_how_much_time_is_left() -> None:
    """By the clock of the runtime, in seconds from now, rounded up to milliseconds."""
    clock = ManualClock(1000.0)
    place = RemoteBackend("http://127.0.0.1:1")
    place.clock = clock
    call = Call(remoting.double, (1,))
    call.timeout, call.deadline, call.key = 5.0, 1005.0, "k-1"
    clock.advance(2.74956)
    token = traceparent.set("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    message = place._written(call, call.args)
    traceparent.reset(token)
    assert message == Message(
        {
            "task": "double",
            "timeout": 2.251,
            "key": "k-1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
        [b"\x01"],
    )


async def test_cancelling_stops_a_coroutine_at_the_server(make: Make, tmp_path: Path) -> None:
    """Within a tenth of a second."""
    async with Runtime([make()]) as rt:
        call = asyncio.create_task(rt.run(remoting.nap, str(tmp_path)))
        await until((tmp_path / "begun").exists)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until((tmp_path / "ended").exists)
        assert await rt.run(remoting.double, 21) == 42


async def test_cancelling_stops_a_function_at_the_server(make: Make, tmp_path: Path) -> None:
    """It is killed with its worker, and signs no more."""
    async with Runtime([make()]) as rt:
        call = asyncio.create_task(rt.run(remoting.spin, str(tmp_path)))
        await until((tmp_path / "alive").exists)
        call.cancel()
        await asyncio.wait([call])
        await _rests(tmp_path / "alive")
        assert await rt.run(remoting.double, 21) == 42


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_the_trace_is_carried(scheme: str) -> None:
    """A task at the server belongs to the trace of its caller."""
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with serving(Runtime([LocalBackend()], tasks=TASKS)) as served:  # where tasks see the server's context
        async with Runtime([RemoteBackend(f"{scheme}://127.0.0.1:{served.port}")]) as rt:
            assert await rt.run(remoting.trace) is None
            token = traceparent.set(given)
            try:
                assert await rt.run(remoting.trace) == given
            finally:
                traceparent.reset(token)


async def test_an_error_at_the_server_is_the_same_error_here(make: Make) -> None:
    """The type, the text, and no traceback where the server keeps it to itself."""
    async with Runtime([make()]) as rt:
        with pytest.raises(TaskFailed, match="task 'tell' raised FileNotFoundError") as caught:
            await rt.run(remoting.tell, "/nowhere/at/all", "x")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert caught.value.remote_traceback == ""


async def test_input_that_does_not_fit_is_refused_with_its_path(make: Make) -> None:
    """By the server, which knows the types, and by this end for what it can see."""
    async with Runtime([make()]) as rt:
        with pytest.raises(InvalidInput, match="Expected `int`, got `str`"):
            await rt.run(remoting.double, "seven")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="missing a required argument"):
            await rt.run(remoting.tell, folder="x")


@pytest.mark.parametrize(("encoding", "value"), [("msgpack", 2**70), ("json", float("nan")), ("msgpack", object())])
async def test_what_cannot_be_sent_costs_nothing(encoding: Any, value: Any) -> None:
    """It is refused before a connection is opened, with the task and the place."""
    place = RemoteBackend("http://127.0.0.1:1", encoding=encoding)
    with pytest.raises(NotTransferable, match="the input of task 'twice' cannot go to remote"):
        await place.run_task(remoting.twice, value)
    assert "not opened" in repr(place)
    await place.aclose()


# Streams and progress.


async def test_a_slow_reader_holds_up_its_own_stream_and_nothing_else(make: Make, tmp_path: Path) -> None:
    """The task waits for its reader; other calls on the same line do not."""
    async with Runtime([make()]) as rt:
        async with rt.stream(remoting.numbered, str(tmp_path)) as items:
            assert await anext(items) == 0
            assert await rt.run(remoting.double, 21) == 42
            if rt.backends[0]._address.by_socket:  # type: ignore[attr-defined]
                await _rests(tmp_path / "produced")
                assert int((tmp_path / "produced").read_text()) < 10 * CREDIT
            assert [await anext(items) for _ in range(100)] == list(range(1, 101))
        await until((tmp_path / "stopped").exists)


async def _rests(path: Path) -> None:
    """Wait until a file that is written all the time is not written any more."""
    before = 0
    while (now := path.stat().st_mtime_ns) != before:
        before = now
        await asyncio.sleep(0.1)


async def test_progress_reaches_hooks_and_listeners(make: Make) -> None:
    """Of a function and of a stream, in order, and before the result."""
    seen: list[Event] = []
    heard: list[tuple[float, float | None, str]] = []
    async with Runtime([make()], hooks=[seen.append]) as rt:
        with heard_by(lambda done, total, note: heard.append((done, total, note))):
            assert await rt.run(remoting.steps, 3) == 3
    assert heard[-1] == (3, 3, "step 3")
    assert heard == sorted(heard)
    assert [(each.done, each.total, each.note) for each in seen if isinstance(each, Progress)] == heard


async def test_progress_of_a_stream_comes_between_its_items(make: Make) -> None:
    """It is no item."""
    heard: list[float] = []
    async with Runtime([make()]) as rt:
        with heard_by(lambda done, total, note: heard.append(done)):
            async with rt.stream(remoting.stepping, 50) as items:
                assert [item async for item in items] == list(range(50))
    assert heard
    assert heard == sorted(heard)


# Batches.


async def test_a_map_goes_in_few_messages(make: Make) -> None:
    """A thousand items, in order, in as many messages as are needed for so many."""
    asked: list[int] = []
    async with Runtime([place := make()]) as rt:
        line = await place._line()
        ask_many = line.ask_many

        async def counted(messages: Any) -> Any:
            asked.append(len(messages))
            return await ask_many(messages)

        line.ask_many = counted  # type: ignore[method-assign]
        assert await rt.map(remoting.double, range(1000)) == [2 * number for number in range(1000)]
        assert sum(asked) == 1000
        assert len(asked) == -(-1000 // batch.CALLS)
        asked.clear()
        assert await rt.map(remoting.double, range(10), limit=3) == [2 * number for number in range(10)]
        assert max(asked) <= 3


async def test_a_map_that_fails_gives_up_the_rest(make: Make, tmp_path: Path) -> None:
    """The first failure is raised, and what is under way at the server is stopped."""
    async with Runtime([make()]) as rt:
        (tmp_path / "a").mkdir()
        calls = [(str(tmp_path / "a"),), (None,)]
        with pytest.raises(InvalidInput):
            await rt.starmap(remoting.nap, calls * batch.CALLS, limit=2)
        assert await rt.run(remoting.double, 21) == 42


def test_a_batch_is_cut_by_count_and_by_bytes() -> None:
    """Neither many small calls nor a few large ones make a message too large."""
    small = [Message({}, [b"x"]) for _ in range(300)]
    assert [len(chunk) for chunk in batch.chunks(small, 128)] == [128, 128, 44]
    large = [Message({}, [bytes(batch.BYTES // 2)]) for _ in range(5)]
    assert [len(chunk) for chunk in batch.chunks(large, 128)] == [2, 2, 1]
    assert list(batch.chunks([], 128)) == []


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_what_a_server_does_not_take_is_not_sent(scheme: str, encoding: Any, tmp_path: Path) -> None:
    """A map goes in messages that it takes. An input that is too large is refused here, and disturbs no other call."""
    limits = Limits(batch=10, body=4000)
    with serving(TASKS, limits=limits) as small:
        place = RemoteBackend(f"{scheme}://127.0.0.1:{small.port}", encoding=encoding)
        async with Runtime([place]) as rt:
            other = asyncio.create_task(rt.run(remoting.nap, str(tmp_path)))
            await until((tmp_path / "begun").exists)
            assert await rt.map(remoting.double, range(100)) == [*range(0, 200, 2)]
            texts = ["x" * 900] * 20
            assert await rt.map(remoting.twice, texts) == ["x" * 1800] * 20
            for verb in (rt.run(remoting.twice, "x" * 5000), rt.map(remoting.twice, ["x" * 5000])):
                with pytest.raises(LimitExceeded, match="takes messages of at most 4,000 bytes") as caught:
                    await verb
                assert not caught.value.started
            assert not other.done()
            other.cancel()


# What it knows.


async def test_the_list_of_the_server_says_what_it_can_run(make: Make) -> None:
    """A task that is not in it goes elsewhere, and `explain` says why."""
    async with Runtime([make(), LocalBackend()]) as rt:
        assert rt.explain(remoting.double, 1).order == ("local", "remote")
        explained = rt.explain(remoting.unknown, 1)
        assert explained.order == ("local",)
        assert "it is not in the list of" in explained.refusals["remote"]
        assert "double" in explained.refusals["remote"]


async def test_an_explicit_list_comes_first(make: Make) -> None:
    """Only what it names goes there; a name that the server lacks is found out by the call."""
    place = make(tasks=[remoting.unknown, "double"])
    async with Runtime([place]) as rt:
        assert await rt.run(remoting.double, 21) == 42
        with pytest.raises(NoBackendAvailable, match="not in the list given to it"):
            await rt.run(remoting.process)
        with pytest.raises(BackendUnavailable, match="has no task 'unknown'") as caught:
            await rt.run(remoting.unknown, 1)
        assert not caught.value.started


async def test_a_task_that_the_server_lacks_goes_elsewhere(make: Make) -> None:
    """Though the list was not known, or was old."""
    passed_on: list[Event] = []
    place = make(tasks=["unknown"])
    async with Runtime([place, LocalBackend()], strategy="in_order", hooks=[passed_on.append]) as rt:
        assert await rt.run(remoting.unknown, 7) == 7
    assert any(isinstance(each, CallPassedOn) for each in passed_on)


async def test_an_old_list_is_asked_for_again(served: Served, make: Make) -> None:
    """In the background, when somebody asks; a task that is new at the server is then known here."""
    clock, late = ManualClock(), Task(abs, name="late")
    place = make(upkeep=Upkeep(refresh=60.0))
    async with Runtime([place], clock=clock) as rt:
        assert not place.can_run(late)
        served.app.runtime.tasks.add(late)
        try:
            clock.advance(59.0)
            assert not place.can_run(late)
            assert place._looking is None
            clock.advance(2.0)
            await until(lambda: place.can_run(late))
        finally:
            del served.app.runtime.tasks._tasks["late"]
        assert await rt.run(remoting.double, 21) == 42


def test_a_private_task_never_goes_there() -> None:
    """Not to a server on this machine, not by being told so, not by a class that says so."""
    place = RemoteBackend("http://localhost:1")
    assert not place.on_this_machine
    with pytest.raises(AttributeError, match="never on this machine"):
        place.on_this_machine = True
    with pytest.raises(TypeError, match="never on this machine"):
        type("Forged", (RemoteBackend,), {"on_this_machine": True})
    assert not RemoteBackend.on_this_machine
    assert (place.rank, place.isolates, place.batches) == (3, True, True)


async def test_a_private_task_is_refused(make: Make) -> None:
    """With the reason, and without a word to the server."""
    async with Runtime([make()]) as rt:
        with pytest.raises(PolicyRefused, match="private"):
            await rt.run(Task(remoting.double.fn, name="double", private=True), 1)
        assert rt.stats() == {}


async def test_it_provides_what_its_owner_says(make: Make) -> None:
    """A GPU, for one, which this machine may not have."""
    wanted = Task(remoting.double.fn, name="double", needs={"gpu"})
    async with Runtime([make(provides={"gpu"}), LocalBackend()]) as rt:
        assert await rt.run(wanted, 21) == 42
        assert rt.stats()["double"].keys() == {"remote"}


# What it refuses, and is refused.


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://host", "such as http://host:8000"),
        ("localhost:8000", "such as http://host:8000"),
        ("http://", "such as http://host:8000"),
        ("http://ann:secret@host", "give it as token="),
        ("http://host/?token=secret", "goes on after it"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, complaint: str) -> None:
    """At once, and without repeating a password."""
    with pytest.raises(ValueError, match=complaint) as caught:
        RemoteBackend(url)
    assert "secret" not in str(caught.value) or "?token" in url


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"encoding": "xml"}, "'msgpack' or 'json'"),
        ({"provides": "gpu"}, "set of names"),
        ({"token": "two\nlines"}, "printable ASCII"),
        ({"token": ""}, "printable ASCII"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], complaint: str) -> None:
    """When the backend is made, not when it is used."""
    with pytest.raises((ValueError, TypeError), match=complaint):
        RemoteBackend("http://host", **options)


@pytest.mark.parametrize("name", ["connect", "heartbeat", "refresh", "first_pause", "largest", "connections"])
def test_an_upkeep_of_nothing_is_refused(name: str) -> None:
    """A time or size that is not positive is a mistake."""
    with pytest.raises(ValueError, match=name):
        Upkeep(**{name: 0})


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_token_lets_in(scheme: str) -> None:
    """The right one; without it the server is away, for the reason it gives. The token is shown nowhere."""
    tenant = Tenant(name="acme", tokens=[hash_token(TOKEN)], tasks=frozenset({"double"}))
    with serving(TASKS, tenants=[tenant]) as served:
        url = f"{scheme}://127.0.0.1:{served.port}"
        async with Runtime([place := RemoteBackend(url, token=TOKEN)]) as rt:
            assert await rt.run(remoting.double, 21) == 42
            assert not place.can_run(remoting.process)
            assert TOKEN not in repr(place) + place.why_not(remoting.process)
        for wrong in (None, "wrong"):
            async with Runtime([RemoteBackend(url, token=wrong)]) as rt:
                with pytest.raises(NoBackendAvailable, match="token"):
                    await rt.run(remoting.double, 21)


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_what_is_too_large_for_the_server_is_a_limit(scheme: str) -> None:
    """It has not begun, so another place may do; and the line goes on."""
    with serving(TASKS, limits=Limits(body=100_000)) as served:
        url = f"{scheme}://127.0.0.1:{served.port}"
        async with Runtime([RemoteBackend(url)]) as rt:
            with pytest.raises(LimitExceeded) as caught:
                await rt.run(remoting.twice, bytes(100_010))
            assert not caught.value.started
            assert await rt.run(remoting.double, 21) == 42


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_more_calls_than_a_connection_may_have_wait_for_their_turn(scheme: str) -> None:
    """Whoever gathers thousands need not know what the server allows."""
    with serving(TASKS, limits=Limits(per_socket=10)) as served:
        async with Runtime([RemoteBackend(f"{scheme}://127.0.0.1:{served.port}")]) as rt:
            doubled = await asyncio.gather(*(rt.run(remoting.double, number) for number in range(300)))
    assert doubled == [2 * number for number in range(300)]


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_server_with_too_much_to_do_says_so_before_it_begins(scheme: str, tmp_path: Path) -> None:
    """So another place may do."""
    with serving(TASKS, limits=Limits(calls=1), patience=0.2) as served:
        remote = RemoteBackend(f"{scheme}://127.0.0.1:{served.port}")
        async with Runtime([remote, LocalBackend()], strategy="in_order") as rt:
            busy = asyncio.create_task(rt.run(remoting.nap, str(tmp_path)))
            await until((tmp_path / "begun").exists)
            with pytest.raises(LimitExceeded, match="under way, which is the limit") as caught:
                await remote.run_call(Call(remoting.double, (21,)))
            assert not caught.value.started
            assert await rt.run(remoting.double, 21) == 42
            assert {name: tally.failed for name, tally in rt.stats()["double"].items()} == {"remote": 1, "local": 0}
            busy.cancel()


JSON = "Content-Type: application/json"
LISTING = b'{"tasks": [{"name": "double"}]}'


@asynccontextmanager
async def answering(body: bytes, *headers: str, status: int = 200, lists: bool = False) -> AsyncGenerator[str]:
    """A server that gives every request the same answer; if it `lists`, except for its list of tasks."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            listing = lists and request.startswith(b"GET /tasks ")
            writer.write(http(200, LISTING, JSON) if listing else http(status, body, *headers))
            await writer.drain()
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(status: int, body: bytes, *headers: str) -> bytes:
    size = [] if "Transfer-Encoding: chunked" in headers else [f"Content-Length: {len(body)}"]
    return "\r\n".join([f"HTTP/1.1 {status} So", "Connection: close", *size, *headers, "", ""]).encode() + body


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize(
    ("status", "body", "headers", "reason"),
    [
        (302, b"", ["Location: http://127.0.0.1:1/tasks"], "sends callers on to http://127.0.0.1:1/tasks"),
        (200, b"<html>", ["Content-Type: text/html"], "no such server"),
        (503, b"busy", ["Content-Type: text/plain"], "refuses: 503 So"),
        (401, json.dumps({"error": "who are you"}).encode(), ["Content-Type: application/json"], "who are you"),
    ],
)
async def test_a_server_that_is_none_of_ours_is_away(
    scheme: str, status: int, body: bytes, headers: list[str], reason: str
) -> None:
    """A runtime starts all the same; the reason is there for whoever asks."""
    async with answering(body, *headers, status=status) as host:
        place = RemoteBackend(f"{scheme}://{host}", token=TOKEN)
        async with Runtime([place, LocalBackend()]) as rt:
            assert not place.can_run(remoting.double)
            assert reason in place.why_not(remoting.double)
            assert await rt.run(remoting.double, 21) == 42


@pytest.mark.parametrize(
    ("status", "started"),
    [(404, False), (429, False), *((each, True) for each in (200, 202, 408, 499, 500, 502, 503, 504, 520))],
)
async def test_what_a_gateway_says_in_place_of_a_server_is_no_answer(status: int, started: bool) -> None:
    """It may be said after the call had begun, unless the status is one that is given before."""
    async with answering(b"<html>", "Content-Type: text/html", status=status, lists=True) as host:
        async with Runtime([RemoteBackend(f"http://{host}")]) as rt:
            with pytest.raises(BackendError, match=f"{status} So, as text/html") as caught:
                await rt.run(remoting.double, 1)
    assert caught.value.started is started


@pytest.mark.parametrize("kind", ["application/msgpack", "application/json"])
@pytest.mark.parametrize("body", [b"garbage", b"[]", b"{}", b"\x80", b"\x90", b""])
async def test_an_answer_that_is_none_is_the_servers_fault(kind: str, body: bytes) -> None:
    """Garbage, a list for one call, neither result nor error: told as such, and nothing hangs."""
    async with answering(body, f"Content-Type: {kind}", lists=True) as host:
        async with Runtime([RemoteBackend(f"http://{host}")]) as rt:
            with pytest.raises(RemoteProtocolError):
                await rt.run(remoting.double, 1)


async def test_a_result_of_another_type_is_the_servers_fault() -> None:
    """What a task says that it returns is what its caller gets."""
    async with answering(b'{"result": "two"}', "Content-Type: application/json", lists=True) as host:
        async with Runtime([RemoteBackend(f"http://{host}")]) as rt:
            with pytest.raises(RemoteProtocolError, match="'double' is not what it says it returns"):
                await rt.run(remoting.double, 1)


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_answer_that_is_too_long_is_not_read(chunked: bool) -> None:
    """Whether it says so first or not."""
    head, body = ["Content-Type: application/json"], json.dumps({"result": "x" * 5000}).encode()
    if chunked:
        head, body = [*head, "Transfer-Encoding: chunked"], b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with answering(body, *head, lists=True) as host:
        async with Runtime([RemoteBackend(f"http://{host}", upkeep=Upkeep(largest=1000))]) as rt:
            with pytest.raises(RemoteProtocolError, match="more than 1,000 bytes"):
                await rt.run(remoting.double, 1)


async def test_a_list_that_is_too_long_is_not_read() -> None:
    """Nobody fills this program's memory with what should be names."""
    body = json.dumps({"tasks": [{"name": "x" * 5000}]}).encode()
    async with answering(body, "Content-Type: application/json") as host:
        async with Runtime([place := RemoteBackend(f"http://{host}", upkeep=Upkeep(largest=1000))]):
            assert "more than 1,000 bytes" in place.why_not(remoting.double)


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_list_that_a_gateway_refuses_is_of_a_server_that_is_away(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """That is nothing unexpected, and nothing has begun."""
    async with answering(b"<html>", "Content-Type: text/html", status=status) as host:
        async with Runtime([place := RemoteBackend(f"http://{host}")]):
            assert f"{status} So" in place.why_not(remoting.double)
            with pytest.raises(BackendUnavailable) as caught:
                await place.probe()
            assert not caught.value.started
    assert not caplog.records


async def test_without_aiohttp_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a runtime starts, and when a call is made; not when the backend is only made."""
    place = RemoteBackend("http://127.0.0.1:1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"install hybrid-compute\[client\]"):
        await place.start()
    with pytest.raises(BackendUnavailable, match=r"install hybrid-compute\[client\]"):
        await place.run_task(remoting.double, 1)
    await place.aclose()


async def test_a_constructor_opens_nothing(served: Served) -> None:
    """And closing what was never opened is harmless."""
    async with remoting.relay(served.port) as relay:
        place = RemoteBackend(f"ws://127.0.0.1:{relay.port}")
        assert place.can_run(remoting.unknown)  # nobody knows yet
        assert "not opened" in repr(place)
        await place.aclose()
        assert relay.accepted == 0


async def test_a_remote_place_is_measured(make: Make) -> None:
    """For `fastest`, which goes by whole times, the way there and back counts."""
    async with Runtime([make(), MockBackend(name="mock")], strategy="fastest") as rt:
        for number in range(4):
            assert await rt.run(remoting.double, number) == 2 * number
        assert rt.timings[remoting.double].mean("remote") is not None


def test_ssl_contexts_are_taken() -> None:
    """One's own certificates need one's own context."""
    assert RemoteBackend("https://host", ssl=ssl.create_default_context())
