"""Tasks, and places that can be away, for the tests of the outbox."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hybrid_compute import LocalBackend, task
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendUnavailable, ConnectionLost
from hybrid_compute.outbox.box import Ticket
from hybrid_compute.outbox.entries import State, Status
from hybrid_compute.tasks import AnyTask
from tests.faults.watching import PATIENCE


@task(pure=True)
def double(x: int) -> int:
    return 2 * x


@task
def order(article: str, count: int = 1) -> str:
    """Not pure: who orders twice pays twice."""
    return f"{count} {article}"


@task
def fail(text: str) -> None:
    raise ValueError(text)


@task(private=True)
def secret(x: int) -> int:
    return x


async def comes_to(ticket: Ticket[Any], state: State, *, reason: str = "") -> Status:
    """Wait until the call is in this state, for this reason."""
    async with asyncio.timeout(PATIENCE):
        while True:
            status = await ticket.status()
            if status.state == state and reason in status.reason:
                return status
            await asyncio.sleep(0.001)


class Far(LocalBackend):
    """A place elsewhere, for all that the outbox knows. It can be away, and it can lose its answers.

    `seen` counts what it was asked for by key, `done` what it ran. With `remembers`, it runs each key once.
    """

    name = "far"
    rank = 3
    on_this_machine = False

    def __init__(self, *, away: bool = False, remembers: bool = False) -> None:
        super().__init__(threads=4)
        self.away = away
        self.remembers_keys = remembers
        self.refuses: Exception | None = None
        self.loses_answers = 0
        self.gate: asyncio.Event | None = None
        self.asked: list[Call] = []
        self.done: list[Call] = []
        self.under_way = self.most_under_way = 0
        self._memory: dict[str, Any] = {}

    @property
    def ran(self) -> Counter[str]:
        """How often each key ran."""
        return Counter(call.key or "" for call in self.done)

    @property
    def inputs(self) -> list[Any]:
        """The first argument of each call that ran, in order."""
        return [call.args[0] for call in self.done]

    async def run_call(self, call: Call, /) -> Any:
        self.asked.append(call)
        if self.away:
            raise BackendUnavailable("there is no connection to far", backend="far")
        if self.refuses is not None:
            raise self.refuses
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gate is not None:
                async with self.within_limits(call):
                    await self.gate.wait()
            result = await self._once(call)
        finally:
            self.under_way -= 1
        if self.loses_answers:
            self.loses_answers -= 1
            raise ConnectionLost("the connection to far was lost", backend="far", started=True)
        return result

    async def _once(self, call: Call) -> Any:
        if self.remembers_keys and call.key in self._memory:
            return self._memory[call.key]
        self.done.append(call)
        result = await super().run_call(call)
        if call.key is not None:
            self._memory[call.key] = result
        return result

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self.run_call(Call(task, args, kwargs))
