"""Whose the sessions of MCP are: a tenant that learns the id of another's session cannot use it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from hybrid_compute.server.http import Message, Send
from hybrid_compute.server.refusals import Refused
from hybrid_compute.server.tenants import Tenant

_HEADER: Final = b"mcp-session-id"
_MOST: Final = 10_000
"""Sessions that are known; the oldest is forgotten first, and its client begins a new one, as the protocol has it."""


class Sessions:
    """Remembers who began each session."""

    def __init__(self) -> None:
        self._owners: OrderedDict[bytes, str] = OrderedDict()

    def checked(self, tenant: Tenant, scope: Mapping[str, Any], send: Send) -> Send:
        """How to answer this request, so that a session that it begins is known. Raises `Refused` for another's."""
        session = dict(scope["headers"]).get(_HEADER)
        if session is not None and self._owners.get(session) != tenant.name:
            raise Refused("not_found", "there is no such session: begin a new one")

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun = dict(message.get("headers", ())).get(_HEADER)
                if begun is not None:
                    self._note(begun, tenant)
            await send(message)

        return noting

    def _note(self, session: bytes, tenant: Tenant) -> None:
        self._owners[session] = tenant.name
        if len(self._owners) > _MOST:
            self._owners.popitem(last=False)
