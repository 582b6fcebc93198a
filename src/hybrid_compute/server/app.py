"""`create_app`: tasks behind HTTP and WebSockets, as one plain ASGI app.

    POST /compute, POST /, WebSocket at both     calls
    POST /tasks/{name}                           one task, its input as the body
    GET  /tasks  /openapi.json  /docs            what there is
    GET  /healthz  /readyz  /metrics  /events    how it is
    /mcp                                         tools for agents, if tasks are marked as such

What answers calls is plain ASGI (`http.py`, `socket.py`); for all else there is Starlette.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Generator, Iterable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.clock import Clock, SystemClock
from hybrid_compute.errors import BackendClosed
from hybrid_compute.links.wire import Failure
from hybrid_compute.runtime import Runtime, Verbs
from hybrid_compute.server.answering import Answering
from hybrid_compute.server.desk import Desk
from hybrid_compute.server.door import EVERYBODY, Door
from hybrid_compute.server.feed import Feed
from hybrid_compute.server.guests import Guest
from hybrid_compute.server.http import Compute, Receive, Scope, Send
from hybrid_compute.server.limits import Limits
from hybrid_compute.server.memory import Memory
from hybrid_compute.server.meters import CONTENT_TYPE, Meters
from hybrid_compute.server.notebook import SqliteNotebook
from hybrid_compute.server.openapi import describe, listing
from hybrid_compute.server.refusals import STATUS, Refused, failure_for, headers_for
from hybrid_compute.server.sessions import Sessions
from hybrid_compute.server.socket import Sockets
from hybrid_compute.server.tenants import Tenant
from hybrid_compute.tasks import AnyTask, TaskRegistry

if TYPE_CHECKING:
    from hybrid_compute.server.mcp import ToolsApp


def create_app(
    served: Runtime | TaskRegistry | Iterable[Callable[..., Any]],
    *,
    tenants: Iterable[Tenant] = (),
    limits: Limits | None = None,
    origins: Iterable[str] = (),
    remember: str | Path | None = None,
    tracebacks: bool = False,
    tokens_in_url: bool = False,
    insecure: bool = False,
    tools: Collection[str] | None = None,
    workers: int | None = None,
    title: str = "Hybrid Compute",
    clock: Clock | None = None,
) -> App:
    """An ASGI app that runs these tasks: serve it with uvicorn, or mount it in another app.

    `served` is a runtime that knows its tasks by name, or the tasks, which then get a runtime of their own: `workers`
    (as many as cores), and this process. `tenants` are who may come in, with their tokens; without any, only this
    machine is served, unless `insecure`. `origins` are the sites whose pages may call it. Calls with an idempotency
    key are remembered in memory, or in the file `remember`, which outlives the server. `tracebacks` are sent to clients
    only if asked for. The tasks named in `tools`, or else those marked `tool=True`, are offered to agents at `/mcp`, if
    `mcp` is installed.

        >>> app = create_app([resize, ocr], tenants=[Tenant(name="acme", tokens=["sha256:..."])])

    An app that is served closes what it opened when it is shut down; one that is mounted does so by `aclose`.
    """
    if isinstance(served, Runtime):
        runtime, owned = served, False
    else:
        registry = served if isinstance(served, TaskRegistry) else TaskRegistry(served)
        runtime, owned = Runtime([WorkerBackend(workers), LocalBackend()], tasks=registry), True
    door = Door(tenants, origins=origins, insecure=insecure, tokens_in_url=tokens_in_url)
    return App(
        runtime,
        door,
        limits or Limits(),
        owned=owned,
        origins=tuple(origins),
        remember=remember,
        tracebacks=tracebacks,
        tools=tools,
        title=title,
        clock=clock or SystemClock(),
    )


class App:
    """The ASGI app that `create_app` makes."""

    def __init__(
        self,
        runtime: Runtime,
        door: Door,
        limits: Limits,
        *,
        owned: bool,
        origins: tuple[str, ...],
        remember: str | Path | None,
        tracebacks: bool,
        tools: Collection[str] | None,
        title: str,
        clock: Clock,
    ) -> None:
        self.runtime = runtime
        self.meters = Meters()
        notebook = SqliteNotebook(remember) if remember is not None else None
        memory = Memory(lambda error: failure_for(error, tracebacks=tracebacks), notebook)
        self.feed = Feed()
        self.desk = Desk(limits, self.feed, memory, clock, tracebacks=tracebacks)
        self._door = door
        self._limits = limits
        self._clock = clock
        self._title = title
        self._closing = AsyncExitStack()
        self._runtimes = [runtime] if owned else []
        self._listening = AsyncExitStack()  # for those who only listen: it is closed before the rest
        self._started: asyncio.Task[None] | None = None
        self._is_up = False
        self._guests = {tenant.name: self._welcome(tenant) for tenant in door.tenants or (EVERYBODY,)}
        self._answering = Answering()
        self._onlookers: Counter[str] = Counter()
        self._compute = Compute(self.desk, self._admit, self._answering)
        self._sockets = Sockets(self.desk, self._admit)
        self._tools = self._offer(tools)
        self._sessions = Sessions(clock)
        self._pages = Starlette(routes=self._routes(), exception_handlers=_AS_JSON, lifespan=self._lifespan)
        self._whole: ASGIApp = self._dispatch
        if origins:
            self._whole = CORSMiddleware(
                self._dispatch,
                allow_origins=origins,
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Request-Timeout", "traceparent"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._whole(scope, receive, send)

    async def start(self) -> None:
        """Start the places that run tasks. The first request does it otherwise.

        There is one start: what it raises is raised to all who ask for it. Raises `BackendClosed` after `aclose`.
        """
        if self._started is None:
            if self.desk.closing:
                raise BackendClosed("this server is shutting down")
            self._started = asyncio.create_task(self._start())
        await asyncio.shield(self._started)

    async def drain(self) -> None:
        """Take no more calls, wait until those under way are answered, and let go of those who only listen."""
        await self.desk.drain()
        await self._answering.drain()
        await self._sockets.drain()
        self.feed.close()
        await self._listening.aclose()

    async def aclose(self) -> None:
        """Close what was opened; what is still under way ends with `backend_closed`."""
        self.desk.closing = True
        self.feed.close()
        if self._started is not None:
            await asyncio.wait([self._started])  # what it opens must be closed
        await self._closing.aclose()

    async def __aenter__(self) -> App:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _start(self) -> None:
        self._closing.push_async_callback(self.desk.memory.aclose)
        for runtime in self._runtimes:
            await self._closing.enter_async_context(runtime)
        await self._closing.enter_async_context(self._listening)
        if self._tools is not None:
            await self._listening.enter_async_context(_in_one_task(self._tools.running()))
        self._is_up = True

    def _welcome(self, tenant: Tenant) -> Guest:
        """The guest that a tenant is from now on, with the places it runs in."""
        runtime = tenant.runtime or self.runtime
        if tenant.workers is not None:
            runtime = Runtime([WorkerBackend(tenant.workers), LocalBackend()], tasks=self.runtime.tasks)
            self._runtimes.append(runtime)
        return Guest(tenant, self.runtime.tasks, runtime, self._limits, self.meters, self._clock)

    def _offer(self, names: Collection[str] | None) -> ToolsApp | None:
        """What answers at `/mcp`; None if no task is a tool, or agents have no way in here."""
        registry = self.runtime.tasks
        if names is None and (find_spec("mcp") is None or not any(registry[name].tool for name in registry)):
            return None
        from hybrid_compute.server.mcp import tools_app, tools_of

        tools_of(registry, names)  # raises what is wrong with the names

        def visible(scope: Mapping[str, Any]) -> Iterable[AnyTask]:
            return self._admit(scope).tasks.values()

        @asynccontextmanager
        async def admit(scope: Mapping[str, Any], task: AnyTask) -> AsyncGenerator[Verbs]:
            guest = self._admit(scope)
            with self.desk.counted(guest, task):
                yield guest.verbs(task)

        return tools_app(
            self.runtime, visible, names=names, admit=admit, tell=self.desk.report, hosts=None, body=self._limits.body
        )

    def _admit(self, scope: Mapping[str, Any]) -> Guest:
        try:
            return self._guests[self._door.admit(scope).name]
        except Refused as refused:
            self.meters.refused(refused.code)
            raise

    # Requests.

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls go straight to their desk, everything else to the pages."""
        kind = scope["type"]
        if kind == "lifespan":
            return await self._pages(scope, receive, send)
        if not self._is_up:
            try:
                await self.start()
            except Exception as error:
                return await self._refuse(scope, receive, send, error)
        path = _path(scope)
        if path in _COMPUTE:
            if kind == "websocket":
                return await self._sockets(scope, receive, send)
            if path == "/compute" or scope["method"] == "POST":
                return await self._compute(scope, receive, send)
        if kind == "websocket":
            missing = Refused("not_found", f"there is no WebSocket at {path}, but there is one at /compute")
            return await self._sockets.refuse(scope, receive, send, missing)
        if path.startswith(_TASK):
            return await self._compute(scope, receive, send, name=path.removeprefix(_TASK))
        if path == "/mcp" and self._tools is not None:
            return await self._answer_agent(self._tools, scope, receive, send)
        await self._pages({**scope, "path": scope.get("root_path", "") + (path or "/")}, receive, send)

    async def _answer_agent(self, tools: ToolsApp, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self.desk.closing and not self.desk.under_way:
                raise BackendClosed("this server is shutting down")
            send = self._sessions.checked(self._admit(scope).tenant, scope, send)
        except (Refused, BackendClosed) as error:
            return await self._compute.refuse(send, error)
        with self._answering if scope["method"] == "POST" else nullcontext():  # who gets only listens
            await tools(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
        if scope["type"] == "websocket":
            return await self._sockets.refuse(scope, receive, send, error)
        await self._compute.refuse(send, error)

    def _routes(self) -> list[Route]:
        return [
            Route("/", lambda request: RedirectResponse("docs")),
            Route("/docs", lambda request: HTMLResponse(_PAGE.read_text("utf-8"), headers=_ITS_OWN_ONLY)),
            Route("/openapi.json", self._openapi),
            Route("/tasks", self._tasks),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            Route("/events", self._events),
        ]

    async def _healthz(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def _readyz(self, request: Request) -> Response:
        ready = not self.desk.closing
        return _json({"status": "ready" if ready else "shutting down"}, 200 if ready else 503)

    async def _tasks(self, request: Request) -> Response:
        guest = self._admit(request.scope)
        notebook = self.desk.memory.notebook_id
        limits = {"body": self._limits.body, "batch": self._limits.batch, "calls": self._limits.per_socket}
        said = {"remembers_keys": notebook is not None, "notebook": notebook, "limits": limits}
        return _json({"tasks": listing(guest.tasks), **said})

    async def _openapi(self, request: Request) -> Response:
        guest = self._admit(request.scope)
        prefix = _prefix(request.scope, "/openapi.json")
        tokens = bool(self._door.tenants)
        return _json(describe(guest.tasks, title=self._title, version="1", prefix=prefix, tokens=tokens))

    async def _metrics(self, request: Request) -> Response:
        if not self._admit(request.scope).tenant.operator:
            raise Refused("forbidden", "metrics are for operators: give this tenant operator=True")
        return Response(self.meters.text(), media_type=CONTENT_TYPE)

    async def _events(self, request: Request) -> Response:
        guest = self._admit(request.scope)
        return _Counted(self._looking_on(guest), self._calls_of(guest))

    @contextmanager
    def _looking_on(self, guest: Guest) -> Generator[None]:
        """One more looks on. Raises `Refused` if this tenant has too many who do."""
        name, most = guest.tenant.name, self._limits.onlookers
        if self._onlookers[name] >= most:
            raise Refused("limit_exceeded", f"{most} clients of tenant {name!r} read the events, which is the limit")
        self._onlookers[name] += 1
        try:
            yield
        finally:
            self._onlookers[name] -= 1

    async def _calls_of(self, guest: Guest) -> AsyncIterator[bytes]:
        yield b": calls as they end\n\n"
        tenant = guest.tenant
        wanted = self.feed.calls(lambda call: tenant.operator or call.tenant == tenant.name, self._limits.silence)
        async for calls, missed in wanted:
            if not calls:
                yield b": still here\n\n"
            if missed:
                yield b"event: missed\ndata: %d\n\n" % missed
            yield b"".join(b"data: " + msgspec.json.encode(call) + b"\n\n" for call in calls)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        async with self:
            yield


_COMPUTE = frozenset({"", "/compute"})
_TASK = "/tasks/"
_PAGE = Path(__file__).with_name("docs.html")
_ITS_OWN_ONLY = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}
_AS_IT_COMES = {"cache-control": "no-store", "x-accel-buffering": "no"}


class _Counted(StreamingResponse):
    """A stream of events; the context is open while it is sent."""

    def __init__(self, context: AbstractContextManager[None], events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_AS_IT_COMES)
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._context:
            await super().__call__(scope, receive, send)


@asynccontextmanager
async def _in_one_task(context: AbstractAsyncContextManager[None]) -> AsyncGenerator[None]:
    """The context, entered and left by one task, for those that insist; the first request and the end are two."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with context:
            entered.set()
            await leave.wait()

    holder = asyncio.create_task(hold())
    holder.add_done_callback(lambda _: entered.set())
    await entered.wait()
    if holder.done():
        await holder
    try:
        yield
    finally:
        leave.set()
        await holder


def _path(scope: Scope) -> str:
    """The path below the place where the app is mounted, without a slash at its end."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return (path[len(root) :] if root and path.startswith(root) else path).rstrip("/")


def _prefix(scope: Mapping[str, Any], path: str) -> str:
    """Where the app is mounted. Not every framework says so, but all give the path as it came."""
    whole: str = scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1").rstrip("/")
    return whole.removesuffix(path) if whole.endswith(path) else str(scope.get("root_path", "")).rstrip("/")


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, media_type="application/json")


def _as_json(request: Request, error: Exception) -> Response:
    """Every reply is JSON, whatever went wrong."""
    if isinstance(error, HTTPException):
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "error")
        failure = Failure(f"{error.detail}: {request.method} {request.url.path}", code)
        status, headers = error.status_code, dict(error.headers or {})
    else:
        failure = failure_for(error)
        status = STATUS.get(failure.code, 500)
        headers = {name.decode(): value.decode() for name, value in headers_for(error, failure)}
    return Response(msgspec.json.encode(failure), status, headers, media_type="application/json")


_AS_JSON: dict[Any, Any] = {HTTPException: _as_json, Refused: _as_json, Exception: _as_json}
