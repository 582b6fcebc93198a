"""Many engines in few workers: each engine lives in one of them, and those of different workers act at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from hybrid_compute.backends.crew import Lifetime
from hybrid_compute.backends.worker import WorkerBackend, usable_cores
from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.options import WorkerOptions

S = TypeVar("S")


class EnginePool:
    """Workers for any number of engines. Its engines end with it.

        >>> async with EnginePool(2) as pool:
        ...     games = [await pool.open(Deck) for _ in range(1000)]
        ...     hands = await asyncio.gather(*(game.dispatch_async(Deck.draw, count=5) for game in games))

    When a worker dies, or an action in it must be stopped, all engines in it lose their state: `durable` ones get it
    back, as in `WorkerOptions`, and so does every one after a timeout.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = usable_cores() if size is None else size
        if self.size < 1:
            raise ValueError(f"a pool needs at least one worker, not {size}")
        stay = Lifetime(min_workers=1, idle_timeout=None)
        self._workers = {WorkerBackend(1, lifetime=stay): set[Engine[Any]]() for _ in range(self.size)}

    async def open(
        self,
        state: Callable[[], S] | None = None,
        actions: ActionRegistry | None = None,
        *,
        seed: int | None = None,
        worker_options: WorkerOptions | None = None,
    ) -> Engine[S]:
        """An engine in the worker that has the fewest. It is shut down by itself, or with the pool."""
        workers = min(self._workers, key=lambda each: len(self._workers[each]))
        engine: Engine[S] = Engine(state, actions, workers=workers, seed=seed, worker_options=worker_options)
        self._workers[workers].add(engine)
        engine.once("engine:shutdown", lambda _: self._workers[workers].discard(engine))
        await engine.start()
        return engine

    def __len__(self) -> int:
        """How many engines there are."""
        return sum(map(len, self._workers.values()))

    async def aclose(self) -> None:
        """Shut all engines down, and stop the workers."""
        await asyncio.gather(*(each.shutdown() for engines in self._workers.values() for each in set(engines)))
        await asyncio.gather(*(each.aclose() for each in self._workers))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
