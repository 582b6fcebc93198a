"""A remote backend keeps the contract, over HTTP and on a WebSocket, against the real server.

What the wire cannot carry is left out, and what it tells otherwise than a process next door is asked for as it tells
it: a server checks input before any task runs, and of an exception it tells the type and the arguments.
"""

import math
from collections.abc import Generator
from typing import Any, ClassVar

import pytest

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.remote.backend import RemoteBackend
from hybrid_compute.backends.wrappers import Limited, Recording, Retrying
from hybrid_compute.calls import Call
from hybrid_compute.errors import InvalidInput
from hybrid_compute.tasks import TaskRegistry
from hybrid_compute.testing import BackendContract, tasks
from tests.server.serving import Served, serving


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with serving(TaskRegistry.of(tasks), tracebacks=True) as running:
        yield running


class RemoteContract(BackendContract):
    """The contract, in the words of the wire."""

    values = (
        None,
        True,
        0,
        -(2**63),
        2**64 - 1,  # beyond 64 bits there is no form for integers
        1.5,
        -math.inf,
        "",
        "naïve 漢字 🙂 \0",
        b"",
        bytes(range(256)),
        [],
        [1, [2, [3, {"deep": [4]}]]],  # tuples and sets would come back as lists
        {"a": None, 2: "b"},
    )
    invalid_input = InvalidInput
    keeps_causes = False
    server: ClassVar[Served]

    @pytest.fixture(autouse=True)
    def _reached(self, served: Served) -> None:
        type(self).server = served


class TestRemoteOverHttp(RemoteContract):
    def make_backend(self) -> Backend:
        return RemoteBackend(self.server.url)


class TestRemoteOnAWebSocket(RemoteContract):
    def make_backend(self) -> Backend:
        return RemoteBackend(self.server.socket_url)


class RemoteInJson(RemoteContract):
    values: ClassVar[Any] = tuple(
        each
        for each in RemoteContract.values
        if type(each) is not bytes and each != -math.inf and each != {"a": None, 2: "b"}
    )

    async def test_it_takes_many_bytes(self) -> None:
        """Bytes are base64 in JSON, and arrive as bytes where a type says so; a long text says the same of size."""
        text = "0123456789abcdef" * (self.large // 16)
        async with self.opened() as backend:
            assert await backend.run_call(Call(tasks.echo, (text,))) == text


class TestRemoteOverHttpInJson(RemoteInJson):
    def make_backend(self) -> Backend:
        return RemoteBackend(self.server.url, encoding="json")


class TestRemoteOnAWebSocketInJson(RemoteInJson):
    def make_backend(self) -> Backend:
        return RemoteBackend(self.server.socket_url, encoding="json")


class TestWrappedRemote(RemoteContract):
    def make_backend(self) -> Backend:
        return Recording(Retrying(Limited(RemoteBackend(self.server.socket_url), calls=8)))
