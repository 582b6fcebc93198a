"""Tasks as tools, asked for by the SDK's own client: in memory, and over HTTP."""

import asyncio
import contextlib
import json
import math
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.errors import LimitExceeded
from hybrid_compute.links.tools import DEEPEST, ERROR_KEY
from hybrid_compute.reporting import progress
from hybrid_compute.runtime import Runtime, Verbs
from hybrid_compute.server.mcp import Scope, Tools, offered, tools_app, tools_of
from hybrid_compute.tasks import AnyTask, Task, TaskRegistry
from tests.faults.watching import until
from tests.server import toolbox
from tests.server.offering import served
from tests.server.toolbox import TOOLS

pytestmark = pytest.mark.timeout(60)

MODES = ["auto", "legacy"]
"""The protocol of today, and that of clients from before."""


def everything(_scope: Scope) -> Sequence[AnyTask]:
    return [*TOOLS, toolbox.secret]


@asynccontextmanager
async def in_memory(runtime: Runtime | None = None, mode: str = "auto", **options: Any) -> AsyncIterator[Client]:
    """A client of these tools that needs no wire."""
    async with runtime or Runtime([LocalBackend()]) as rt:
        tools = Tools(rt, everything, **options)
        async with Client(tools.server, mode=mode) as client:
            yield client


def text_of(result: CallToolResult) -> str:
    [content] = result.content
    assert isinstance(content, TextContent)
    return content.text


async def result_of(client: Client, name: str, **arguments: Any) -> Any:
    """The result of a tool, which must be the same in the text and in the structure."""
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, text_of(answer)
    assert json.loads(text_of(answer)) == answer.structured_content["result"]
    return answer.structured_content["result"]


async def complaint_about(client: Client, name: str, **arguments: Any) -> str:
    """What a tool says of a call that fails."""
    answer = await client.call_tool(name, arguments)
    assert answer.is_error
    assert answer.structured_content is None
    return text_of(answer)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# What is offered


async def test_only_tasks_that_are_marked_are_offered() -> None:
    """A task is no tool unless somebody has said so, and then it is listed and can be called."""
    async with in_memory() as client:
        listed = (await client.list_tools()).tools
        assert [tool.name for tool in listed] == [task.name for task in TOOLS]
        with pytest.raises(MCPError, match="no tool 'secret' here"):
            await client.call_tool("secret", {})


async def test_a_list_of_names_counts_more_than_the_mark() -> None:
    """Who lists tools offers those and no others."""
    async with in_memory(names=["secret", "add"]) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["add", "secret"]
        assert await result_of(client, "secret") == "hush"
        with pytest.raises(MCPError, match="no tool 'echo' here"):
            await client.call_tool("echo", {})


async def test_a_tool_says_what_it_takes_and_gives() -> None:
    """Schemas come from the type hints, are closed, and always describe an object."""
    async with in_memory() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    add = tools["add"]
    assert add.description == "Add two numbers.\n\nThe second may be left out."
    assert add.input_schema["properties"] == {"a": {"type": "integer"}, "b": {"type": "integer", "default": 0}}
    assert (add.input_schema["required"], add.input_schema["additionalProperties"]) == (["a"], False)
    assert add.output_schema is not None
    assert add.output_schema["properties"] == {"result": {"type": "integer"}}
    mirrored = tools["mirrored"]
    assert mirrored.input_schema["properties"] == {"point": {"$ref": "#/$defs/Point"}}
    assert mirrored.input_schema["required"] == ["point"]
    assert mirrored.input_schema["$defs"]["Point"]["properties"]["x"] == {"type": "number"}
    assert tools["nothing"].input_schema["properties"] == {}
    assert tools["named"].input_schema["additionalProperties"] == {"type": "integer"}
    assert tools["countdown"].output_schema is not None
    assert tools["countdown"].output_schema["properties"]["result"] == {"type": "array", "items": {"type": "integer"}}


async def test_a_pure_task_is_said_to_change_nothing() -> None:
    """A client may then call it without asking its user, and again."""
    async with in_memory() as client:
        tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
    assert tools["add"] is not None
    assert tools["add"].read_only_hint
    assert tools["add"].idempotent_hint
    assert tools["echo"] is None


