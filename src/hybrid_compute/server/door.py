"""Who may come in: tokens, origins, hosts. Plain decisions from the head of a request.

a token          names the tenant; without tenants nobody needs one, and then nobody from outside is served
an Origin        is what a browser says about the page that asks: it must be our own, or on the list
a Host           must be this machine, where there are no tokens: else a stranger's page could rename itself to us
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hybrid_compute.server.refusals import Refused
from hybrid_compute.server.tenants import Keyring, Tenant

EVERYBODY = Tenant(name="everybody", operator=True)
"""Who comes in where there are no tokens."""

PROTOCOL = "hybrid-compute"
"""The subprotocol of a WebSocket, which a browser names beside the one that carries the token."""

_BEARER = "bearer."
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")


class Door:
    """Decides about requests by their heads alone."""

    def __init__(
        self,
        tenants: Iterable[Tenant],
        *,
        origins: Iterable[str] = (),
        insecure: bool = False,
        tokens_in_url: bool = False,
    ) -> None:
        self.tenants = tuple(tenants)
        names = [tenant.name for tenant in self.tenants]
        if len(set(names)) < len(names):
            raise ValueError(f"every tenant needs a name of its own, but these were given: {', '.join(names)}")
        self._keyring = Keyring(self.tenants)
        if self.tenants and not self._keyring:
            raise ValueError("none of the tenants has a token, so nobody could come in: hybrid-compute token makes one")
        self._origins = frozenset(origins)
        for each in self._origins - {"*"}:
            if not _ORIGIN.fullmatch(each):
                raise ValueError(f"an origin is a scheme and a host, as https://app.example, and no more: not {each!r}")
        self._insecure = insecure
        self._tokens_in_url = tokens_in_url

    def admit(self, scope: Mapping[str, Any]) -> Tenant:
        """The tenant whose request this is. Raises `Refused`."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if b"origin" in headers:
            self._check_origin(headers[b"origin"].decode("latin-1"), headers.get(b"host", b"").decode("latin-1"))
        if not self._keyring:
            if not self._insecure:
                self._insist_on_loopback(scope.get("server"), headers.get(b"host", b"").decode("latin-1"))
            return EVERYBODY
        token = self._token(scope, headers)
        if token is None:
            raise Refused("unauthorized", "a token is needed: send it as `Authorization: Bearer TOKEN`")
        tenant = self._keyring.owner(token)
        if tenant is None:
            raise Refused("unauthorized", "this token is not known here")
        return tenant

    def _token(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> str | None:
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if kind.lower() == "bearer" and token:
            return token.strip()
        for offered in scope.get("subprotocols", ()):
            if offered.startswith(_BEARER):
                return str(offered.removeprefix(_BEARER))
        if self._tokens_in_url:
            given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("access_token")
            return given[0] if given else None
        return None

    def _check_origin(self, origin: str, host: str) -> None:
        if origin in self._origins or "*" in self._origins:
            return
        if origin == "null" or _host_of(origin) != host.lower():
            raise Refused("forbidden", f"pages from {origin} may not call this server: allow it with origins=")

    def _insist_on_loopback(self, server: Any, host: str) -> None:
        if not server or (server[1] is not None and not is_loopback(server[0])):
            raise Refused(
                "unauthorized",
                "this server has no tokens, so it serves only its own machine: give it tenants, or insecure=True",
            )
        if host and not _names_loopback(host):
            raise Refused("forbidden", f"this server is not {host}: ask it as localhost, or give it tokens")


def _host_of(origin: str) -> str | None:
    """Host and port of a page; None for what is no URL."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # a bracket that is not closed
        return None


@functools.lru_cache(maxsize=1024)
def _names_loopback(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine itself."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:  # a bracket that is not closed
        return False


@functools.lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether this name or address is this machine itself.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("10.0.0.1")
    (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
