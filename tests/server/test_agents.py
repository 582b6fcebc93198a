"""`/mcp` of an app: agents of several tenants at one server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager

import aiohttp
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from hybrid_compute.clock import ManualClock
from hybrid_compute.server import Tenant, hash_token
from hybrid_compute.server.http import Message
from hybrid_compute.server.refusals import Refused
from hybrid_compute.server.sessions import IDLE, MOST, Sessions
from hybrid_compute.tasks import task
from tests.server.serving import Served, serving


@task(tool=True)
def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


@task(tool=True)
def shout(text: str) -> str:
    return text.upper()


@task
def secret() -> str:
    return "not a tool"


TENANTS = [
    Tenant(name="acme", tokens=[hash_token("a")], tasks=frozenset({"add", "secret"})),
    Tenant(name="zoo", tokens=[hash_token("z")]),
]


@pytest.fixture(scope="module")
def server() -> Generator[Served]:
    with serving([add, shout, secret], tenants=TENANTS, workers=1) as served:
        yield served


@asynccontextmanager
async def agent(server: Served, token: str, mode: str) -> AsyncGenerator[Client]:
    """The SDK's own client, with a token."""
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
        async with Client(streamable_http_client(f"{server.url}/mcp", http_client=http), mode=mode) as client:
            yield client


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_each_tenant_sees_its_own_tools(server: Served, mode: str) -> None:
    """Tasks that are marked as tools, and of those the ones that its token allows."""
    async with agent(server, "a", mode) as acme, agent(server, "z", mode) as zoo:
        assert [tool.name for tool in (await acme.list_tools()).tools] == ["add"]
        assert sorted(tool.name for tool in (await zoo.list_tools()).tools) == ["add", "shout"]
        answer = await acme.call_tool("add", {"a": 1, "b": 2})
        assert answer.structured_content == {"result": 3}


async def test_nobody_comes_in_without_a_token(server: Served) -> None:
    """What agents are told is JSON too."""
    async with aiohttp.ClientSession() as client, client.post(f"{server.url}/mcp", json={}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (401, "unauthorized")


async def test_a_session_belongs_to_the_tenant_that_began_it(server: Served) -> None:
    """Its id is of no use to another tenant, nor is one that was never given."""
    first = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    }
    accept = {"Accept": "application/json, text/event-stream"}
    async with aiohttp.ClientSession(headers=accept) as client:
        acme, zoo = {"Authorization": "Bearer a"}, {"Authorization": "Bearer z"}
        async with client.post(f"{server.url}/mcp", json=first, headers=acme) as answer:
            assert answer.status == 200
            session = {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"]}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        async with client.post(f"{server.url}/mcp", json=ping, headers=acme | session) as answer:
            assert answer.status == 200
        for headers in (zoo | session, acme | {"Mcp-Session-Id": "0" * 32}):
            async with client.post(f"{server.url}/mcp", json=ping, headers=headers) as answer:
                assert (answer.status, (await answer.json())["code"]) == (404, "not_found")


class Room:
    """What a request of MCP needs, without a server."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sessions = Sessions(self.clock)

    async def ask(self, tenant: Tenant, *, session: bytes | None = None, begins: bytes | None = None) -> None:
        async def send(_message: Message) -> None: ...

        headers = [] if session is None else [(b"mcp-session-id", session)]
        answer = self.sessions.checked(tenant, {"method": "POST", "headers": headers}, send)
        given = [] if begins is None else [(b"mcp-session-id", begins)]
        await answer({"type": "http.response.start", "headers": given})


async def test_one_tenant_cannot_take_all_the_sessions() -> None:
    """Each has its own number; those that are not used any more make room."""
    room, (acme, zoo) = Room(), TENANTS
    for number in range(MOST):
        await room.ask(acme, begins=b"%d" % number)
    with pytest.raises(Refused, match="has 100 sessions") as caught:
        await room.ask(acme)
    assert caught.value.retry_after == IDLE
    await room.ask(zoo, begins=b"z")
    room.clock.advance(IDLE / 2)
    await room.ask(acme, session=b"7")
    room.clock.advance(IDLE / 2 + 1)
    await room.ask(acme, begins=b"new")
    await room.ask(acme, session=b"7")
    with pytest.raises(Refused, match="no such session"):
        await room.ask(acme, session=b"8")
