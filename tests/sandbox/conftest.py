"""A sandbox for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid_compute.sandbox import Sandbox


@pytest.fixture(scope="module")
def box(prepared: None) -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox
