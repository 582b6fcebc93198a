"""`hybrid-compute mcp`: the tasks of a module as tools, for a client that starts the command."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, TextContent

from hybrid_compute.cli import mcp as command
from hybrid_compute.cli.exits import Misuse
from tests.cli.command import COMMAND, hybrid_compute, started
from tests.faults.watching import until
from tests.server import toolbox

pytestmark = pytest.mark.timeout(60)

MODES = ["auto", "legacy"]


@asynccontextmanager
async def talking_to(*arguments: str, mode: str = "auto", heard: Path | None = None) -> AsyncIterator[Client]:
    """A client of the command; what comes on standard error goes to a file."""
    program, *typed = COMMAND
    server = StdioServerParameters(command=program, args=[*typed, "mcp", *arguments])
    with (heard or Path(os.devnull)).open("w") as errors:
        async with Client(stdio_client(server, errlog=errors), mode=mode) as client:
            yield client


def text_of(answer: CallToolResult) -> str:
    [content] = answer.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_finds_and_calls_the_tools_of_a_module(mode: str) -> None:
    """Results, items as they come, and errors, through the pipes of a real process."""
    heard: list[tuple[float, str | None]] = []

    async def hear(done: float, _total: float | None, note: str | None) -> None:
        heard.append((done, note))

    async with talking_to(toolbox.__file__, mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == [task.name for task in toolbox.TOOLS]
        assert (await client.call_tool("add", {"a": 40, "b": 2})).structured_content == {"result": 42}
        assert (await client.call_tool("nothing")).structured_content == {"result": None}
        assert (await client.call_tool("echo", {"value": 2**70})).structured_content == {"result": 2**70}
        assert "at `$.a`" in text_of(await client.call_tool("add", {"a": "2"}))
        assert text_of(await client.call_tool("boom", {"text": "odd"})) == "task 'boom' raised ValueError: odd"
        answer = await client.call_tool("countdown", {"start": 3}, progress_callback=hear)
        assert answer.structured_content == {"result": [3, 2, 1]}
        assert heard == [(1, "3"), (2, "2"), (3, "1")]
        for depth in (127, 128, 199, 253, 900):  # beyond what the wire carries, an answer all the same
            assert (await client.call_tool("nested", {"depth": depth})).is_error is (depth > 127)
        assert "ValueError" in text_of(await client.call_tool("boom", {"text": "\N{SNOWMAN}"}))


@pytest.mark.parametrize("strategy", ["local", "worker"])
async def test_what_is_printed_stays_out_of_the_protocol(strategy: str, tmp_path: Path) -> None:
    """By a module, by a task and by a program that a task starts; and nobody reads what was meant for us."""
    module = tmp_path / "talkative.py"
    module.write_text(
        "import os, sys\n"
        "from hybrid_compute import task\n"
        "print('the module speaks')\n"
        "@task(tool=True)\n"
        "def talk() -> str:\n"
        "    print('the task speaks', flush=True)\n"
        "    os.system('echo a program speaks; cat')\n"
        "    return os.read(0, 100).decode() or 'nothing to read'\n"
    )
    async with talking_to(str(module), "--strategy", strategy, heard=tmp_path / "heard") as client:
        for _ in range(3):
            assert text_of(await client.call_tool("talk")) == '"nothing to read"'
    heard = (tmp_path / "heard").read_text()
    assert "the module speaks" in heard
    assert heard.count("the task speaks") == 3
    assert heard.count("a program speaks") == 3


async def test_tools_can_be_named() -> None:
    """A module that knows nothing of tools is offered by a list of names, and only what is on it."""
    async with talking_to(
        "hybrid_compute.testing.tasks", "--tool", "contract.add", "--tool", "contract.echo"
    ) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["contract.add", "contract.echo"]
        assert (await client.call_tool("contract.add", {"a": 1, "b": 2})).structured_content == {"result": 3}


async def test_limits_and_tracebacks_are_as_typed(tmp_path: Path) -> None:
    """A call ends in time, and the place where it failed is told if that is allowed."""
    async with talking_to(toolbox.__file__, "--timeout", "0.2") as client:
        assert "after 0.2 s" in text_of(await client.call_tool("spin", {"folder": str(tmp_path)}))
    async with talking_to(toolbox.__file__, "--tracebacks") as client:
        assert "in boom" in text_of(await client.call_tool("boom", {"text": "odd"}))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["shop"], "no task of shop is a tool: mark tasks with @task(tool=True), or name them with --tool"),
        (["shop", "--tool", "halve"], "no task is named 'halve', so it cannot be a tool; known tasks: count_to, "),
        (["nowhere"], "cannot import nowhere"),
        (["shop", "--tool", "double", "--strategy", "moon"], "no strategy or backend named 'moon'"),
    ],
)
def test_what_cannot_be_offered_is_said_at_once(arguments: list[str], complaint: str) -> None:
    """One line on standard error, before any client waits for an answer; nothing on standard output."""
    ran = hybrid_compute("mcp", *arguments)
    assert ran.returncode == 2
    assert complaint in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert ran.stdout == ""


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("@task(tool=True, name='a b')\ndef f() -> None: ...\n", "'a b'"),
        ("@task(tool=True)\ndef f(x: 'Missing') -> None: ...\n", "name 'Missing' is not defined"),
    ],
    ids=["name", "hints"],
)
def test_a_task_that_cannot_be_a_tool_is_named(source: str, complaint: str, tmp_path: Path) -> None:
    """Rather than met by the first client that lists the tools."""
    module = tmp_path / "wrong.py"
    module.write_text(f"from hybrid_compute import task\n{source}")
    ran = hybrid_compute("mcp", module)
    assert ran.returncode == 2
    assert complaint in ran.stderr


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is there; what speaks the protocol is an extra."""
    monkeypatch.setattr(command, "find_spec", lambda _name: None)
    with pytest.raises(Misuse, match=r"install hybrid-compute\[mcp\]"):
        command.load_tools("shop", None)


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def say(process: subprocess.Popen[str], message: dict[str, Any] | str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{message if isinstance(message, str) else json.dumps(message)}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    heard: dict[str, Any] = json.loads(process.stdout.readline())
    return heard


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def test_lines_that_are_no_messages_are_passed_over() -> None:
    """Blank lines, garbage and what is nested without end cost nobody the connection."""
    with started("mcp", toolbox.__file__) as process:
        for line in ("", "garbage", "[" * 5000, '{"jsonrpc": "2.0"}', "\x00\ud83d".encode("utf-8", "replace").decode()):
            say(process, line)
        say(process, HELLO)
        assert hear(process)["id"] == 1
        say(process, READY)
        say(process, call("add", a=1))
        assert hear(process)["result"]["structuredContent"] == {"result": 1}


def test_when_the_client_has_gone_everything_stops(tmp_path: Path) -> None:
    """The end of its input ends the command well, and the worker that was at a call."""
    with started("mcp", toolbox.__file__) as process:
        say(process, HELLO)
        hear(process)
        say(process, READY)
        say(process, call("spin", folder=str(tmp_path)))
        asyncio.run(until((tmp_path / "begun").exists))
        pid = int((tmp_path / "begun").read_text())
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
        asyncio.run(until(lambda: not Path(f"/proc/{pid}").exists()))
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_ctrl_c_ends_it_although_the_client_is_there(busy: bool, tmp_path: Path) -> None:
    """Nothing waits for input that does not come; one line says what happened."""
    with started("mcp", toolbox.__file__) as process:
        say(process, HELLO)
        hear(process)
        say(process, READY)
        if busy:
            say(process, call("spin", folder=str(tmp_path)))
            asyncio.run(until((tmp_path / "begun").exists))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "hybrid-compute: interrupted\n"


@pytest.mark.parametrize("mode", MODES)
async def test_a_withdrawn_call_stops_its_worker(mode: str, tmp_path: Path) -> None:
    """The client's notification reaches the task, which would compute for ever."""
    async with talking_to(toolbox.__file__, mode=mode) as client:
        running = asyncio.create_task(client.call_tool("spin", {"folder": str(tmp_path)}))
        await until((tmp_path / "begun").exists)
        pid = int((tmp_path / "begun").read_text())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: not Path(f"/proc/{pid}").exists())
        assert (await client.call_tool("add", {"a": 1})).structured_content == {"result": 1}


def test_nothing_of_it_is_loaded_by_other_commands() -> None:
    """The SDK takes half a second to load, which only those pay who need it."""
    program = "import sys; from hybrid_compute.cli import app; print('mcp' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
