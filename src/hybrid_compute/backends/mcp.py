"""The tools of an MCP server, as tasks. Needs `hybrid-compute[mcp]`.

    Runtime ── run_call ──> McpBackend ── a call of a tool ──> the server: a command of its own, or a URL

A connection that is lost ends the calls that were under way on it, and the next call opens another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.tool_tasks import task_for
from hybrid_compute.calls import Call
from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    BackendUnavailable,
    ConnectionLost,
    HybridComputeError,
    InvalidInput,
    NotTransferable,
    RemoteProtocolError,
    TaskFailed,
)
from hybrid_compute.links.mcp import Connection, NoAnswer, Target
from hybrid_compute.links.told import told
from hybrid_compute.links.tools import failure_in, read
from hybrid_compute.schema import as_object, encode_json, output_type, result_from_json, result_from_value
from hybrid_compute.tasks import AnyTask

if TYPE_CHECKING:
    from mcp_types import CallToolResult, Tool

PATIENCE = 30.0
"""Seconds that a server has to start and to say what it offers."""


class McpBackend(Backend):
    """A place whose tasks are the tools of an MCP server, found by name.

    `McpBackend("uvx", "some-server")` starts a command and talks to it by its standard input and output;
    `McpBackend("https://example.org/mcp")` talks to a server that runs, with `headers` if it wants a token. `env` is
    what the command finds in its environment besides the usual. Anything else that the SDK's `Client` takes will do.

    `tasks()` makes tasks of the tools, which a runtime can then run by name. A task of yours that has the name of a
    tool runs there too, and its result is of the type that it says it returns. Arguments go as JSON. What such a
    server does with them nobody knows, so private tasks never go there, unless you say that it is `on_this_machine`.

        async with Runtime([LocalBackend(), files := McpBackend("uvx", "some-server", name="files")]) as rt:
            for tool in files.tasks():
                rt.tasks.add(tool)
            print(await rt.run("read_file", path="notes.txt"))
    """

    rank = 3

    def __init__(
        self,
        server: Any,
        *arguments: str,
        name: str = "mcp",
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        on_this_machine: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        self.name = name
        self.provides = frozenset({"cpu", name})
        self.on_this_machine = on_this_machine
        self._target = Target(name, server, arguments, dict(env or {}), dict(headers or {}))
        self._patience = patience
        self._tools: dict[str, Tool] = {}
        self._tasks: dict[str, AnyTask] = {}
        self._connection: Connection | None = None
        self._open: set[Connection] = set()
        self._connecting = asyncio.Lock()

    def can_run(self, task: AnyTask, /) -> bool:
        return task.name in self._tools and not task.streams and not self.closed

    def why_not(self, task: AnyTask, /) -> str:
        if self.closed:
            return self._is_closed
        if self._connection is None:
            return "it is not connected to its server yet"
        if not self._tools:
            return "its server offers no tools"
        if task.name not in self._tools:
            return f"its server has no such tool, but {', '.join(sorted(self._tools))}"
        return super().why_not(task)

    def tasks(self) -> list[AnyTask]:
        """A task for each tool that the server offers. They run nowhere else. Known once the backend is started."""
        return list(self._tasks.values())

    async def start(self) -> None:
        """Connect, and learn which tools there are. Raises `BackendUnavailable` if that does not succeed."""
        await self._connected()

    async def aclose(self) -> None:
        await super().aclose()
        for connection in list(self._open):
            await connection.close()

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self._ask(Call(task, args, kwargs))

    async def run_call(self, call: Call, /) -> Any:
        async with self.within_limits(call):
            return await self._ask(call)

    async def _ask(self, call: Call) -> Any:
        arguments = self._arguments(call)
        connection = await self._connected()
        began = perf_counter()
        try:
            with connection.in_use():
                answer = await connection.call(call.task.name, arguments, self._listener(call))
        except NoAnswer as error:
            raise self._why(error, call.task, connection) from error.__cause__
        finally:
            call.ran = perf_counter() - began
        return self._result(call.task, answer)

    def _arguments(self, call: Call) -> dict[str, Any]:
        given = as_object(call.task, call.args, call.kwargs)
        try:
            return read(encode_json(given))  # type: ignore[no-any-return]
        except NotTransferable as error:
            reason = f"an argument of task {call.task.name!r} cannot go to {self.name}: {error}"
            raise NotTransferable(reason) from error

    def _listener(self, call: Call) -> Callable[[float, float | None, str | None], Coroutine[Any, Any, None]] | None:
        if not self.hooks and call.listener is None:
            return None

        async def hear(done: float, total: float | None, message: str | None) -> None:
            self.hooks.report(call, done, total, message or "")

        return hear

    def _result(self, task: AnyTask, answer: CallToolResult) -> Any:
        if answer.is_error:
            raise self._failure(task, answer)
        try:
            return _value(task, answer, self._tools.get(task.name))
        except (msgspec.MsgspecError, InvalidInput, UnicodeError, RecursionError) as error:
            reason = f"the result of tool {task.name!r} at {self.name} is not what the task says it returns: {error}"
            raise RemoteProtocolError(reason) from error

    def _failure(self, task: AnyTask, answer: CallToolResult) -> HybridComputeError:
        text = "\n".join(_texts(answer)) or "it does not say why"
        failure = failure_in(answer.meta, text)
        if failure is not None:
            return told(failure, task, self.name)
        return TaskFailed(f"tool {task.name!r} at {self.name} failed: {text}")

    def _why(self, error: NoAnswer, task: AnyTask, connection: Connection) -> HybridComputeError:
        """What it means that the server has not answered a call."""
        call = f"a call of {task.name!r}"
        if self.closed:
            return BackendClosed(self._is_closed, backend=self.name, started=True)
        match error.kind:
            case "lost":
                connection.retire()
                reason = f"the connection to {self._target} was lost during {call}: {error}"
                return ConnectionLost(reason, backend=self.name, started=True)
            case "refused":
                return InvalidInput(f"{self._target} refused {call}: {error}")
            case "garbled":
                return RemoteProtocolError(f"{self._target} did not answer {call} as it should: {error}")
            case _:
                reason = f"{self._target} could not answer {call}: {error}"
                return BackendError(reason, backend=self.name, started=True)

    # Connections.

    async def _connected(self) -> Connection:
        self.check_open()
        async with self._connecting:
            if self._connection is None or self._connection.retired:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> Connection:
        if find_spec("mcp") is None:
            raise BackendUnavailable(f"{self.name} is not available: install hybrid-compute[mcp]", backend=self.name)
        connection = Connection(self._target)
        self._open.add(connection)
        connection.done.add_done_callback(lambda _: self._open.discard(connection))
        try:
            async with asyncio.timeout(self._patience):
                tools = await connection.opened()
        except TimeoutError:
            reason = f"it has not answered within {self._patience:g} s"
        except Exception as error:
            reason = _reason(error)
        else:
            self._learn(tools)
            return connection
        finally:
            if not connection.is_open:
                connection.done.cancel()
        if self.closed:
            raise BackendClosed(self._is_closed, backend=self.name)
        raise BackendUnavailable(f"cannot connect to {self._target}: {reason}", backend=self.name)

    def _learn(self, tools: list[Tool]) -> None:
        """Keep the tasks of tools that are as they were: a runtime has measured them, and may have them by name."""
        known = self._tools
        self._tools = {tool.name: tool for tool in tools}
        self._tasks = {
            name: self._tasks[name] if known.get(name) == tool else task_for(tool, self.name, str(self._target))
            for name, tool in self._tools.items()
        }


def _reason(error: BaseException) -> str:
    """The innermost reasons of a failure, which the SDK wraps in groups."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_reason, error.exceptions))
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _value(task: AnyTask, answer: CallToolResult, tool: Tool | None) -> Any:
    """The result of a tool as the task returns it."""
    if answer.structured_content is not None:
        return result_from_value(task, _unwrapped(answer.structured_content, tool))
    texts = _texts(answer)
    if len(texts) != len(answer.content):  # images and the like
        blocks = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in answer.content]
        return result_from_value(task, blocks)
    if output_type(task) in (str, Any):
        return "\n".join(texts)
    return result_from_json(task, "\n".join(texts).encode())


def _unwrapped(content: Any, tool: Tool | None) -> Any:
    """What the protocol wants in an object, where the tool says that the object is only there for that."""
    promised = (tool.output_schema or {}).get("properties", {}) if tool is not None else {}
    wrapped = isinstance(content, dict) and content.keys() == promised.keys() == {"result"}
    return content["result"] if wrapped else content


def _texts(answer: CallToolResult) -> list[str]:
    return [text for each in answer.content if isinstance(text := getattr(each, "text", None), str)]
