"""Tenants: who may run what, where, and how much of it. Tokens are known by their hashes only."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from hybrid_compute.runtime import Runtime

_PREFIX = "sha256:"
_HASH = re.compile(_PREFIX + "[0-9a-fA-F]{64}")


def hash_token(token: str) -> str:
    """The hash that a tenant is given in place of the token.

    Tokens are long and random, so one round of SHA-256 is enough: there is nothing to guess.

        >>> hash_token("secret")[:15]
        'sha256:2bb80d53'
    """
    return _PREFIX + hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """A token that nobody can guess: 256 random bits."""
    return "hc_" + secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One party that uses a server, with its tokens, tasks and share.

    `tokens` are hashes, made by `hash_token` or the command `hybrid-compute token`. It sees and runs only `tasks`
    (all, if None). At most `at_once` of its calls are under way, and `rate` begin in a second (`burst` after a pause).
    With `workers` it has that many worker processes of its own, with `runtime` a whole runtime; else it shares those of
    the server. An `operator` also sees the metrics and the calls of all others.
    """

    name: str
    tokens: Sequence[str] = ()
    tasks: frozenset[str] | None = None
    at_once: int | None = None
    rate: float | None = None
    burst: int | None = None
    workers: int | None = None
    operator: bool = False
    runtime: Runtime | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for token in self.tokens:
            if not _HASH.fullmatch(token):
                raise ValueError(
                    f"the tokens of tenant {self.name!r} are given as hashes: hybrid-compute token makes one"
                )
        for name in ("at_once", "rate", "burst", "workers"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} of tenant {self.name!r} must be positive, not {value!r}")


_NOBODYS = bytes(32)
"""A digest that no token is known to have."""


class Keyring:
    """Finds the tenant of a token."""

    def __init__(self, tenants: Iterable[Tenant]) -> None:
        self._owners: dict[bytes, tuple[bytes, Tenant]] = {}
        for tenant in tenants:
            for token in tenant.tokens:
                digest = bytes.fromhex(token.removeprefix(_PREFIX))
                _, owner = self._owners.setdefault(digest, (digest, tenant))
                if owner is not tenant:
                    raise ValueError(f"tenants {owner.name!r} and {tenant.name!r} have a token in common")

    def __bool__(self) -> bool:
        return bool(self._owners)

    def owner(self, token: str) -> Tenant | None:
        """The tenant with this token, if there is one. How long it takes says nothing about any token.

        What is looked up is its digest. Whoever learned from the time that a digest is close to a known one would know
        nothing of that one's token, and could not make a closer digest but by trying tokens, all 2^256 of them.
        """
        wanted = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known, tenant = self._owners.get(wanted, (_NOBODYS, None))
        return tenant if hmac.compare_digest(known, wanted) else None


def load_tenants(path: str | Path) -> list[Tenant]:
    """The tenants of a TOML file, a table `[tenant.NAME]` for each. Raises `ValueError` that names what is wrong.

    [tenant.acme]
    tokens = ["sha256:..."]
    tasks = ["resize", "ocr"]
    at_once = 8
    rate = 100
    workers = 2
    """
    try:
        data: Mapping[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        if unknown := data.keys() - {"tenant"}:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        tables = msgspec.convert(data.get("tenant", {}), dict[str, _Table])
        return [Tenant(name=name, **msgspec.structs.asdict(table)) for name, table in tables.items()]
    except ValueError as error:
        raise ValueError(f"the tenants in {path} cannot be read: {error}") from error


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    tokens: list[str] = []
    tasks: frozenset[str] | None = None
    at_once: int | None = None
    rate: float | None = None
    burst: int | None = None
    workers: int | None = None
    operator: bool = False
