"""Whose the sessions of MCP are: no tenant can use another's, or take all the room there is for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hybrid_compute.clock import Clock
from hybrid_compute.server.http import Message, Send
from hybrid_compute.server.refusals import Refused
from hybrid_compute.server.tenants import Tenant

IDLE: Final = 900.0
"""Seconds without a request after which a session is over."""
MOST: Final = 100
"""Sessions that one tenant may have at a time."""

_SESSION: Final = b"mcp-session-id"
_VERSION: Final = b"mcp-protocol-version"


class Sessions:
    """Remembers who began each session, and when it was last used."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used: dict[str, dict[bytes, float]] = {}

    def checked(self, tenant: Tenant, scope: Mapping[str, Any], send: Send) -> Send:
        """How to answer this request, so that a session that it begins is known.

        Raises `Refused` for the session of another, and for one too many.
        """
        headers = dict(scope["headers"])
        session = headers.get(_SESSION)
        mine = self._used.setdefault(tenant.name, {})
        now = self._clock.time()
        if session is None:
            if _VERSION not in headers:  # so a client from before begins, which needs a session
                self._insist_on_room(tenant, mine, now)
        elif session not in mine:
            raise Refused("not_found", "there is no such session: begin a new one")
        elif scope["method"] == "DELETE":
            del mine[session]
        else:
            mine[session] = now

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun = dict(message.get("headers", ())).get(_SESSION)
                if begun is not None and scope["method"] == "POST":
                    mine[begun] = now
            await send(message)

        return noting

    def _insist_on_room(self, tenant: Tenant, mine: dict[bytes, float], now: float) -> None:
        for session, used in list(mine.items()):
            if used < now - IDLE:
                del mine[session]
        if len(mine) >= MOST:
            wait = IDLE - (now - min(mine.values()))
            raise Refused("limit_exceeded", f"tenant {tenant.name!r} has {MOST} sessions already", retry_after=wait)
