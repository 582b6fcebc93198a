"""A sandbox keeps the contract, with the contract's tasks as code that is not trusted."""

import math

import pytest

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.wrappers import Limited, Recording, Retrying
from hybrid_compute.calls import Call
from hybrid_compute.errors import InvalidInput, NotTransferable
from hybrid_compute.testing import BackendContract, tasks
from tests.backends.sandboxed import Twins

pytestmark = pytest.mark.timeout(180)  # the first run on a machine makes the interpreter


@pytest.mark.usefixtures("prepared")
class WasmContract(BackendContract):
    """The contract, in what crosses the border of a sandbox: numbers, texts and bytes to a module, JSON to Python."""

    streams = False
    coroutines = False
    values = (
        None,
        True,
        0,
        -(2**63),
        2**5000,
        1.5,
        -math.inf,
        "",
        "naïve 漢字 🙂 \0",
        b"",
        bytes(range(256)),
        [],
        [1, [2, [3, {"deep": [4]}]]],  # tuples and sets would come back as lists
        {"a": None, "2": "b"},
    )
    invalid_input = InvalidInput
    keeps_causes = False

    async def test_what_cannot_cross_is_told(self) -> None:
        """Within something else infinity would be JSON, which it is not; and neither is just any object."""
        async with self.opened() as backend:
            for value in ([math.inf], [math.nan], object()):
                with pytest.raises(NotTransferable):
                    await backend.run_call(Call(tasks.echo, (value,)))
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