def test_a_name_that_no_tool_can_have_is_refused() -> None:
    """The error names the task, its place and the way out, before any client is there."""
    with pytest.raises(ValueError, match=r"'no tool!' \(.*test_mcp.py:\d+\) cannot be a tool: .*@task\(name="):
        offered([Task(lambda: None, name="no tool!", tool=True)])
    with pytest.raises(ValueError, match="cannot be a tool"):
        offered([Task(abs, name="x" * 129, tool=True)])
    assert list(offered([Task(abs, name="A-z_0.9", tool=True)])) == ["A-z_0.9"]


def test_an_unknown_name_on_the_list_is_an_error() -> None:
    """Nobody offers less than was meant because of a slip of the pen."""
    registry = TaskRegistry([toolbox.add, toolbox.secret])
    assert tools_of(registry) == [toolbox.add]
    assert tools_of(registry, ["secret"]) == [toolbox.secret]
    with pytest.raises(ValueError, match="no task is named 'sceret', so it cannot be a tool; known tasks: add, secret"):
        tools_of(registry, ["sceret"])


# Calls


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_gives_the_result_of_the_task(mode: str) -> None:
    """As text for a model, and as a structure that the client has checked against the schema."""
    async with in_memory(mode=mode) as client:
        assert await result_of(client, "add", a=40, b=2) == 42
        assert await result_of(client, "add", a=40) == 40
        assert await result_of(client, "mirrored", point={"x": 1, "y": 2}) == {"x": -1.0, "y": -2.0}
        assert await result_of(client, "joined", words=["a", "b"]) == "a b"
        assert await result_of(client, "joined") == ""
        assert await result_of(client, "named", ann=30, bob=40) == {"ann": 30, "bob": 40}
        assert await result_of(client, "nothing") is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [None, True, 2**70, -1.5, "naïve 漢字 🙂 \0", [], {"a": [None, {"b": []}]}], ids=repr)
