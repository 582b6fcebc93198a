"""What `dispatch_async` gives: the future of one action, which is on its way already."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

from hybrid_compute.driven import Driven
from hybrid_compute.engine.core import Done, Outcome


class OnItsWay(Protocol):
    def wait_here(self) -> None:
        """Wait a moment, if the event loop would only wait as well."""
        ...


class Answer(Driven):
    """Cancelling it leaves the action to be done."""

    __slots__ = ("message",)

    message: OnItsWay | None  # until it is here: it refers to this future in turn

    def settle(self, outcome: Outcome) -> None:
        """The action was done, or has failed."""
        self.message = None
        if self.done():
            return
        if isinstance(outcome, Done):
            self.set_result(outcome.result)
        else:
            self.set_exception(outcome.error)

    def fail(self, error: Exception) -> None:
        """There is no outcome."""
        self.message = None
        if not self.done():
            self.set_exception(error)

    def __await__(self) -> Generator[Any, None, Any]:
        if self.message is not None:
            self.message.wait_here()
        return super().__await__()
