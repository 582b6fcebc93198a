"""The place named `later` keeps the contract of every backend, as far as a call can be kept."""

import asyncio
import math
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hybrid_compute import LocalBackend, Outbox
from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.wrappers import Wrapper
from hybrid_compute.calls import Call
from hybrid_compute.errors import InvalidInput, TaskFailed
from hybrid_compute.testing import BackendContract, tasks


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

    @pytest.fixture(autouse=True)
    def _folder(self) -> Generator[None]:
        with TemporaryDirectory() as folder:
            self.folder = Path(folder)
            yield

    def make_backend(self) -> Backend:
        return Kept(Outbox(self.folder / "calls.db", to=LocalBackend()))

    async def test_what_a_task_raises_becomes_task_failed(self) -> None:
        """The cause is of its type and has its arguments; notes and causes of its own are in the traceback."""
        async with self.opened() as backend:
            with pytest.raises(TaskFailed, match="ValueError: odd") as caught:
                await backend.run_call(Call(tasks.fail, ("odd",)))
            assert isinstance(caught.value.__cause__, ValueError)
            assert caught.value.__cause__.args == ("odd",)
            for words in ("in fail", "a note for the reader", "KeyError: 'the cause'"):
                assert words in caught.value.remote_traceback
            await self.still_works(backend)

    async def test_wrong_arguments_are_a_failure_of_the_task(self) -> None:
        """They are not even kept."""
        async with self.opened() as backend:
            with pytest.raises(InvalidInput, match="too many positional arguments"):
                await backend.run_call(Call(tasks.add, (1, 2, 3)))
            await self.still_works(backend)

    async def test_failures_among_many_calls_reach_their_own_callers(self) -> None:
        """A call that is refused harms no other."""
        async with self.opened() as backend:
            calls = (backend.run_call(Call(tasks.add, (x, None if x % 3 == 0 else 1))) for x in range(60))
            for x, answer in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
                assert isinstance(answer, InvalidInput) if x % 3 == 0 else answer == x + 1