async def test_values_come_back_as_they_went(value: Any, mode: str) -> None:
    """What JSON can say goes through unchanged."""
    async with in_memory(mode=mode) as client:
        assert await result_of(client, "echo", value=value) == value


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("add", {"a": "2"}, r"Expected `int`, got `str` - at `\$.a`"),
        ("add", {"a": 2.5}, r"Expected `int`, got `float` - at `\$.a`"),
        ("add", {"a": True}, r"Expected `int`, got `bool` - at `\$.a`"),
        ("add", {}, "missing required field `a`"),
        ("add", {"a": 1, "c": 1}, "unknown field `c`"),
        ("mirrored", {"point": {"x": "1"}}, r"Expected `float`, got `str` - at `\$.point.x`"),
        ("mirrored", {}, "missing required field `point`"),
        ("mirrored", {"x": 1}, "unknown field `x`"),
        ("joined", {"words": ["a", 1]}, r"Expected `str`, got `int` - at `\$.words\[1\]`"),
        ("named", {"ann": "old"}, "Expected `int`, got `str`"),
        ("nothing", {"a": 1}, "unknown field `a`"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_by_their_path(
    name: str, arguments: dict[str, Any], complaint: str
) -> None:
    """Nothing is guessed: "2" is no number. A model reads what was wrong and can do better."""
    async with in_memory() as client:
        with pytest.raises(AssertionError, match=complaint):
            await result_of(client, name, **arguments)
        answer = await client.call_tool(name, arguments)
        assert answer.meta is not None
        assert answer.meta[ERROR_KEY]["code"] == "invalid_input"


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_task_raises_is_told_as_text(mode: str) -> None:
    """A failure is a result that says so. The traceback stays at the server unless it is asked for."""
    async with in_memory(mode=mode) as client:
        assert await complaint_about(client, "boom", text="odd") == "task 'boom' raised ValueError: odd"
    async with in_memory(mode=mode, tracebacks=True) as client:
        told = await complaint_about(client, "boom", text="odd")
        assert told.startswith("task 'boom' raised ValueError: odd\n\nTraceback")
        assert "in boom" in told


@pytest.mark.parametrize("mode", MODES)
async def test_nothing_that_a_task_says_breaks_the_connection(mode: str) -> None:
    """Results, errors and notes that the wire cannot carry end their own call at most."""
    seen: list[str | None] = []

    async def hear(_done: float, _total: float | None, note: str | None) -> None:
        seen.append(note)

    unsayable = {"text": "\ud800", "number": math.nan, "object": object()}
    broken = Task(lambda kind: unsayable[kind], name="broken", tool=True)
    noting = Task(lambda: progress(1, 2, "\ud800"), name="noting", tool=True)
    failing = Task(lambda: (_ for _ in ()).throw(ValueError("\ud800")), name="failing", tool=True)
    async with Runtime([LocalBackend()]) as rt:
        tools = [*TOOLS, broken, noting]
        async with Client(Tools(rt, lambda _scope: tools, tracebacks=True).server, mode=mode) as client:
            for kind, complaint in {
                "text": "surrogates not allowed",
                "number": "is nan",
                "object": "cannot be JSON",
            }.items():
                assert complaint in await complaint_about(client, "broken", kind=kind)
            assert len(await result_of(client, "nested", depth=DEEPEST - 1)) == 1
            for depth in (DEEPEST, 199, 253, 900):
                assert "nested more than 128 deep" in await complaint_about(client, "nested", depth=depth)
            assert "nested without end" in await complaint_about(client, "nested", depth=100_000)
            await client.call_tool("noting", {}, progress_callback=hear)
            assert await result_of(client, "add", a=1) == 1
        async with Client(Tools(rt, lambda _scope: [failing], tracebacks=True).server, mode=mode) as client:
            assert "ValueError: ?" in await complaint_about(client, "failing")
            assert len((await client.list_tools()).tools) == 1
    assert seen == ["?"]


async def test_a_bug_at_the_server_is_logged_there_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """A client learns that it was not its fault, and nothing of what is inside."""

    def refuse(_scope: Scope, _task: AnyTask) -> Any:
        raise KeyError("the password is swordfish")

    async with in_memory(admit=refuse) as client:
        told = await complaint_about(client, "add", a=1)
    assert "swordfish" not in told
    assert "swordfish" in caplog.text


# Progress


@pytest.mark.parametrize("place", [LocalBackend, WorkerBackend])
@pytest.mark.parametrize("mode", MODES)
async def test_progress_reaches_the_client_while_the_task_runs(
    mode: str, place: type[LocalBackend | WorkerBackend], tmp_path: Path
) -> None:
    """A client that asks hears how far a call is, from this process and from workers."""
    heard: asyncio.Queue[tuple[float, float | None, str | None]] = asyncio.Queue()

    async def hear(done: float, total: float | None, note: str | None) -> None:
        heard.put_nowait((done, total, note))

    async with in_memory(Runtime([place()]), mode=mode) as client:
        call = client.call_tool("report_and_hold", {"folder": str(tmp_path)}, progress_callback=hear)
        answer = asyncio.create_task(call)
        assert await heard.get() == (1, 2, "half way")
        assert not answer.done()
        (tmp_path / "go").touch()
        assert text_of(await answer) == '"done"'
    assert heard.empty()


async def test_progress_only_goes_up_and_ends_with_the_last() -> None:
    """The protocol wants each report to be further than the one before; what JSON cannot say is left out."""
    heard: list[float] = []

    async def hear(done: float, _total: float | None, _note: str | None) -> None:
        heard.append(done)

    async with in_memory() as client:
        steps = [1.0, 1.0, 5.0, 3.0, 7.0, 7.5, 2.0]
        await client.call_tool("report", {"steps": steps}, progress_callback=hear)
    assert heard == sorted(set(heard))
    assert heard[-1] == 7.5


async def test_a_client_that_does_not_ask_hears_nothing() -> None:
    """Nor does a task that reports do any worse for it."""
    async with in_memory() as client:
        assert await result_of(client, "report", steps=[1, 2]) == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["countdown", "countdown_async"])
