"""One device for each module: opening it takes longer than most of what is asked of it."""

from collections.abc import Iterator

import pytest

from tests.gpu.ops.device import WITHOUT, Computer, opened


@pytest.fixture(scope="module", params=WITHOUT.values(), ids=[each.replace(" ", "-") for each in WITHOUT])
def gpu(request: pytest.FixtureRequest) -> Iterator[Computer]:
    """A device that does whatever it is asked for, and then one without half floats and subgroups."""
    yield from opened(request.param)
