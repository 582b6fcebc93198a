"""Many engines in few workers: each engine lives in one of them, and those of different workers act at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from hybrid_compute.backends.worker import usable_cores
from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.engine.carrier import Carrier
from hybrid_compute.engine.core import Plan
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.environment import Mechanism
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.universal import carrier_by
from hybrid_compute.errors import EngineStopped

S = TypeVar("S")


class EnginePool:
    """Workers for any number of engines. Its engines end with it.

        >>> async with EnginePool(2) as pool:
        ...     games = [await pool.open(Deck) for _ in range(1000)]
        ...     hands = await asyncio.gather(*(game.dispatch_async(Deck.draw, count=5) for game in games))

    Engines in one worker act in turn, so a slow action holds up its neighbours, and their time runs. When an action
    must be stopped, all engines in its worker lose their state, and get it back when they are asked next. When a worker
    dies, the `durable` ones do, as in `WorkerOptions`, and any other says so and is stopped.
    """

    def __init__(self, size: int | None = None, *, mechanism: Mechanism | None = None) -> None:
        self.size = usable_cores() if size is None else size
        if self.size < 1:
            raise ValueError(f"a pool needs at least one worker, not {size}")
        self._members: dict[Carrier, set[Engine[Any]]] = {carrier_by(mechanism): set() for _ in range(self.size)}
        self._closed = False

    async def open(
        self,
        state: Callable[[], S] | Plan | None = None,
        actions: ActionRegistry | None = None,
        *,
        seed: int | None = None,
        worker_options: WorkerOptions | None = None,
    ) -> Engine[S]:
        """An engine in the worker that has the fewest. It is shut down by itself, or with the pool.

        Raises `EngineStopped` after the end, and what `Engine.start` raises.
        """
        if self._closed:
            raise EngineStopped("the pool of this engine is closed")
        workers = min(self._members, key=lambda each: len(self._members[each]))
        engine: _Member[S] = _Member(state, actions, workers=workers, seed=seed, worker_options=worker_options)
        engine.join(self._members[workers])
        try:
            await engine.start()
        except BaseException:
            engine.leave()
            raise
        return engine

    def __len__(self) -> int:
        """How many engines there are."""
        return sum(map(len, self._members.values()))

    async def aclose(self) -> None:
        """Shut all engines down, each after what is pending there, and stop the workers."""
        self._closed = True
        try:
            await asyncio.gather(*(each.shutdown() for members in self._members.values() for each in members))
        finally:
            await asyncio.gather(*(each.aclose() for each in self._members))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Member(Engine[S]):
    """An engine that is one of a pool's until its end, as its forks are."""

    _members: set[Engine[Any]]

    def join(self, members: set[Engine[Any]]) -> None:
        self._members = members
        members.add(self)

    def leave(self) -> None:
        self._members.discard(self)

    def _twin(self) -> Self:
        twin = super()._twin()
        twin.join(self._members)
        return twin

    def _say_goodbye(self) -> None:
        self.leave()
        super()._say_goodbye()
