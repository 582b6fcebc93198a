"""Three devices for all tests of operations: opening one takes longer than most of what is asked of it."""

from collections.abc import Iterator

import pytest

from tests.gpu.ops.device import Computer, opened


@pytest.fixture(scope="session")
def full_gpu() -> Iterator[Computer]:
    """A device that does whatever it can."""
    yield from opened(())


@pytest.fixture(scope="session")
def bare_gpu() -> Iterator[Computer]:
    """A device that knows neither half floats nor subgroups."""
    yield from opened(("shader-f16", "subgroup"))


@pytest.fixture(scope="session")
def narrow_gpu() -> Iterator[Computer]:
    """A device that takes 20 workgroups in one direction, where others take 65,535."""
    yield from opened((), {"max-compute-workgroups-per-dimension": 20})


@pytest.fixture(params=["full", "bare"])
def gpu(request: pytest.FixtureRequest) -> Computer:
    """One, and then the other."""
    found: Computer = request.getfixturevalue(f"{request.param}_gpu")
    return found


@pytest.fixture(params=["full", "bare", "full processor", "bare processor"])
def any_gpu(request: pytest.FixtureRequest) -> Computer:
    """The same, each with what is computed shaped for a gpu, and for a processor."""
    device, *processor = request.param.split()
    found: Computer = request.getfixturevalue(f"{device}_gpu")
    return Computer(found.device, software=bool(processor))
