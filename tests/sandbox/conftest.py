"""A sandbox for all tests of this folder. The first run on a machine makes its interpreter: half a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.sandbox import Sandbox


@pytest.fixture(scope="session")
def prepared() -> None:
    """The interpreter is there."""
    try:
        Sandbox.prepare()
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def box(prepared: None) -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox
