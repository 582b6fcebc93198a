"""What the tests of a server have in common."""

from __future__ import annotations

import gc
import logging
from collections.abc import Generator
from typing import Any

import pytest

from tests.server import tasks
from tests.server.serving import Served, serving


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    """A server of `tasks`, for all tests of a module that leave it as it was."""
    with serving(tasks.registry(), workers=1) as running:
        yield running


@pytest.fixture
def complaints() -> Generator[list[str]]:
    """What is logged as an error while the test runs; a test that expects some empties the list.

    Whoever forgets a task, raises where nobody listens or answers with a bug is heard of here, whatever the client saw.
    """
    found: list[str] = []
    hand_on = logging.Logger.callHandlers

    def listen(logger: logging.Logger, record: logging.LogRecord) -> Any:
        if record.levelno >= logging.ERROR:
            found.append(f"{record.name}: {logging.Formatter().format(record)}")
        return hand_on(logger, record)

    logging.Logger.callHandlers = listen  # type: ignore[method-assign]  # no handler hears all loggers
    try:
        yield found
        gc.collect(0)  # the young ones: a task that failed and was forgotten complains when it goes
    finally:
        logging.Logger.callHandlers = hand_on  # type: ignore[method-assign]
    assert found == []
