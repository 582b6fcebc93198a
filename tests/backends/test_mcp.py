"""Tools of MCP servers as tasks: of our own server, and of one that knows nothing of us, by command and by URL."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcp import StdioServerParameters
from mcp.server import Server
from mcp_types import CallToolResult, ListToolsResult, PaginatedRequestParams, TextContent, Tool

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.mcp import McpBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.calls import Call
from hybrid_compute.clock import Clock, ManualClock
from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    BackendUnavailable,
    ConnectionLost,
    InvalidInput,
    NoBackendAvailable,
    NotTransferable,
    PolicyRefused,
    RemoteProtocolError,
    TaskFailed,
    TaskTimeout,
)
from hybrid_compute.events import Event, Progress
from hybrid_compute.reporting import heard_by
from hybrid_compute.runtime import Runtime
from hybrid_compute.schema import object_schema
from hybrid_compute.server.mcp import Scope, Tools, tools_app
from hybrid_compute.tasks import AnyTask, Task, task
from hybrid_compute.testing import BackendContract, tasks
from tests.faults.watching import until
from tests.server import toolbox
from tests.server.offering import served

pytestmark = pytest.mark.timeout(60)

HERE = Path(__file__).parent
FOREIGN = (sys.executable, str(HERE / "foreign_tools.py"))
OURS = (sys.executable, "-m", "hybrid_compute", "mcp", toolbox.__file__, "--strategy", "local")
CONTRACT: list[AnyTask] = [each for each in vars(tasks).values() if isinstance(each, Task)]


class TestMcpBackend(BackendContract):
    """The contract, as far as JSON and a foreign process can keep it."""

    streams = False
    values = (None, True, 0, -(2**63), 2**5000, 1.5, "", "naïve 漢字 🙂 \0", [], {"a": None, "b": [1, [2, {}]]})
    large = 1 << 20
    invalid_input = InvalidInput
    keeps_causes = False
    keeps_tracebacks = False

    inner: Runtime | None = None

    def make_backend(self) -> Backend:
        inner = self.inner or Runtime([LocalBackend()])
        return McpBackend(Tools(inner, lambda _scope: CONTRACT, names=[each.name for each in CONTRACT]).server)

    @asynccontextmanager
    async def opened(self, clock: Clock | None = None) -> AsyncGenerator[Backend]:
        async with Runtime([LocalBackend()]) as self.inner, super().opened(clock) as backend:
            yield backend

    async def test_it_takes_many_bytes(self) -> None:
        """Bytes are text in JSON, and bytes again where the task says that it returns them."""
        value = bytes(range(256)) * (self.large // 256)

        @task(name="contract.echo")
        def echo(value: bytes) -> bytes:
            raise AssertionError

        async with self.opened() as backend:
            assert await backend.run_call(Call(echo, (value,))) == value


@pytest.mark.slow
class TestMcpBackendWithACommand(TestMcpBackend):
    """The same with a process for each test."""

    def make_backend(self) -> Backend:
        named = [word for each in CONTRACT for word in ("--tool", each.name)]
        return McpBackend(sys.executable, "-m", "hybrid_compute", "mcp", "hybrid_compute.testing.tasks", *named)


@asynccontextmanager
async def connected(*server: Any, clock: Clock | None = None) -> AsyncIterator[tuple[Runtime, McpBackend]]:
    """A runtime with the tools of a server, by name."""
    backend = McpBackend(*server)
    async with Runtime([LocalBackend(), backend], clock=clock) as rt:
        for each in backend.tasks():
            rt.tasks.add(each)
        yield rt, backend


@asynccontextmanager
async def in_memory(*offered: AnyTask, runtime: Runtime | None = None) -> AsyncIterator[tuple[Runtime, McpBackend]]:
    """The same for tasks of ours, without a wire."""
    async with runtime or Runtime([LocalBackend()]) as inner:
        tools = Tools(inner, lambda _scope: offered, names=[each.name for each in offered])
        async with connected(tools.server) as both:
            yield both


# Tools as tasks


async def test_tools_run_by_name() -> None:
    """A tool of a server that somebody else wrote is run like any task."""
    async with connected(*FOREIGN) as (rt, backend):
        assert await rt.run("shout", text="hi", times=2) == "HIHI"
        assert await rt.run("shout", "hi") == "HI"
        assert await rt.run("facts", of="x") == {"of": "x", "size": 3}
        assert await rt.run("plainly", "as it is") == "as it is"
        assert await rt.map("shout", ["a", "b", "c"]) == ["A", "B", "C"]
        assert await rt.run("picture") == [
            {"type": "text", "text": "a picture"},
            {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        ]
        assert "mcp" in str(rt.explain("shout", "hi"))
        assert [each.name for each in backend.tasks()][:2] == ["shout", "facts"]


async def test_a_tool_is_a_task_with_the_types_of_its_schema() -> None:
    """It has its description, its parameters and their types, and is pure if the server says that it only reads."""
    async with connected(*FOREIGN) as (rt, _):
        shout, facts = rt.tasks["shout"], rt.tasks["facts"]
        assert shout.__doc__ == "The text, louder."
        properties = object_schema(shout)["input"]["properties"]
        assert {name: each["type"] for name, each in properties.items()} == {"text": "string", "times": "integer"}
        assert object_schema(shout)["input"]["required"] == ["text"]
        assert (shout.pure, facts.pure, shout.tool) == (False, True, False)
        with pytest.raises(InvalidInput, match="missing a required argument: 'text'"):
            await rt.run("shout")


async def test_a_tool_runs_nowhere_else() -> None:
    """It has no code here: called directly it says so, and no other place takes it for an empty function."""
    async with Runtime([WorkerBackend(1), LocalBackend(), backend := McpBackend(*FOREIGN, name="foreign")]) as rt:
        shout = backend.tasks()[0]
        assert rt.explain(shout, "hi").order == ("foreign",)
        with pytest.raises(BackendUnavailable, match=r"tool 'shout' runs at the MCP server 'foreign' \(.*\) alone"):
            shout("hi")
        with pytest.raises(NoBackendAvailable, match="it does not provide foreign"):
            await rt.options(strategy="local").run(shout, "hi")


class Point(msgspec.Struct):
    x: float
    y: float = 0.0


async def test_a_task_of_that_name_runs_at_the_server_and_keeps_its_types() -> None:
    """Arguments go as JSON and the result is what the task returns, not just a dictionary."""

    @task(name="mirrored", needs={"mcp"})
    def mirrored(point: Point) -> Point:
        raise AssertionError("this is to run at the server")

    async with in_memory(*toolbox.TOOLS) as (rt, _):
        assert await rt.run(mirrored, Point(1, 2)) == Point(-1, -2)
        assert await rt.run("add", 40, b=2) == 42
        assert await rt.run("joined", words=["a", "b"]) == "a b"
        assert await rt.run("named", ann=30, bob=40) == {"ann": 30, "bob": 40}
        assert await rt.run("nothing") is None
        assert await rt.run("countdown", 3) == [3, 2, 1]


async def test_parameters_that_python_cannot_name_can_be_given() -> None:
    """A tool of another language may call an argument what it likes."""

    async def listed(_context: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
        properties = {"max-count": {"type": "integer"}, "class": {}, "plain": {"type": ["string", "null"]}}
        return ListToolsResult(tools=[Tool(name="odd", input_schema={"type": "object", "properties": properties})])

    async def called(_context: Any, params: Any) -> CallToolResult:
        return CallToolResult(content=[], structured_content=params.arguments)

    async with connected(Server("odd", on_list_tools=listed, on_call_tool=called)) as (rt, _):
        given = {"max-count": 3, "class": "first", "plain": None}
        assert await rt.run("odd", **given) == given
        assert await rt.run("odd", None, other=1) == {"plain": None, "other": 1}


async def test_every_page_of_the_list_is_read() -> None:
    """A server with many tools lists them in pieces."""

    async def listed(_context: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        page = int((params and params.cursor) or 0)
        tool = Tool(name=f"tool{page}", input_schema={"type": "object"})
        return ListToolsResult(tools=[tool], next_cursor=str(page + 1) if page < 4 else None)

    async with connected(Server("pages", on_list_tools=listed)) as (rt, _):
        assert list(rt.tasks) == [f"tool{page}" for page in range(5)]


async def test_a_generator_is_not_for_tools() -> None:
    """What a tool gives comes at once; a place that cannot stream says so."""
    async with in_memory(*toolbox.TOOLS) as (rt, backend):
        assert not backend.can_run(toolbox.countdown)
        assert rt.explain(toolbox.countdown, 3).refusals["mcp"] == "it cannot run generator tasks"
        assert rt.explain(abs, 3).refusals["mcp"].startswith("its server has no such tool, but add, boom, countdown")


async def test_a_private_task_never_goes_to_a_server() -> None:
    """Nobody knows what a server does with what it is given; unless its user says so, it has left this machine."""

    @task(name="add", private=True)
    def add(a: int, b: int = 0) -> int:
        raise AssertionError

    async with Runtime([LocalBackend()]) as inner:
        server = Tools(inner, lambda _scope: [toolbox.add]).server
        async with Runtime([McpBackend(server)]) as rt:
            with pytest.raises(PolicyRefused, match="private"):
                await rt.run(add, 1, 2)
        async with Runtime([McpBackend(server, on_this_machine=True)]) as rt:
            assert await rt.run(add, 1, 2) == 3


# Errors


async def test_a_tool_that_fails_is_a_failed_task() -> None:
    """Of a server that has only text for it, the text."""
    async with connected(*FOREIGN) as (rt, _):
        with pytest.raises(TaskFailed, match=r"tool 'fail' at mcp failed: .*odd"):
            await rt.run("fail", text="odd")


async def test_an_error_of_our_own_server_is_the_same_error_here(tmp_path: Path) -> None:
    """Two runtimes with MCP between them are no worse off than with our own wire."""
    hold = Task(toolbox.hold.fn, name="hold", timeout=0.05)
    async with in_memory(toolbox.boom, hold, toolbox.add, toolbox.spin, runtime=Runtime([WorkerBackend(1)])) as (rt, _):
        with pytest.raises(TaskFailed, match="task 'boom' raised ValueError: odd") as caught:
            await rt.run("boom", text="odd")
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(TaskTimeout, match=r"after 0\.05 s"):
            await rt.run("hold", folder=str(tmp_path))
        with pytest.raises(InvalidInput, match=r"Expected `int`, got `str` - at `\$.a`"):
            await rt.run("add", a="1")


async def test_arguments_that_cannot_be_json_stay_here() -> None:
    """The error names the argument; the connection is none the worse."""
    async with in_memory(toolbox.echo, toolbox.add) as (rt, _):
        for value in (object(), float("nan"), "\ud800"):
            with pytest.raises(NotTransferable, match="an argument of task 'echo' cannot go to mcp"):
                await rt.run("echo", value=value)
        deep: list[Any] = []
        for _ in range(500):
            deep = [deep]
        with pytest.raises(NotTransferable, match="nested more than 128 deep"):
            await rt.run("echo", value=deep)
        assert await rt.run("add", 1, 2) == 3


@pytest.mark.parametrize(
    "answer",
    [
        CallToolResult(content=[], structured_content={"result": "no number"}),
        CallToolResult(content=[TextContent(text="no number")]),
        CallToolResult(content=[TextContent(text="1"), TextContent(text="2")]),
    ],
    ids=["structure", "text", "texts"],
)
async def test_a_result_of_another_type_is_an_error_of_the_server(answer: CallToolResult) -> None:
    """A task that returns a number never returns anything else."""

    async def listed(_context: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
        schema = {"type": "object", "properties": {"result": {}}}
        output = schema if answer.structured_content else None
        return ListToolsResult(tools=[Tool(name="count", input_schema={"type": "object"}, output_schema=output)])

    async def called(_context: Any, _params: Any) -> CallToolResult:
        return answer

    @task(needs={"mcp"})
    def count() -> int:
        raise AssertionError

    async with connected(Server("wrong", on_list_tools=listed, on_call_tool=called)) as (rt, _):
        with pytest.raises(RemoteProtocolError, match="the result of tool 'count' at mcp is not what the task says"):
            await rt.run(count)


async def test_a_result_that_breaks_the_promise_of_its_schema_is_an_error_of_the_server() -> None:
    """So is one without the structure that was promised."""

    async def listed(_context: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        return ListToolsResult(tools=[Tool(name="count", input_schema={"type": "object"}, output_schema=schema)])

    async def called(_context: Any, _params: Any) -> CallToolResult:
        return CallToolResult(content=[], structured_content={"n": "many"})

    async with connected(Server("wrong", on_list_tools=listed, on_call_tool=called)) as (rt, _):
        with pytest.raises(RemoteProtocolError, match="did not answer a call of 'count' as it should"):
            await rt.run("count")


async def test_a_server_that_fails_itself_is_a_failed_place() -> None:
    """Its own bug is not the task's, and the call may have begun."""

    async def listed(_context: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="broken", input_schema={"type": "object"})])

    async def called(_context: Any, _params: Any) -> CallToolResult:
        raise KeyError("a bug")

    async with connected(Server("broken", on_list_tools=listed, on_call_tool=called)) as (rt, _):
        with pytest.raises(BackendError, match="could not answer a call of 'broken'") as caught:
            await rt.run("broken")
        assert caught.value.started


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/no/such/program",), "No such file"),
        ((sys.executable, "-c", "pass"), "Connection closed"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), r"it has not answered within 0\.3 s"),
    ],
    ids=["missing", "leaves at once", "silent"],
)
async def test_a_command_that_is_no_server_is_unavailable(command: tuple[str, ...], reason: str) -> None:
    """The runtime does not start, and says which server and why, but not with which arguments."""
    with pytest.raises(BackendUnavailable, match=reason) as caught:
        async with Runtime([McpBackend(*command, name="tools", patience=0.3 if "sleep" in command[-1] else 20.0)]):
            pass
    assert str(caught.value).startswith(f"cannot connect to the MCP server 'tools' ({command[0]}): ")


async def test_a_url_where_nobody_listens_is_unavailable() -> None:
    """Nor is anything told of what else is in the URL."""
    with pytest.raises(BackendUnavailable) as caught:
        await McpBackend("http://user:swordfish@127.0.0.1:1/mcp?key=swordfish").start()
    assert "http://127.0.0.1:1/mcp" in str(caught.value)
    assert "swordfish" not in str(caught.value)


def test_what_does_not_go_together_is_refused() -> None:
    """A URL has no arguments, a command no headers."""
    with pytest.raises(ValueError, match="takes neither arguments nor an environment"):
        McpBackend("http://127.0.0.1/mcp", "--quick")
    with pytest.raises(ValueError, match="headers are for a server that is reached by a URL"):
        McpBackend("python", headers={"Authorization": "Bearer x"})


# Progress, time, cancellation


@pytest.mark.parametrize("strategy", ["auto", "mcp"])
async def test_progress_of_a_tool_is_heard_here(strategy: str, tmp_path: Path) -> None:
    """By hooks and by whoever listens to the call, while it runs."""
    events: list[Event] = []
    heard: list[tuple[float, float | None, str]] = []
    async with connected(*OURS) as (rt, _):
        rt.hooks.append(events.append)
        with heard_by(lambda *report: heard.append(report)):
            call = asyncio.ensure_future(rt.options(strategy=strategy).run("report_and_hold", str(tmp_path)))
            await until(lambda: heard)
            assert not call.done()
            (tmp_path / "go").touch()
            assert await call == "done"
    assert heard == [(1, 2, "half way")]
    [said] = [event for event in events if isinstance(event, Progress)]
    assert (said.task, said.done, said.total, said.note) == ("report_and_hold", 1, 2, "half way")


@pytest.mark.parametrize("way", ["cancelled", "late"])
async def test_a_call_that_is_cancelled_or_late_is_stopped_at_the_server(way: str, tmp_path: Path) -> None:
    """The worker there that would compute for ever is gone."""
    command = OURS[: OURS.index("--strategy")]
    clock = ManualClock()
    async with connected(*command, clock=clock) as (rt, _):
        call = asyncio.ensure_future(rt.options(timeout=3600).run("spin", str(tmp_path)))
        await until((tmp_path / "begun").exists)
        pid = int((tmp_path / "begun").read_text())
        if way == "cancelled":
            call.cancel()
        else:
            clock.advance(3600)
        with pytest.raises(TaskTimeout if way == "late" else asyncio.CancelledError):
            await call
        await until(lambda: not Path(f"/proc/{pid}").exists())
        assert await rt.run("add", 1, 2) == 3


# The end of a connection


async def test_the_death_of_a_server_ends_the_calls_under_way_and_no_others(tmp_path: Path) -> None:
    """Each of them gets `ConnectionLost`, of a task that may have begun; the next call starts the server anew."""
    async with connected(*FOREIGN) as (rt, _):
        assert await rt.run("shout", "before") == "BEFORE"
        calls = [asyncio.ensure_future(rt.run("hold", str(tmp_path))) for _ in range(3)]
        await until((tmp_path / "begun").exists)
        os.kill(int((tmp_path / "begun").read_text()), signal.SIGKILL)
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(answer, ConnectionLost)
            assert answer.started
            assert answer.backend == "mcp"
        assert await rt.run("shout", "after") == "AFTER"
        with pytest.raises(ConnectionLost, match="was lost during a call of 'die'"):
            await rt.run("die")
        assert await rt.run("shout", "again") == "AGAIN"


async def test_a_server_that_died_while_idle_is_not_missed() -> None:
    """The call after it was never under way there: it goes to a new one and knows nothing of it."""
    async with connected(*OURS) as (rt, backend):
        [connection] = backend._open
        for child in children_of(os.getpid()):
            if toolbox.__file__.encode() in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
        await until(lambda: connection.retired)
        known = rt.tasks["add"]
        assert await rt.run("add", 1, 2) == 3
        assert known in backend.tasks()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_server_that_does_not_come_back_is_unavailable(tmp_path: Path) -> None:
    """A call that could not even be sent has not begun, so another place may run it."""
    script = tmp_path / "once.py"
    script.write_text(f"import pathlib; exec(pathlib.Path({FOREIGN[1]!r}).read_text())")

    @task
    def shout(text: str) -> str:
        return f"{text}, said here"

    async with Runtime([McpBackend(sys.executable, str(script)), LocalBackend()], strategy="in_order") as rt:
        assert await rt.run(shout, "x") == "X"
        script.unlink()
        with pytest.raises(ConnectionLost):
            await rt.run(Task(lambda: "", name="die"))
        assert await rt.run(shout, "x") == "x, said here"


async def test_closing_answers_whoever_waits(tmp_path: Path) -> None:
    """The server is stopped, the call ends, and the place says that it is closed."""
    backend = McpBackend(*FOREIGN)
    await backend.start()
    hold = backend.tasks()[[each.name for each in backend.tasks()].index("hold")]
    limited = asyncio.ensure_future(backend.run_call(Call(hold, (str(tmp_path),))))
    unlimited = asyncio.ensure_future(backend.run_task(hold, str(tmp_path)))
    await until((tmp_path / "begun").exists)
    pid = int((tmp_path / "begun").read_text())
    await backend.aclose()
    assert not Path(f"/proc/{pid}").exists()
    for call in (limited, unlimited):
        with pytest.raises(BackendClosed):
            await call
    assert not backend.can_run(hold)
    assert "closed" in backend.why_not(hold)