async def test_the_items_of_a_generator_are_progress_and_in_the_end_a_list(name: str, mode: str) -> None:
    """Each item is told as JSON while the task runs; the result has all of them."""
    heard: list[tuple[float, str | None]] = []

    async def hear(done: float, _total: float | None, note: str | None) -> None:
        heard.append((done, note))

    async with in_memory(mode=mode) as client:
        answer = await client.call_tool(name, {"start": 3}, progress_callback=hear)
        assert answer.structured_content == {"result": [3, 2, 1]}
        assert heard == [(1, "3"), (2, "2"), (3, "1")]
        assert await result_of(client, name, start=0) == []


# Cancellation


@pytest.mark.parametrize("mode", MODES)
async def test_a_withdrawn_call_stops_its_worker(mode: str, tmp_path: Path) -> None:
    """A task that would compute for ever is gone with the call, process and all; the next one is answered."""
    async with in_memory(Runtime([WorkerBackend(1)]), mode=mode) as client:
        call = asyncio.create_task(client.call_tool("spin", {"folder": str(tmp_path)}))
        await until((tmp_path / "begun").exists)
        pid = int((tmp_path / "begun").read_text())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: is_gone(pid))
        assert await result_of(client, "add", a=1) == 1


async def test_a_withdrawn_generator_is_closed(tmp_path: Path) -> None:
    """Its `finally` runs."""
    async with in_memory() as client:
        call = asyncio.create_task(client.call_tool("tick", {"folder": str(tmp_path)}))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        started = asyncio.Event()

        async def hear(*_report: object) -> None:
            started.set()

        call = asyncio.create_task(client.call_tool("tick", {"folder": str(tmp_path)}, progress_callback=hear))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until((tmp_path / "stopped").exists)


# Over HTTP


@pytest.mark.parametrize("mode", MODES)
async def test_tools_are_offered_over_http(mode: str, tmp_path: Path) -> None:
    """The same list, results, errors and progress, from a server on a port."""
    heard: list[float] = []

    async def hear(done: float, _total: float | None, _note: str | None) -> None:
        heard.append(done)

    async with (
        Runtime([LocalBackend()]) as rt,
        served(tools_app(rt, everything)) as url,
        Client(url, mode=mode) as client,
    ):
        assert [tool.name for tool in (await client.list_tools()).tools] == [task.name for task in TOOLS]
        assert await result_of(client, "add", a=40, b=2) == 42
        assert await result_of(client, "nothing") is None
        assert await result_of(client, "echo", value={"a": [None, 2**70]}) == {"a": [None, 2**70]}
        assert "Expected `int`, got `str` - at `$.a`" in await complaint_about(client, "add", a="2")
        answer = await client.call_tool("countdown", {"start": 3}, progress_callback=hear)
        assert answer.structured_content == {"result": [3, 2, 1]}
        assert heard == [1, 2, 3]
        with pytest.raises(MCPError, match="no tool 'secret' here"):
            await client.call_tool("secret", {})


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_withdrawn_over_http_stops_its_worker(mode: str, tmp_path: Path) -> None:
    """Today's clients close the stream, older ones send a notification: the task is gone either way."""
    async with (
        Runtime([WorkerBackend(1)]) as rt,
        served(tools_app(rt, everything)) as url,
        Client(url, mode=mode) as client,
    ):
        call = asyncio.create_task(client.call_tool("spin", {"folder": str(tmp_path)}))
        await until((tmp_path / "begun").exists)
        pid = int((tmp_path / "begun").read_text())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: is_gone(pid))
        assert await result_of(client, "add", a=1) == 1


async def test_each_sees_tools_of_their_own() -> None:
    """Which tasks there are is asked for each request, so that tenants never meet each other's."""

    def visible(scope: Scope) -> Iterable[AnyTask]:
        return {b"alice": [toolbox.add], b"bob": [toolbox.echo]}.get(dict(scope["headers"]).get(b"x-tenant", b""), [])

    async with Runtime([LocalBackend()]) as rt, served(tools_app(rt, visible)) as url:
        for mode in MODES:
            async with known_as("alice", url, mode) as client:
                assert [tool.name for tool in (await client.list_tools()).tools] == ["add"]
                assert await result_of(client, "add", a=1) == 1
                with pytest.raises(MCPError, match="no tool 'echo' here"):
                    await client.call_tool("echo", {})
            async with known_as("bob", url, mode) as client:
                assert [tool.name for tool in (await client.list_tools()).tools] == ["echo"]
            async with known_as("eve", url, mode) as client:
                assert (await client.list_tools()).tools == []


