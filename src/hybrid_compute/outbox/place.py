"""A place for calls that no other place takes: they are kept in an outbox, and awaiting one waits for its result."""

from __future__ import annotations

import asyncio
from typing import Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendError, BackendUnavailable, HybridComputeError
from hybrid_compute.outbox.desk import Desk, Kept, PutOptions
from hybrid_compute.tasks import AnyTask


class LaterBackend(Backend):
    """Keeps calls in an outbox and waits for their results; `auto` tries it last of all. Made by `Outbox.place`.

    It provides what the places behind the outbox do, and lets a private task go only where those are on this machine.
    A call that is given up, because its time is up or nobody waits for it any more, is stopped if it was sent, and
    forgotten. When the program dies, the next one sends what was kept.

        async with Outbox("calls.db", to=RemoteBackend(url)) as outbox:
            async with Runtime([WorkerBackend(), LocalBackend(), outbox.place()]) as rt:
                await rt.run(task, ...)
    """

    name = "later"
    rank = 4
    remembers_keys = True

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.on_this_machine = bool(desk.places) and all(place.on_this_machine for place in desk.places)
        if desk.places:
            self.provides = frozenset[str]().union(*(place.provides for place in desk.places))

    def can_run(self, task: AnyTask, /) -> bool:
        return self._against(task) is None

    def why_not(self, task: AnyTask, /) -> str:
        return self._against(task) or super().why_not(task)

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self._wait_for(Call(task, args, kwargs))

    async def run_call(self, call: Call, /) -> Any:
        async with self.within_limits(call):
            return await self._wait_for(call)

    def _against(self, task: AnyTask) -> str | None:
        """Why a call of this task is not to be kept, or None."""
        if task.streams:
            return "a stream cannot wait"
        if task.name in self._desk.tasks and self._desk.tasks[task.name] is not task:
            return "its outbox knows another task of that name"
        return None

    async def _wait_for(self, call: Call) -> Any:
        self.check_open()
        putting = asyncio.ensure_future(self._keep(call))
        try:
            kept = await asyncio.shield(putting)
            result = await self._desk.result(kept.key, kept.task)
        except asyncio.CancelledError:
            if not self.closed:  # a place that closes goes on when the program is started again
                putting.add_done_callback(self._take_back)
            raise
        except LookupError as error:
            if isinstance(error, HybridComputeError):
                raise
            raise BackendError(
                f"the call of {call.task.name!r} was dropped", backend=self.name, started=True
            ) from error
        if call.key is None:  # nobody can ask for it again
            self._desk.forget(kept.key)
        return result

    def _take_back(self, putting: asyncio.Future[Kept]) -> None:
        """Give up a call that this place has put, and nobody before it."""
        if not putting.cancelled() and putting.exception() is None and putting.result().new:
            self._desk.withdraw(putting.result().key)

    async def _keep(self, call: Call) -> Kept:
        options = PutOptions(key=call.key, priority=call.priority, expires=self.time_left(call))
        try:
            return await self._desk.put(self._desk.learn(call.task), call.args, call.kwargs, options)
        except OSError as error:
            raise BackendUnavailable(
                f"the call of {call.task.name!r} was not kept: {error}", backend=self.name
            ) from error
