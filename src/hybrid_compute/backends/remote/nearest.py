"""`Nearest`: several servers that can do the same, of which the nearest that works is asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hybrid_compute.backends.group import Group, lacking
from hybrid_compute.backends.remote.backend import RemoteBackend
from hybrid_compute.backends.remote.health import Circuit, Distance, nearest, spread
from hybrid_compute.backends.wrappers import may_run_again
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendError, BackendUnavailable, ConnectionLost, TaskTimeout
from hybrid_compute.tasks import AnyTask

T = TypeVar("T")


@dataclass(slots=True)
class _Server:
    backend: RemoteBackend
    circuit: Circuit
    distance: Distance = field(default_factory=Distance)


class Nearest(Group):
    """Asks the nearest of several servers; when that one fails, the next.

    How far each is, is measured at the start and then about every `every` seconds, as long as there are calls. A server
    that has failed three calls in a row is left alone for a second; then one call may try it, and if that fails too it
    is left alone for twice as long. A call is sent to another server only where it may run again: it never began, or
    its task is `pure`.

        >>> remote = Nearest(
        ...     [RemoteBackend("wss://eu.example", name="eu"), RemoteBackend("wss://us.example", name="us")]
        ... )
    """

    def __init__(
        self,
        members: Sequence[RemoteBackend],
        *,
        name: str = "remote",
        every: float = 30.0,
        circuit: Callable[[], Circuit] = Circuit,
    ) -> None:
        super().__init__(members, name=name)
        self._servers = [_Server(each, circuit()) for each in members]
        self._every = every
        self._measure_at = -math.inf
        self._measuring: asyncio.Task[None] | None = None

    @property
    def distances(self) -> dict[str, float | None]:
        """Seconds to each server and back, None where they are not measured yet."""
        return {each.backend.name: each.distance.seconds if each.distance.count else None for each in self._servers}

    def can_run(self, task: AnyTask, /) -> bool:
        return any(self._order(task))

    def why_not(self, task: AnyTask, /) -> str:
        return "; ".join(f"{each.backend.name}: {self._reason(each, task)}" for each in self._servers)

    async def start(self) -> None:
        await super().start()
        await self._measure()

    async def aclose(self) -> None:
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.gather(self._measuring, return_exceptions=True)
        await super().aclose()

    async def run_call(self, call: Call, /) -> Any:
        return await self._ask_each(call, lambda backend: backend.run_call(call))

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        return await self._ask_each(call, lambda backend: backend.run_batch(call, inputs, limit))

    @asynccontextmanager
    async def stream_call(self, call: Call, /) -> AsyncGenerator[AsyncIterator[Any]]:
        async with aclosing(self._items(call)) as items:
            yield items

    async def _ask_each(self, call: Call, ask: Callable[[RemoteBackend], Awaitable[T]]) -> T:
        self.check_open()
        failure: BackendError | None = None
        for server in self._order(call.task):
            try:
                return await self._watched(server, ask(server.backend))
            except BackendError as error:
                if not may_run_again(error, call.task):
                    raise
                failure = error
        raise failure or self._nobody(call)

    async def _items(self, call: Call) -> AsyncGenerator[Any]:
        """The items from the first server that delivers any."""
        self.check_open()
        failure: BackendError | None = None
        for server in self._order(call.task):
            delivered = False
            try:
                async with AsyncExitStack() as stack:
                    items = await self._watched(server, stack.enter_async_context(server.backend.stream_call(call)))
                    while True:
                        item = await self._watched(server, anext(items, _END))
                        if item is _END:
                            return
                        delivered = True
                        yield item
            except BackendError as error:
                if delivered or not may_run_again(error, call.task):
                    raise
                failure = error
        raise failure or self._nobody(call)

    async def _watched(self, server: _Server, asked: Awaitable[T]) -> T:
        """What the server answers; its circuit learns how it went. Any answer is one, also an error of the task."""
        self._measure_if_old()
        circuit, clock = server.circuit, self.clock
        token = circuit.tries(clock.time())
        try:
            result = await asked
        except (BackendUnavailable, ConnectionLost):
            circuit.failed(clock.time(), token)
            raise
        except (asyncio.CancelledError, TaskTimeout):
            circuit.withdrawn(token)
            raise
        except BaseException:
            circuit.worked()
            raise
        circuit.worked()
        return result

    def _order(self, task: AnyTask) -> Iterator[_Server]:
        """The servers that may be asked now, and can run the task, the nearest first."""
        for index in nearest([(each.distance, each.circuit) for each in self._servers], self.clock.time()):
            server = self._servers[index]
            if server.circuit.may_try(self.clock.time()) and lacking(task, server.backend) is None:
                yield server

    def _reason(self, server: _Server, task: AnyTask) -> str:
        reason = lacking(task, server.backend)
        return reason or "it has failed several calls in a row, and is left alone for a while"

    def _nobody(self, call: Call) -> BackendUnavailable:
        reasons = self.why_not(call.task)
        return BackendUnavailable(
            f"no server of {self.name!r} can run {call.task.name!r}: {reasons}", backend=self.name
        )

    # Measuring.

    def _measure_if_old(self) -> None:
        if self.clock.time() >= self._measure_at and (self._measuring is None or self._measuring.done()):
            self._measuring = asyncio.create_task(self._measure())

    async def _measure(self) -> None:
        self._measure_at = self.clock.time() + spread(self._every)
        await asyncio.gather(*map(self._measure_one, self._servers))

    async def _measure_one(self, server: _Server) -> None:
        try:
            server.distance.add(await server.backend.probe())
        except BackendError:
            pass  # that it is away it says itself


_END: Any = object()
