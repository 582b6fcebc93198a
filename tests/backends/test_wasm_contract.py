"""A sandbox keeps the contract, with the contract's tasks as code that is not trusted."""

import math

import pytest

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.wrappers import Limited, Recording, Retrying
from hybrid_compute.calls import Call
from hybrid_compute.errors import InvalidInput, NotTransferable, TaskFailed
from hybrid_compute.testing import BackendContract, tasks
from tests.backends.sandboxed import Twins

pytestmark = pytest.mark.timeout(180)  # the first run on a machine makes the interpreter


@pytest.mark.usefixtures("prepared")
class WasmContract(BackendContract):
    """The contract, in what crosses the border of a sandbox: JSON."""

    streams = False
    coroutines = False
    values = (
        None,
        True,
        0,
        -(2**63),
        2**5000,
        1.5,
        "",
        "naïve 漢字 🙂 \0",
        [],
        [1, [2, [3, {"deep": [4]}]]],  # tuples and sets would come back as lists
        {"a": None, "2": "b"},
    )
    large = 1 << 19
    invalid_input = InvalidInput

    async def test_it_takes_many_bytes(self) -> None:
        """As text: what a function takes and gives in there is JSON."""
        value = "ü" * self.large
        async with self.opened() as backend:
            assert await backend.run_call(Call(tasks.echo, (value,))) == value

    async def test_what_cannot_cross_is_told(self) -> None:
        """Infinity is no JSON, and neither is just any object."""
        async with self.opened() as backend:
            for value in (math.inf, [math.nan], object()):
                with pytest.raises(NotTransferable):
                    await backend.run_call(Call(tasks.echo, (value,)))
            await self.still_works(backend)

    async def test_what_a_task_raises_becomes_task_failed(self) -> None:
        """The original is the cause, if it is one of Python's own; notes and causes are in the traceback."""
        async with self.opened() as backend:
            with pytest.raises(TaskFailed) as caught:
                await backend.run_call(Call(tasks.fail, ("odd",)))
            failed, cause = caught.value, caught.value.__cause__
            assert "ValueError: odd" in str(failed)
            assert isinstance(cause, ValueError)
            assert cause.args == ("odd",)
            assert "in fail" in failed.remote_traceback
            assert "a note for the reader" in failed.remote_traceback
            assert "KeyError: 'the cause'" in failed.remote_traceback
            await self.still_works(backend)


class TestWasmBackend(WasmContract):
    def make_backend(self) -> Backend:
        return Twins()


class TestWasmBackendOfOneThread(WasmContract):
    def make_backend(self) -> Backend:
        return Twins(threads=1)


class TestWasmBackendInWrappers(WasmContract):
    def make_backend(self) -> Backend:
        return Recording(Limited(Retrying(Twins(threads=2)), calls=3))
