"""The gpu as a place, for tests that open one of their own."""

from typing import Any

import pytest

from hybrid_compute import GpuBackend
from hybrid_compute.errors import BackendUnavailable


async def started(**options: Any) -> GpuBackend:
    """Open; where there is none the test is skipped, and the reason is told."""
    backend = GpuBackend(**options)
    await backend.start()
    try:
        backend.device  # noqa: B018  # to hear why not
    except BackendUnavailable as error:
        pytest.skip(str(error))
    return backend
