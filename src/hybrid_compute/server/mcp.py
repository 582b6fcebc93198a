"""Tasks as tools for language models, over the Model Context Protocol. Needs `hybrid-compute[mcp]`.

    tools/list     a tool for each task that is offered, with schemas from its type hints
    tools/call     the arguments, checked ── the runtime ──> {"result": ...}, or the error as text

A task is offered if it says so (`@task(tool=True)`), or if it is on a list of names. What a tool takes and gives is
always an object, as the protocol wants it: arguments by name, and the result as `result`. A generator's result is the
list of its items; each is also told as it comes, as JSON in the message of a progress notification. What other tasks
say by `progress` is told to clients that ask, as far as it goes up, which the protocol insists on.

A client that withdraws a call stops its task. An error of the task is for the model to read, so it is a result; a tool
that is not there is an error of the protocol.

`serve` talks over lines of text, `tools_app` over HTTP. What is spoken there is the SDK's business.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, cast

from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from hybrid_compute.errors import HybridComputeError
from hybrid_compute.links.told import tell
from hybrid_compute.links.tools import error_in_meta, read, sayable
from hybrid_compute.links.wire import Failure
from hybrid_compute.reporting import heard_by
from hybrid_compute.runtime import Verbs
from hybrid_compute.schema import bind_object, encode_json, object_schema
from hybrid_compute.server.sessions import IDLE
from hybrid_compute.tasks import AnyTask, PerTask, TaskRegistry

Scope: TypeAlias = Mapping[str, Any]
"""The ASGI scope of the request that carries a message; empty where there is no HTTP."""

Visible: TypeAlias = Callable[[Scope], Iterable[AnyTask]]
"""Which tasks there are for whoever sends this request."""

Admit: TypeAlias = Callable[[Scope, AnyTask], AbstractAsyncContextManager[Verbs]]
"""Lets a call in, or raises why not; the block is open as long as the call is under way."""

Tell: TypeAlias = Callable[[BaseException], Failure]
"""What a client is told of an error."""

LOCAL_HOSTS: Final = ("127.0.0.1", "127.0.0.1:*", "localhost", "localhost:*", "[::1]", "[::1]:*")
"""Hosts that a request may name where only this machine is served."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")

_log = logging.getLogger("hybrid_compute.server")


def offered(tasks: Iterable[AnyTask], names: Collection[str] | None = None) -> dict[str, AnyTask]:
    """The tasks that are tools, by name: those of these names, else those that are marked so.

    Raises `ValueError` for a name that no tool can have.
    """
    found = {task.name: task for task in tasks if (task.tool if names is None else task.name in names)}
    for name, task in found.items():
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"task {name!r} ({task.where}) cannot be a tool: names of tools have up to 128 letters, digits, "
                f"'_', '.' and '-'; give it another name with @task(name=...)"
            )
    return found


def tools_of(registry: TaskRegistry, names: Collection[str] | None = None) -> list[AnyTask]:
    """The tools among these tasks: see `offered`. Raises `ValueError` if one of the names is unknown."""
    if unknown := [name for name in names or () if name not in registry]:
        known = ", ".join(sorted(registry)) or "none"
        raise ValueError(f"no task is named {unknown[0]!r}, so it cannot be a tool; known tasks: {known}")
    return list(offered((registry[name] for name in registry), names).values())


class Tools:
    """Tasks of a runtime as an MCP server, whatever carries it.

    `visible` says which tasks there are for a request, `names` which of them are tools (those marked `tool=True`, if
    None). `admit` lets a call in and says by which verbs it is made. `tell` says what a client hears of an error; by
    default tracebacks stay here unless `tracebacks` says otherwise.
    """

    def __init__(
        self,
        runtime: Verbs,
        visible: Visible,
        *,
        names: Collection[str] | None = None,
        admit: Admit | None = None,
        tell: Tell | None = None,
        tracebacks: bool = False,
        name: str = "hybrid-compute",
    ) -> None:
        self._visible = visible
        self._names = names
        self._admit = admit or partial(_freely, runtime)
        self._tell = tell or partial(_tell, tracebacks=tracebacks)
        self.server: Server[Any] = Server(
            name,
            version=version("hybrid-compute"),
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            get_tool_input_schema=_no_headers,
        )

    async def _list_tools(
        self, context: ServerRequestContext[Any], _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=[_described[task] for task in self._offered(_scope(context)).values()])

    async def _call_tool(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        scope = _scope(context)
        task = self._offered(scope).get(params.name)
        if task is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!r} here")
        try:
            args, kwargs = bind_object(task, params.arguments or {})
            async with self._admit(scope, task) as verbs, _Herald(context.session.report_progress) as herald:
                data = await _outcome(verbs, task, args, kwargs, herald)
            return _succeeded(data)
        except Exception as error:
            return _failed(self._tell(error))

    def _offered(self, scope: Scope) -> dict[str, AnyTask]:
        return offered(self._visible(scope), self._names)


async def _outcome(
    verbs: Verbs, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], herald: _Herald
) -> bytes:
    """The result of a call as JSON; meanwhile the herald tells how far it is."""
    if not task.streams:
        with heard_by(herald.hear):
            return encode_json(await verbs.run(task, *args, **kwargs))
    written: list[bytes] = []
    async with verbs.stream(task, *args, **kwargs) as items:
        async for item in items:
            written.append(encode_json(item))
            await herald.tell(len(written), None, written[-1].decode())
    return b"[" + b",".join(written) + b"]"


def _succeeded(data: bytes) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=data.decode())], structured_content={"result": read(data)})


