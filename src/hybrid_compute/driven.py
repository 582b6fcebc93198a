"""A future that can also be driven as a coroutine, because `asyncio.create_task` and task groups ask for one.

A future costs a third of a coroutine with a task around it, and thousands of calls are gathered at once. Unlike a
coroutine it is under way before anybody awaits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class _FutureAndCoroutine(asyncio.Future[Any], Coroutine[Any, Any, Any]): ...
else:
    _FutureAndCoroutine = asyncio.Future  # the methods below are all that makes a coroutine


class Driven(_FutureAndCoroutine):
    """The future of something under way: await it, gather it, or make a task of it."""

    _steps: Generator[Any, None, Any] | None = None

    def send(self, value: Any, /) -> Any:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.throw(*error)

    def close(self) -> None:
        """A coroutine that nobody will drive any further is closed."""
        self.cancel()
