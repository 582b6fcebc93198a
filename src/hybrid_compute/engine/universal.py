"""The mechanisms behind a worker, and the choice between them. Engines know none of them: a new one is added here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from hybrid_compute.backends.pool import PoolStats
from hybrid_compute.clock import Clock
from hybrid_compute.engine import host
from hybrid_compute.engine.carrier import Carrier, Line
from hybrid_compute.engine.environment import Environment, Mechanism, get_environment, supports_workers
from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.links.ticket import Answer, Ticket


class UniversalWorker:
    """A worker for engines, by whatever mechanism there is: a process, or a thread where that is asked for.

    An engine that does not get one makes its own. Raises `BackendUnavailable` where there is no mechanism.

        >>> async with UniversalWorker() as worker:
        ...     async with Engine(Deck, workers=worker) as engine:
        ...         await engine.dispatch_async(Deck.draw, count=2)
        ['H-A', 'S-7']
    """

    def __init__(self, mechanism: Mechanism | None = None) -> None:
        self._carrier = carrier_by(mechanism)

    @property
    def environment(self) -> Environment:
        """Where this program runs."""
        return get_environment()

    async def ping(self) -> float:
        """Seconds that a message takes there and back. Starts the worker, if it has not. Raises `BackendError`."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Any] = loop.create_future()
        ticket = Ticket(host.ping, ())
        began = time.perf_counter()
        line = self.begin(ticket, answered, loop)
        if line is not None:
            line.wait_here(ticket)
        await answered
        return time.perf_counter() - began

    async def aclose(self) -> None:
        """Stop the worker; the state of its engines is gone."""
        await self._carrier.aclose()

    async def __aenter__(self) -> Self:
        await self.ping()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # As a carrier.

    size = 1

    @property
    def clock(self) -> Clock:
        return self._carrier.clock

    def begin(self, ticket: Ticket, answer: Answer, loop: asyncio.AbstractEventLoop) -> Line | None:
        return self._carrier.begin(ticket, answer, loop)

    @property
    def can_hold(self) -> bool:
        return self._carrier.can_hold

    def stats(self) -> PoolStats:
        return self._carrier.stats()


def carrier_by(mechanism: Mechanism | None) -> Carrier:
    """A new worker of this kind, by default of the best there is. Raises `BackendUnavailable` if there is none."""
    if not supports_workers():
        raise BackendUnavailable("there are no workers in a browser yet", backend="worker")
    return _MECHANISMS[mechanism or "process"]()


def _process() -> Carrier:
    from hybrid_compute.backends.crew import Lifetime
    from hybrid_compute.backends.worker import WorkerBackend

    return WorkerBackend(1, lifetime=Lifetime(min_workers=1, idle_timeout=None))


def _thread() -> Carrier:
    from hybrid_compute.engine.thread import ThreadWorker

    return ThreadWorker()


_MECHANISMS: Final[dict[Mechanism, Callable[[], Carrier]]] = {"process": _process, "thread": _thread}