async def test_closing_while_it_connects_is_harmless() -> None:
    """Nobody is left waiting, and no process either."""
    backend = McpBackend(sys.executable, "-c", "import time; time.sleep(60)")
    starting = asyncio.ensure_future(backend.start())
    await until(lambda: children_of(os.getpid()))
    await backend.aclose()
    with pytest.raises(BackendClosed):
        await starting


async def test_it_can_be_started_by_one_task_and_closed_by_another() -> None:
    """The SDK's scopes belong to one task; a runtime's life need not."""
    backend = McpBackend(*OURS)
    await asyncio.create_task(backend.start())
    assert await asyncio.create_task(backend.run_call(Call(toolbox.add, (1, 2)))) == 3
    await asyncio.create_task(backend.aclose())


async def test_before_it_is_started_it_says_so() -> None:
    """It opens nothing by being made, so it does not know what it can run."""
    backend = McpBackend(*FOREIGN)
    assert not backend.can_run(toolbox.add)
    assert backend.why_not(toolbox.add) == "it is not connected to its server yet"
    assert backend.tasks() == []
    await backend.aclose()


# By URL


@contextmanager
def on_a_port() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The foreign server on a port of this machine; and its URL."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([*FOREIGN, "http", str(port)], stderr=subprocess.DEVNULL) as process:
        try:
            yield process, f"http://127.0.0.1:{port}/mcp"
        finally:
            process.kill()