@asynccontextmanager
async def known_as(tenant: str, url: str, mode: str) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers={"x-tenant": tenant}) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            yield client


async def test_a_call_is_let_in_or_told_why_not(tmp_path: Path) -> None:
    """A server around decides by which verbs a call is made, how many there are, and in what words it refuses."""
    entered: list[str] = []

    @asynccontextmanager
    async def admit(verbs: Verbs, scope: Scope, task: AnyTask) -> AsyncIterator[Verbs]:
        assert scope["path"] == "/mcp"
        if task.name == "echo":
            raise LimitExceeded("come back tomorrow", backend="here")
        entered.append(task.name)
        yield verbs.options(timeout=0.05) if task.name == "hold" else verbs
        entered.append("left")

    async with Runtime([LocalBackend()]) as rt:
        app = tools_app(rt, everything, admit=partial(admit, rt))
        async with served(app) as url, Client(url) as client:
            assert await result_of(client, "add", a=1) == 1
            assert entered == ["add", "left"]
            assert await complaint_about(client, "echo") == "come back tomorrow"
            refused = await client.call_tool("echo", {})
            assert refused.meta is not None
            assert refused.meta[ERROR_KEY]["code"] == "limit_exceeded"
            assert "after 0.05 s" in await complaint_about(client, "hold", folder=str(tmp_path))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"content-type": "text/plain"}, 400),
        ({"origin": "https://ours.example"}, 200),
    ],
)
async def test_no_page_of_a_stranger_reaches_the_tools(headers: dict[str, str], status: int) -> None:
    """A browser that was led astray is turned away: by its origin, by a name that is not ours, by its content type."""
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    usual = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    async with Runtime([LocalBackend()]) as rt:
        async with served(tools_app(rt, everything, origins=["https://ours.example"])) as url:
            async with httpx2.AsyncClient() as http:
                body = json.dumps({**hello, "params": params})
                answer = await http.post(url, content=body, headers={**usual, **headers})
    assert answer.status_code == status


async def test_a_request_that_is_too_large_is_refused() -> None:
    """The limit is the server's to set."""
    async with Runtime([LocalBackend()]) as rt, served(tools_app(rt, everything, body=4096)) as url:
        async with Client(url) as client:
            assert await result_of(client, "echo", value="x" * 1000) == "x" * 1000
            with pytest.raises(MCPError):
                await client.call_tool("echo", {"value": "x" * 5000})
            assert await result_of(client, "add", a=1) == 1


async def test_an_app_that_is_not_running_says_what_to_do() -> None:
    """A mount without its lifespan is a mistake of the program, and is named as such; it can run again afterwards."""
    async with Runtime([LocalBackend()]) as rt:
        app = tools_app(rt, everything)
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"app\.running\(\)"):
                await app({"type": "http"}, None, None)
            async with served(app) as url, Client(url) as client:
                assert await result_of(client, "add", a=1) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_that_stops_stops_its_calls(mode: str, tmp_path: Path) -> None:
    """Whoever waits gets an error, and no worker goes on."""
    async with Runtime([WorkerBackend(1)]) as rt:
        async with contextlib.AsyncExitStack() as server:
            url = await server.enter_async_context(served(tools_app(rt, everything)))
            async with Client(url, mode=mode) as client:
                call = asyncio.create_task(client.call_tool("spin", {"folder": str(tmp_path)}))
                await until((tmp_path / "begun").exists)
                await server.aclose()
                with pytest.raises(MCPError):
                    await call
        pid = int((tmp_path / "begun").read_text())
        await until(lambda: is_gone(pid))


def test_a_server_of_the_sdk_is_what_is_made() -> None:
    """Who has a transport of another kind can carry the tools by it."""
    assert isinstance(Tools(Runtime([LocalBackend()]), everything).server, Server)
