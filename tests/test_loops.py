"""Every event loop serves as well: asyncio's and uvloop's, each also in debug mode, and none finds fault."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hybrid_compute import LocalBackend, Runtime, WorkerBackend
from hybrid_compute.errors import TaskFailed, TaskTimeout, WorkerLost
from tests.faults import tasks
from tests.faults.watching import alive, kill, marks, until
from tests.routed import count

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop] | None] = {"asyncio": None}
try:
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop
except ImportError:  # there is none for Windows
    pass

PLACES = ["worker", "portable worker", "local"]


class Check:
    """A place and a folder for what is checked there."""

    def __init__(self, place: str, folder: Path) -> None:
        self.pool = WorkerBackend(2, portable=place.startswith("portable"))
        self.rt = Runtime([self.pool, LocalBackend()], strategy=place.split()[-1])
        self.marked = folder / "marks"


async def run(check: Check) -> None:
    """One after the other, and many at once; large values, coroutines and failures."""
    for number in range(20):
        assert await check.rt.run(tasks.add, number, 1) == number + 1
    calls = [check.rt.run(tasks.add, number, 1) for number in range(1000)]
    assert await asyncio.gather(*calls) == list(range(1, 1001))
    assert await check.rt.run(tasks.echo, b"x" * (4 << 20)) == b"x" * (4 << 20)
    assert all(await asyncio.gather(*(check.rt.run(tasks.short_wait, 0.001) for _ in range(20))))
    with pytest.raises(TaskFailed):
        await check.rt.run(tasks.fail, ValueError())


async def map_(check: Check) -> None:
    assert await check.rt.map(tasks.add_one, range(1000)) == list(range(1, 1001))
    async with check.rt.as_completed(tasks.add_one, range(20)) as results:
        assert {given: got async for given, got in results} == {number: number + 1 for number in range(20)}


async def stream(check: Check) -> None:
    """To the end, and left before it."""
    async with check.rt.stream(count, 200) as items:
        assert [item async for item in items] == list(range(200))
    async with check.rt.stream(count, 10**9) as items:
        assert await anext(items) == 0
    assert await check.rt.run(tasks.add, 1, 2) == 3


async def timeout(check: Check) -> None:
    with pytest.raises(TaskTimeout):
        await check.rt.options(timeout=0.05).run(tasks.wait_for_ever, str(check.marked), 1)
    assert await check.rt.options(timeout=50.0).run(tasks.add, 1, 2) == 3


async def cancel(check: Check) -> None:
    running = asyncio.ensure_future(check.rt.run(tasks.wait_for_ever, str(check.marked), 1))
    await until(lambda: marks(check.marked)[1])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await check.rt.run(tasks.add, 1, 2) == 3


async def lose_workers(check: Check) -> None:
    """A worker that is killed takes one call with it, and is replaced."""
    for _ in range(3):
        await check.pool.warm_up()
        path = check.marked
        before = marks(path).total()  # first: the call is on its way before anybody awaits it
        running = asyncio.ensure_future(check.rt.run(tasks.mark_pid, str(path), 3600.0))
        await until(lambda before=before, path=path, running=running: marks(path).total() > before or running.done())
        (victim,) = alive(marks(path))
        assert kill(victim)
        with pytest.raises(WorkerLost):
            await running
        assert await asyncio.gather(*(check.rt.run(tasks.add, number, 1) for number in range(20)))


CHECKS: dict[str, Callable[[Check], Coroutine[Any, Any, None]]] = {
    "run": run,
    "map": map_,
    "stream": stream,
    "timeout": timeout,
    "cancel": cancel,
    "lose workers": lose_workers,
}


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("check", CHECKS)
def test_every_loop_does_as_well(
    check: str, place: str, loop: str, debug: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No call from a wrong thread, no coroutine never awaited, no future left behind, no warning, nothing logged."""
    if check == "lose workers" and place == "local":
        pytest.skip("there are no workers to kill")

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = math.inf  # to be slow is no fault
        made = Check(place, tmp_path)
        async with made.rt:
            await CHECKS[check](made)

    with asyncio.Runner(loop_factory=LOOPS[loop], debug=debug) as runner:
        runner.run(main())
    gc.collect()
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING], caplog.text