def _failed(failure: Failure) -> CallToolResult:
    trace = failure.details.get("traceback")
    text = sayable(f"{failure.error}\n\n{trace}" if trace else failure.error)
    return CallToolResult(content=[TextContent(text=text)], is_error=True, _meta=error_in_meta(failure))


def _describe(task: AnyTask) -> Tool:
    schemas = object_schema(task)
    return Tool(
        name=task.name,
        description=inspect.cleandoc(task.__doc__) if task.__doc__ else None,
        input_schema=schemas["input"],
        output_schema=schemas["output"],
        annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True) if task.pure else None,
    )


_described: PerTask[Tool] = PerTask(_describe)


def _scope(context: ServerRequestContext[Any]) -> Scope:
    request = context.request
    return request.scope if request is not None else {}


def _tell(error: BaseException, *, tracebacks: bool) -> Failure:
    if not isinstance(error, HybridComputeError):
        _log.error("a tool could not answer", exc_info=error)
    return tell(error, tracebacks=tracebacks)


@asynccontextmanager
async def _freely(verbs: Verbs, _scope: Scope, _task: AnyTask) -> AsyncGenerator[Verbs]:
    yield verbs


def _no_headers(_name: str) -> None:
    """No argument of ours is repeated in a header of HTTP, so there is nothing to look up before a call."""


class _Herald:
    """Tells a client how far its call is: one report at a time, each further than the one before.

    A client that is slow to listen hears the latest; what it has missed is not kept.
    """

    def __init__(self, send: Callable[[float, float | None, str | None], Awaitable[None]]) -> None:
        self._send = send
        self._reached = -math.inf
        self._latest: tuple[float, float | None, str | None] | None = None
        self._telling: asyncio.Task[None] | None = None

    def hear(self, done: float, total: float | None, note: str) -> None:
        """A report of the task: it goes out as soon as the one before it has."""
        if not self._reached < done < math.inf:
            return
        self._reached = done
        self._latest = done, total if total is not None and math.isfinite(total) else None, sayable(note) or None
        if self._telling is None:
            self._telling = asyncio.ensure_future(self._tell_latest())

    async def tell(self, done: float, total: float | None, note: str) -> None:
        """The same for who can wait until the client has room for it."""
        await self._send(done, total, note)

    async def _tell_latest(self) -> None:
        try:
            while (latest := self._latest) is not None:
                self._latest = None
                await self._send(*latest)
        finally:
            self._telling = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._telling is None:
            return
        if error is not None:
            self._telling.cancel()
        else:
            await self._telling  # nothing is told of a call after its result


# What carries it.


async def serve(tools: Tools, lines: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[None]]) -> None:
    """Talk to one client until it has no more to say: a line for each message, in and out, without its end."""
    try:
        async with stdio_server(cast(Any, _Incoming(lines)), cast(Any, _Outgoing(write))) as (received, sent):
            await tools.server.run(received, sent, tools.server.create_initialization_options())
    except ExceptionGroup:
        # The SDK's reader may have a message in hand when its other tasks have been cancelled, and complains of that.
        here = asyncio.current_task()
        if here is not None and here.cancelling():
            raise asyncio.CancelledError from None
        raise


class _Incoming:
    """As much of a text file as the SDK reads."""

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self._lines = lines

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._lines


class _Outgoing:
    """As much of a text file as the SDK writes: a line at a time."""

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._write = write

    async def write(self, text: str) -> None:
        await self._write(text.removesuffix("\n").encode())

    async def flush(self) -> None:
        pass  # what is written is gone


class ToolsApp:
    """Tools over HTTP, as an ASGI app for one path. It answers while the block `running()` is open."""

    def __init__(self, tools: Tools, *, hosts: Collection[str] | None, origins: Collection[str], body: int) -> None:
        self._tools = tools
        self._security = TransportSecuritySettings(
            enable_dns_rebinding_protection=hosts is not None,
            allowed_hosts=list(hosts or ()),
            allowed_origins=list(origins),
        )
        self._body = body
        self._sessions: StreamableHTTPSessionManager | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Open for requests; leaving the block stops the calls of every session. To be left where it was entered."""
        # Sessions, because only they let older clients withdraw a call; a stream, because only that is seen to end.
        sessions = StreamableHTTPSessionManager(
            self._tools.server,
            security_settings=self._security,
            max_request_body_size=self._body,
            session_idle_timeout=IDLE,
        )
        async with sessions.run():
            self._sessions = sessions
            try:
                yield
            finally:
                self._sessions = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._sessions is None:
            raise RuntimeError("tools answer only within `async with app.running()`: open it in the server's lifespan")
        await self._sessions.handle_request(scope, receive, send)


def tools_app(
    runtime: Verbs,
    visible: Visible,
    *,
    names: Collection[str] | None = None,
    admit: Admit | None = None,
    tell: Tell | None = None,
    tracebacks: bool = False,
    hosts: Collection[str] | None = LOCAL_HOSTS,
    origins: Collection[str] = (),
    body: int = 4 << 20,
) -> ToolsApp:
    """Tasks as tools at one path of a server, over streamable HTTP.

    Requests must name one of the `hosts`, and come from a page of one of the `origins` if a browser sends them, so that
    no page of a stranger reaches this machine; `hosts=None` leaves that to the server around. `body` is the most bytes
    of a request. The rest is as in `Tools`.

        tools = tools_app(rt, lambda scope: tasks)
        app = Starlette(routes=[Route("/mcp", tools)], lifespan=lambda app: tools.running())
    """
    tools = Tools(runtime, visible, names=names, admit=admit, tell=tell, tracebacks=tracebacks)
    return ToolsApp(tools, hosts=hosts, origins=origins, body=body)