async def is_up(url: str) -> None:
    port = int(url.split(":")[2].split("/")[0])
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            await writer.wait_closed()
            return


async def test_a_server_is_reached_by_its_url(tmp_path: Path) -> None:
    """The same tools from a server that runs by itself; its death ends the calls that were under way."""
    with on_a_port() as (process, url):
        await is_up(url)
        async with connected(url) as (rt, _):
            assert await rt.run("shout", "hi", times=2) == "HIHI"
            with pytest.raises(TaskFailed, match="odd"):
                await rt.run("fail", text="odd")
            calls = [asyncio.ensure_future(rt.run("hold", str(tmp_path))) for _ in range(2)]
            await until((tmp_path / "begun").exists)
            process.kill()
            for answer in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(answer, ConnectionLost)
            with pytest.raises((BackendUnavailable, ConnectionLost, NoBackendAvailable)):
                await rt.run("shout", "hi")


async def test_headers_go_with_every_request() -> None:
    """A server that knows its clients by a token knows this one; without it there is nothing to be found."""

    def visible(scope: Scope) -> list[AnyTask]:
        return [toolbox.add] if dict(scope["headers"]).get(b"authorization") == b"Bearer swordfish" else []

    async with Runtime([LocalBackend()]) as inner, served(tools_app(inner, visible)) as url:
        async with Runtime([McpBackend(url, headers={"Authorization": "Bearer swordfish"})]) as rt:
            assert await rt.run(toolbox.add, 1, 2) == 3
        async with Runtime([McpBackend(url)]) as rt:
            with pytest.raises(NoBackendAvailable, match="its server offers no tools"):
                await rt.run(toolbox.add, 1, 2)


async def test_parameters_of_the_sdk_will_do_as_well() -> None:
    """Who wants a working directory or another encoding says so in the SDK's own words."""
    async with connected(StdioServerParameters(command=FOREIGN[0], args=["foreign_tools.py"], cwd=HERE)) as (rt, _):
        assert await rt.run("shout", "hi") == "HI"
