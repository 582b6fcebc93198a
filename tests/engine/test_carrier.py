"""What an engine keeps, at whichever message its worker dies."""

import asyncio
from typing import Any

import pytest

from hybrid_compute.backends.pool import PoolStats
from hybrid_compute.clock import Clock, SystemClock
from hybrid_compute.engine import host
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.errors import WorkerLost
from hybrid_compute.links.codec import dumps
from hybrid_compute.links.ticket import Answer, Ticket
from tests.engine.counters import actions, counter


class Mortal:
    """A worker that does what it is asked in this process, and dies in the middle of one message."""

    size = 1
    clock: Clock = SystemClock()

    def __init__(self, dies_at: int) -> None:
        self._left = dies_at
        self._lost = 0

    def begin(self, ticket: Ticket, answer: Answer, loop: asyncio.AbstractEventLoop) -> "Mortal":
        loop.call_soon(self._do, ticket, dumps(ticket.args, None), answer)
        return self

    def wait_here(self, ticket: Ticket) -> None:
        """It never answers at once."""

    def _do(self, ticket: Ticket, body: bytes, answer: Answer) -> None:
        self._left -= 1
        if self._left == 0:
            self._lost += 1
            host._cores.clear()
            if not ticket.task.pure:  # else it is done again
                answer.set_exception(WorkerLost("it died", backend="worker", started=True))
                return
        answer.set_result(ticket.task.fn(*host.loads(body)))

    def stats(self) -> PoolStats:
        return PoolStats(1, 1, 0, 0, 0, 1, self._lost)

    async def aclose(self) -> None:
        """There is nothing to stop."""


@pytest.mark.parametrize("dies_at", range(1, 16))
async def test_what_was_answered_is_kept(dies_at: int) -> None:
    """And what was not has not been done."""
    options = WorkerOptions(durable=True)
    engine: Engine[Any] = Engine(counter, actions, workers=Mortal(dies_at), worker_options=options)
    await engine.start()
    totals = [0]
    for step in ["a", "b", "undo", "c", "d", "e", "undo", "undo", "f"]:
        try:
            if step == "undo":
                undone = await engine.undo(1)
                totals = totals[:-1] if undone else totals  # a state that was brought back is where undoing ends
            else:
                totals.append(await engine.dispatch_async("add", {"by": 1}))
        except WorkerLost:
            continue
        assert (await _kept(engine))["total"] == totals[-1]
    assert len(await engine.history()) == len(totals) - 1
    assert totals == list(range(len(totals)))
    await engine.shutdown()


async def _kept(engine: Engine[Any]) -> Any:
    """The state, asked for until somebody is there to answer."""
    try:
        return await engine.state()
    except WorkerLost:
        return await engine.state()
