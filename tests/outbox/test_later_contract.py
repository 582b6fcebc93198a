"""The place named `later` keeps the contract of every backend, as far as a call can be kept."""

import math
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hybrid_compute import LocalBackend, Outbox
from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.wrappers import Wrapper
from hybrid_compute.errors import InvalidInput
from hybrid_compute.testing import BackendContract


class Kept(Wrapper):
    """The last place of an outbox, which is opened and closed with it."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(outbox.place())
        self._outbox = outbox

    async def start(self) -> None:
        await self._outbox.start()
        await super().start()

    async def aclose(self) -> None:
        await super().aclose()
        await self._outbox.aclose()


class TestLater(BackendContract):
    """The contract, in the words of MessagePack: input is checked before anything is kept."""

    streams = False
    values = (
        None,
        True,
        0,
        -(2**63),
        1.5,
        -math.inf,
        "",
        "naïve 漢字 🙂 \0",
        b"",
        bytes(range(256)),
        [],
        {"a": None, 2: ["b", [{}]]},
    )
    invalid_input = InvalidInput
    keeps_causes = False

    @pytest.fixture(autouse=True)
    def _folder(self) -> Generator[None]:
        with TemporaryDirectory() as folder:
            self.folder = Path(folder)
            yield

    def make_backend(self) -> Backend:
        return Kept(Outbox(self.folder / "calls.db", to=LocalBackend()))
