"""Where a server is: one URL, as people write it, and the addresses it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

_AS_HTTP = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Address:
    """The addresses of one server."""

    base: str
    """As it is named to people."""
    calls: str
    """Where calls go: by POST, or on a WebSocket if its scheme is `ws` or `wss`."""
    tasks: str
    """Where the list of tasks is."""
    by_socket: bool


def parse(url: str) -> Address:
    """The addresses behind the URL of a server, with or without `/compute` at its end.

    Raises `ValueError` if it is none, or says more than where the server is.

        >>> parse("ws://localhost:8000").calls, parse("ws://localhost:8000").tasks
        ('ws://localhost:8000/compute', 'http://localhost:8000/tasks')
    """
    parts = urlsplit(url)
    if parts.scheme not in _AS_HTTP or not parts.hostname:
        raise ValueError(f"the address of a server is a URL such as http://host:8000 or ws://host:8000, not {url!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"the address of the server at {parts.hostname} has a password in it: give it as token=")
    if parts.query or parts.fragment:
        raise ValueError(f"the address of a server ends with its path, but {url!r} goes on after it")
    folder = parts.path.rstrip("/").removesuffix("/compute")
    return Address(
        base=urlunsplit((parts.scheme, parts.netloc, folder, "", "")),
        calls=urlunsplit((parts.scheme, parts.netloc, f"{folder}/compute", "", "")),
        tasks=urlunsplit((_AS_HTTP[parts.scheme], parts.netloc, f"{folder}/tasks", "", "")),
        by_socket=parts.scheme in ("ws", "wss"),
    )
