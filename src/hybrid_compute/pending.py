"""A call under way, as `Runtime.run` gives it: await it, gather it, or make a task of it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from hybrid_compute.backends.pool import Pool
from hybrid_compute.driven import Driven
from hybrid_compute.errors import BackendError, HybridComputeError
from hybrid_compute.links.ticket import Ticket
from hybrid_compute.routing import Lane
from hybrid_compute.timings import Profile

_set_result = asyncio.Future.set_result  # `super()` would be a call more


class Pending(Driven):
    """The future of one call on a worker. Cancelling it stops the call.

    What it knows of the call is set from outside, right after it is made: a constructor in Python would cost more than
    all of it.
    """

    __slots__ = ("call", "lane", "pool", "profile")

    lane: Lane
    pool: Pool
    call: Ticket | None  # until there is an outcome: it refers to this future in turn
    profile: Profile | None
    # Seldom used, and hence kept in a dictionary that is made when needed.
    began = 0.0
    _recovery: asyncio.Task[Any] | None = None

    # The outcome, from the pool.

    def set_result(self, result: Any, /) -> None:
        call, self.call = self.call, None
        assert call is not None
        tally = self.lane.tally
        tally.calls += 1
        tally.sent += call.sent
        tally.received += call.received
        if self.profile is not None:
            self.profile.sample(self.pool.name, call, self.began)
        _set_result(self, result)

    def set_exception(self, exception: BaseException | type[BaseException], /) -> None:
        call, self.call = self.call, None
        assert call is not None
        tally = self.lane.tally
        tally.calls += 1
        if isinstance(exception, HybridComputeError):
            tally.failed += 1
        if isinstance(exception, BackendError) and self.lane.recover is not None:
            # The place failed, not the task: another place may do.
            self._recovery = self.get_loop().create_task(self.lane.recover(call, exception))
            self._recovery.add_done_callback(self._recovered)
            return
        super().set_exception(exception)

    def _recovered(self, recovery: asyncio.Task[Any]) -> None:
        if self.done():
            return
        if recovery.cancelled():
            super().cancel()
        elif error := recovery.exception():
            super().set_exception(error)
        else:
            super().set_result(recovery.result())

    # The asker's side.

    def cancel(self, msg: Any | None = None) -> bool:
        if not super().cancel(msg):
            return False
        if self._recovery is not None:
            self._recovery.cancel()
        call, self.call = self.call, None
        if call is not None:
            self.pool.withdraw(call)
        return True

    def __await__(self) -> Generator[Any, None, Any]:
        if self.call is not None:
            self.pool.wait_here(self.call)
        return super().__await__()
