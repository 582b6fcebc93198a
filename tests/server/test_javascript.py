"""The JavaScript client and our server understand each other: a stand-in for the published one asks, in Node.

`javascript/client.mjs` prints a line of JSON for each of its probes; what each should have seen is written down here.
"""

import asyncio
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.reporting import progress
from hybrid_compute.runtime import Runtime
from hybrid_compute.server.app import App
from hybrid_compute.server.limits import Limits
from hybrid_compute.server.tenants import Tenant, hash_token, new_token
from hybrid_compute.tasks import TaskRegistry, task
from tests.server.serving import serving

CLIENT = Path(__file__).with_name("javascript") / "client.mjs"
ORIGIN = "https://app.example"


def node() -> list[str]:
    """The command that runs the client, where there is a Node that has WebSockets."""
    command = [shutil.which("node") or "", "--experimental-websocket"]
    if command[0]:
        probe = [*command, "-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]
        if subprocess.run(probe, check=False, capture_output=True, timeout=30).returncode == 0:
            return command
    pytest.skip("there is no Node here that has WebSockets (20.10 or newer)")


# The tasks that are asked for.


@task
def double(x: int) -> int:
    return 2 * x


@task
def echo(value: Any) -> Any:
    return value


@task
def join(left: str, right: str = "!") -> str:
    return left + right


@task
def nothing() -> str:
    return "nothing taken"


@task
def greet(name: str = "world") -> str:
    return f"hello, {name}"


@task
def maybe(value: int | None) -> list[int | None]:
    return [value]


@task
def count(to: int) -> Iterator[int]:
    yield from range(to)


@task
def slowly(steps: int) -> int:
    for step in range(steps):
        progress(step, steps)
    return steps


@task
def reverse(data: bytes) -> bytes:
    return data[::-1]


@task
def day_after(day: datetime) -> datetime:
    return day + timedelta(days=1)


@task
def zeros(size: int) -> Any:
    import numpy

    return {"array": numpy.zeros(size), "scalar": numpy.float32(1.5)}


@task
def fail(reason: str) -> None:
    raise OSError(reason) if reason else OSError


@task
def divide(by: int) -> dict[str, float]:
    return {"quotient": float("nan") if by == 0 else 1 / by}


@task
def die() -> None:
    os._exit(9)


TASKS = [double, echo, join, nothing, greet, maybe, count, slowly, reverse, day_after, zeros, fail, divide]


def lingering() -> list[Any]:
    """A task that waits to be cancelled, and two that wait until it has begun, and until it has been stopped."""
    has_begun, has_stopped = asyncio.Event(), asyncio.Event()

    @task
    async def linger() -> None:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            has_stopped.set()

    @task
    async def begun() -> bool:
        await has_begun.wait()
        has_begun.clear()
        return True

    @task
    async def stopped() -> bool:
        await has_stopped.wait()
        has_stopped.clear()
        return True

    return [linger, begun, stopped]


def here(*tasks: Any) -> Runtime:
    return Runtime([LocalBackend()], tasks=TaskRegistry(tasks))


def ask(where: dict[str, str], *more: str) -> dict[str, Any]:
    """What each probe came to."""
    command = [*node(), str(CLIENT), json.dumps(where), *more]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stderr
    return {line["probe"]: line["outcome"] for line in map(json.loads, ran.stdout.strip().split("\n"))}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    node()
    token, slow = new_token(), new_token()
    tenants = [
        Tenant(name="acme", tokens=[hash_token(token)]),
        Tenant(name="slow", tokens=[hash_token(slow)], rate=0.001, burst=1),
    ]
    with (
        serving(here(*TASKS, *lingering()), origins=[ORIGIN]) as open_,
        serving(here(double), tenants=tenants, limits=Limits(body=1_000), tokens_in_url=True) as guarded,
        serving([double, die]) as crashing,
    ):
        where = {"open": open_.url, "socket": open_.socket_url, "origin": ORIGIN, "workers": crashing.url}
        guards = {"guarded": guarded.url, "guardedSocket": guarded.socket_url, "token": token, "slow": slow}
        return ask({**where, **guards})


def twice(outcome: Any) -> list[Any]:
    """The same over HTTP and over a WebSocket."""
    return [outcome, outcome]


def said(text: str) -> list[str]:
    """An error: over HTTP the client makes an Error of it, over a WebSocket it rejects with the bare text."""
    return [f"Error: {text}", text]


def refused(status: int, code: str) -> list[Any]:
    """An answer whose error every client can read."""
    return [status, "application/json", True, code]


EXPECTED: dict[str, Any] = {
    "a number": twice(42),
    "a text": twice("grüße, 世界 \U0001f600 \x00 \u2028"),
    "an object": twice({"a": [1, 2.5, None, True], "b": {"c": "d"}}),
    "several parameters": twice("ab"),
    "an input that is undefined": twice("nothing taken"),
    "an input that is undefined, and a default": twice("hello, world"),
    "an input that is undefined, and null is allowed": twice([None]),
    "a field that is undefined": twice("a!"),
    "results that are falsy": twice([0, False, "", None]),
    "a generator": twice([0, 1, 2]),
    "progress that nobody asked for": twice(3),
    "bytes": twice("Y2Jh"),
    "a date": twice("2024-02-29T00:00:00.000Z"),
    "an array of numpy": twice({"array": [0, 0, 0], "scalar": 1.5}),
    "a safe integer": twice(9007199254740990),
    "a megabyte": twice(2**20),
    "a task that raises": said("task 'fail' raised OSError: the disk is full"),
    "a task that raises without a word": said("task 'fail' raised OSError"),
    "a task that is not there": said("there is no task 'missing' here"),
    "an input that does not fit": said(
        "the input of task 'join' is not valid: Expected `str`, got `int` - at `$.right`"
    ),
    "half of a surrogate pair": twice(True),
    "a result that is not a number": said("['quotient'] is nan and cannot be JSON, which has no such number"),
    "a name like one of Object's own": said("there is no task '__proto__' here"),
    "no task at all": said("a call names its task: {task, input}"),
    "a hundred at once": twice(True),
    "http: the root is an endpoint too": 8,
    "http: an integer that JavaScript cannot hold": '{"result":18014398509481986}',
    "http: no JSON": refused(400, "protocol_error"),
    "http: no call": refused(400, "protocol_error"),
    "http: a form": refused(415, "unsupported_media_type"),
    "http: the wrong method": refused(405, "method_not_allowed"),
    "http: the wrong address": refused(404, "not_found"),
    "http: the wrong origin": refused(403, "forbidden"),
    "http: no token": refused(401, "unauthorized"),
    "http: too large": refused(413, "too_large"),
    "http: too often": [200, *refused(429, "limit_exceeded"), "1000"],
    "http: a token in the address": 10,
    "http: a token in a header": {"result": 12},
    "http: a page of an allowed origin asks first": [200, ORIGIN, True],
    "http: a page of another origin asks first": [400, None],
    "http: an allowed page may read an error": [404, ORIGIN],
    "http: a batch": [2, "task_not_found"],
    "http: lines": ["application/x-ndjson", '{"chunk":0}', '{"chunk":1}', '{"result":null}'],
    "http: events": ["text/event-stream", 'data: {"chunk":0}', 'data: {"chunk":1}', 'data: {"result":null}'],
    "http: an abort stops the task": ["AbortError", True],
    "http: a worker that dies": True,
    "http: and the next one": 14,
    "socket: frames are text, one for each call": ["string"] * 3,
    "socket: quick calls overtake slow ones": [2, "the call was withdrawn"],
    "socket: what is no call is answered, and the connection stays": [
        16,
        [
            [None, "protocol_error"],
            [None, "protocol_error"],
            [77, "protocol_error"],
            ["x", "protocol_error"],
            [1, "fine"],
        ],
    ],
    "socket: an id that is taken": [None, "protocol_error", "the call was withdrawn"],
    "socket: ids come back as they came": [0, -1, 1.5, "1", ""],
    "socket: a batch": [{"id": 1, "result": 2}, {"id": 2, "code": "task_not_found"}],
    "socket: a stream": [{"id": 1, "chunk": 0}, {"id": 1, "chunk": 1}, {"id": 1, "result": None}],
    "socket: a stream with credit": [2, [0, 1, 2]],
    "socket: to leave stops the task": True,
    "socket: no token": "WebSocket not connected",
    "socket: a token as a subprotocol": ["hybrid-compute", 18],
}


def test_every_probe_is_expected(outcomes: dict[str, Any]) -> None:
    """What the client asks and what is written down here are the same list."""
    assert sorted(outcomes) == sorted(EXPECTED)


@pytest.mark.parametrize("probe", EXPECTED)
def test_the_javascript_client_is_served(probe: str, outcomes: dict[str, Any]) -> None:
    """What the published client asks is answered as it understands it."""
    assert outcomes[probe] == EXPECTED[probe]


def test_a_server_that_stops_answers_every_call_before_it_closes_the_connection() -> None:
    """The client has no handler for a connection that closes: what is not answered by then waits for ever."""
    node()
    begun, release = threading.Semaphore(0), threading.Event()

    @task
    def hold(x: int) -> int:
        begun.release()
        release.wait(30)
        return x

    with serving(here(hold)) as server, ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, {"socket": server.socket_url}, "farewell")
        for _ in range(2):
            assert begun.acquire(timeout=30)
        server.server.should_exit = True
        release_once_closing(server.app, release)
        assert asking.result(50) == {"every call is answered before the connection is closed": [1, 2, 1012]}


def release_once_closing(app: App, release: threading.Event) -> None:
    """Let the tasks go on as soon as the server takes no more calls."""
    while not app.desk.closing:
        threading.Event().wait(0.001)
    release.set()
