"""A connection to an MCP server: a command of its own, or a URL. The SDK speaks the protocol.

Its client has to be entered and left by one task, so each connection has a task that does just that; calls are made by
whoever wants them. A connection whose other end has gone retires by itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mcp import Client
    from mcp.shared.exceptions import MCPError
    from mcp_types import CallToolResult, Tool

REACH: Final = 30.0
"""Seconds in which a server over HTTP must take a connection, or what is sent over it."""

Reason: TypeAlias = Literal["lost", "refused", "garbled", "failed"]


class Target:
    """A server: how to reach it, and what to call it."""

    def __init__(
        self, name: str, server: Any, arguments: tuple[str, ...], env: dict[str, str], headers: dict[str, str]
    ) -> None:
        self._name = name
        self._server = server
        self._arguments = arguments
        self._env = env
        self._headers = headers
        self._is_url = isinstance(server, str) and server.startswith(("http://", "https://"))
        if self._is_url and (arguments or env):
            raise ValueError(f"{server} is a URL, which takes neither arguments nor an environment")
        if headers and not self._is_url:
            raise ValueError("headers are for a server that is reached by a URL; a command has its env")

    def __str__(self) -> str:
        # Not the arguments, nor what else may be in a URL: there are secrets among them, and errors travel.
        what = self._server if isinstance(self._server, str) else type(self._server).__name__
        if self._is_url:
            url = urlsplit(what)
            what = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
        return f"the MCP server {self._name!r} ({what})"

    def client(self, ended: Callable[[], None]) -> Client:
        """A client of this server that is not connected yet; `ended` is called when it will hear nothing more."""
        from mcp import Client

        if not isinstance(self._server, str):
            return Client(self._server, cache=None)
        return Client(_watched(self._by_url() if self._is_url else self._by_command(), ended), cache=None)

    def _by_url(self) -> AbstractAsyncContextManager[Any]:
        from mcp.client.streamable_http import streamable_http_client

        return _over_http(streamable_http_client, self._server, self._headers)

    def _by_command(self) -> AbstractAsyncContextManager[Any]:
        from mcp.client.stdio import StdioServerParameters, stdio_client

        parameters = StdioServerParameters(command=self._server, args=list(self._arguments), env=self._env)
        return stdio_client(parameters, **({"errlog": sys.__stderr__} if sys.__stderr__ else {}))


@asynccontextmanager
async def _over_http(connect: Any, url: str, headers: dict[str, str]) -> AsyncGenerator[Any]:
    """A transport without limits of its own to the time that a call may take: those are the runtime's."""
    import httpx2

    limits = httpx2.Timeout(REACH, read=None)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=limits) as client,
        connect(url, http_client=client) as streams,
    ):
        yield streams


@asynccontextmanager
async def _watched(transport: AbstractAsyncContextManager[Any], ended: Callable[[], None]) -> AsyncGenerator[Any]:
    async with transport as (received, sent):
        yield _Watched(received, ended), sent


class _Watched:
    """A stream of messages that says when it has ended."""

    def __init__(self, stream: Any, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *why: object) -> None:
        await self._stream.__aexit__(*why)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise


class NoAnswer(Exception):
    """A call that came to no result of a tool, not even that it failed. `__cause__` is the SDK's own error."""

    def __init__(self, reason: str, kind: Reason) -> None:
        super().__init__(reason)
        self.kind = kind


class Connection:
    """A client of the SDK, and the task that enters and leaves it."""

    def __init__(self, target: Target) -> None:
        self.retired = False
        self._client: Client = target.client(self.retire)
        self._users = 0
        self._leave = asyncio.Event()
        self._tools: asyncio.Future[list[Tool]] = asyncio.get_running_loop().create_future()
        self.done = asyncio.create_task(self._hold())

    @property
    def is_open(self) -> bool:
        return self._tools.done() and not self._tools.cancelled() and self._tools.exception() is None

    async def opened(self) -> list[Tool]:
        """Wait until it is connected; the tools of the server."""
        return await asyncio.shield(self._tools)

    async def call(self, name: str, arguments: dict[str, Any], heard: Any) -> CallToolResult:
        """Call a tool. Raises `NoAnswer` if there is no result, not even that it failed."""
        from mcp.shared.exceptions import MCPError
        from pydantic import ValidationError

        try:
            return await self._client.call_tool(name, arguments, progress_callback=heard)
        except MCPError as error:
            raise _no_answer(error) from error
        except (ValidationError, RuntimeError) as error:  # no answer, or none of the promised schema; or it has gone
            raise NoAnswer(str(error), "lost" if self.retired else "garbled") from error

    @contextmanager
    def in_use(self) -> Generator[None]:
        """A call is under way: until it ends, the connection is not left."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._leave_if_due()

    def retire(self) -> None:
        """Take no more calls, and leave when the last one has ended."""
        self.retired = True
        self._leave_if_due()

    async def close(self) -> None:
        """Leave now; calls under way are lost."""
        self.retired = True
        self._leave.set()
        if not self._tools.done():
            self.done.cancel()
        await asyncio.wait([self.done])

    def _leave_if_due(self) -> None:
        if self.retired and not self._users:
            self._leave.set()

    async def _hold(self) -> None:
        try:
            async with self._client as client:
                self._tools.set_result(await _all_tools(client))
                await self._leave.wait()
        except asyncio.CancelledError:
            if not self._tools.done():
                self._tools.set_exception(NoAnswer("it was given up", "lost"))
            raise
        except Exception as error:  # once it was open, those who call are told, each by its own error
            if not self._tools.done():
                self._tools.set_exception(error)
        finally:
            self.retired = True


def _no_answer(error: MCPError) -> NoAnswer:
    from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND

    meaning: dict[int, Reason] = {
        CONNECTION_CLOSED: "lost",
        INVALID_REQUEST: "lost",  # its session is known no more
        INVALID_PARAMS: "refused",
        METHOD_NOT_FOUND: "garbled",
    }
    return NoAnswer(error.message, meaning.get(error.code, "failed"))


async def _all_tools(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    page = await client.list_tools()
    tools += page.tools
    while page.next_cursor is not None:
        page = await client.list_tools(cursor=page.next_cursor)
        tools += page.tools
    return tools
