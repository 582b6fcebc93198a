"""One device for all tests that ask for it; where there is none, they are skipped and the reason is told."""

from collections.abc import AsyncIterator, Iterator

import pytest

from hybrid_compute import GpuBackend
from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.gpu.device import Device
from tests.gpu.places import started


@pytest.fixture(scope="session", params=["direct", "staged"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device whose memory the host sees, where the adapter has that, and one that everything is copied to."""
    opened = Device(direct=request.param == "direct")
    try:
        opened.open().result(30)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    yield opened
    opened.close()
    assert opened.join(30)


@pytest.fixture
async def place() -> AsyncIterator[GpuBackend]:
    """The gpu as a place, open."""
    backend = await started()
    yield backend
    await backend.aclose()
