"""What holds for every test."""

import pytest
from hypothesis import settings

# The same examples in every run, however slow the machine: a test that fails by chance helps nobody.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def prepared() -> None:
    """The interpreter of sandboxes is there. The first run on a machine makes it, which takes half a minute or more."""
    for name in ("wasmtime", "componentize_py"):
        pytest.importorskip(name)  # and whatever else is in the way is a fault
    from hybrid_compute.sandbox import Sandbox

    Sandbox.prepare()
