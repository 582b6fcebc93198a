"""The outbox as the last place of a runtime: what no other place takes is kept, and awaited."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_compute import LocalBackend, Outbox, Runtime, Task, WorkerBackend, task
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    NoBackendAvailable,
    PolicyRefused,
    TaskFailed,
    TaskTimeout,
)
from hybrid_compute.events import CallPassedOn, CallStarted, Event
from tests.faults.watching import until
from tests.outbox.places import Far, double, fail, order, secret


def broken() -> None:
    raise RuntimeError("this machine is locked down")


class Shut(LocalBackend):
    """This process, which takes no calls."""

    async def start(self) -> None:
        await self.aclose()


@task(cost="io")
def fetch(x: int) -> int:
    return 2 * x


@task
def count(upto: int) -> Iterator[int]:
    yield from range(upto)


@pytest.mark.parametrize(
    ("asked", "places"), [(double, ["worker", "local", "later"]), (fetch, ["local", "worker", "later"])]
)
async def test_auto_degrades_to_what_is_left_and_then_to_later(
    asked: Task[..., int], places: list[str], tmp_path: Path
) -> None:
    """Workers do not start, this process is shut, the far place is away: the call waits, and is answered in the end."""
    passed: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, CallStarted | CallPassedOn) and event.backend not in passed:
            passed.append(event.backend)

    async with Outbox(tmp_path / "calls.db", to=(far := Far(away=True)), clock=(clock := ManualClock())) as outbox:
        workers = WorkerBackend(1, initializer=broken)
        async with Runtime([outbox.place(), Shut(), workers], hooks=[note]) as rt:
            assert list(rt.explain(asked, 4).order) == places
            call = asyncio.create_task(rt.run(asked, 4))
            await until(lambda: far.asked)
            assert passed == places
            far.away = False
            await until(lambda: _turn(clock, call))
            assert await call == 8


def _turn(clock: ManualClock, call: "asyncio.Task[int]") -> bool:
    if clock.waiting:
        clock.advance(0.25)
    return call.done()


async def test_nothing_is_kept_while_another_place_takes_the_call(tmp_path: Path) -> None:
    """Later is the last resort."""
    async with Outbox(tmp_path / "calls.db", to=Far()) as outbox:
        async with Runtime([LocalBackend(), outbox.place()]) as rt:
            assert await rt.run(double, 4) == 8
        assert sum((await outbox.counts()).values()) == 0


async def test_a_failed_task_fails_its_caller(tmp_path: Path) -> None:
    """The error is the one that any place would have raised."""
    async with Outbox(tmp_path / "calls.db", to=Far()) as outbox:
        async with Runtime([outbox.place()]) as rt:
            with pytest.raises(TaskFailed, match="odd"):
                await rt.run(fail, "odd")


async def test_an_answered_call_leaves_nothing_behind(tmp_path: Path) -> None:
    """Nobody can ask again for a call without a key; one with a key is kept as if it had been put."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far())) as outbox:
        async with Runtime([outbox.place()]) as rt:
            assert await rt.run(double, 4) == 8
            assert await rt.options(key="a", priority=3).run(double, 5) == 10
            assert await rt.options(key="a").run(double, 5) == 10
        [status] = await outbox.calls()
        assert (status.key, status.priority) == ("a", 3)
        assert len(far.done) == 2


async def test_a_call_whose_time_is_up_is_not_sent_any_more(tmp_path: Path) -> None:
    """A deadline holds for a call that waits for its place, too."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far(away=True))) as outbox:
        clock = ManualClock()
        async with Runtime([outbox.place()], clock=clock) as rt:
            call = asyncio.create_task(rt.options(timeout=5.0).run(double, 4))
            await until(lambda: far.asked and outbox._desk._waiting)
            clock.advance(5.0)
            with pytest.raises(TaskTimeout):
                await call
        await until_empty(outbox)


async def until_empty(outbox: Outbox) -> None:
    async with asyncio.timeout(20):
        while True:
            if sum((await outbox.counts()).values()) == 0:
                return
            await asyncio.sleep(0.001)


async def test_a_cancelled_call_is_not_sent_any_more(tmp_path: Path) -> None:
    """Cancelling a call stops it at every place; here it has not begun, and never does."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far(away=True)), now=lambda: 1000.0) as outbox:
        async with Runtime([outbox.place()]) as rt:
            call = asyncio.create_task(rt.run(order, "tea"))
            await until(lambda: far.asked and not outbox._desk.sender._under_way)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await until_empty(outbox)


async def test_a_call_that_is_under_way_is_stopped_with_its_caller(tmp_path: Path) -> None:
    """It has left the outbox, and is stopped where it runs; nothing is kept of it, and nothing waits for it."""
    stopped = asyncio.Event()

    @task
    async def linger() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()

    async with Outbox(tmp_path / "calls.db", to=(far := Far())) as outbox:
        async with Runtime([outbox.place()]) as rt:
            call = asyncio.create_task(rt.run(linger))
            await until(lambda: far.done)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await asyncio.wait_for(stopped.wait(), 20)
            await until_empty(outbox)


@pytest.mark.parametrize("away", [False, True])
async def test_a_call_may_be_given_up_at_any_moment(away: bool, tmp_path: Path) -> None:
    """While it is being put, claimed, sent or put back: in the end nothing waits and nothing is under way."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far(away=away)), synchronous="NORMAL") as outbox:
        async with Runtime([outbox.place()]) as rt:
            for turns in range(60):
                call = asyncio.create_task(rt.run(order, str(turns)))
                for _ in range(turns):
                    await asyncio.sleep(0.0001)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            await until(lambda: not outbox._desk.sender._given_up and len(asyncio.all_tasks()) <= 2)
        counts = await outbox.counts()
        assert counts["waiting"] == counts["sent"] == counts["dead"] == 0
        assert len(far.done) == len({call.args for call in far.done})


async def test_giving_up_withdraws_only_a_call_of_ones_own(tmp_path: Path) -> None:
    """A call that was put before, or that another waits for too, stays."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far(away=True)), now=lambda: 1000.0) as outbox:
        await outbox.options(key="put").put(double, 4)
        async with Runtime([outbox.place()]) as rt:
            joined = asyncio.create_task(rt.options(key="put").run(double, 4))
            mine = asyncio.create_task(rt.options(key="shared").run(double, 5))
            await until(lambda: len(outbox._desk._waiting) == 2)
            other = asyncio.create_task(rt.options(key="shared").run(double, 5))
            await until(lambda: len(outbox._desk._waiting["shared"]) == 2 and not outbox._desk.sender._under_way)
            joined.cancel()
            mine.cancel()
            await asyncio.gather(joined, mine, return_exceptions=True)
            assert (await outbox.counts())["waiting"] == 2
            far.away = False
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)


async def test_closing_the_runtime_keeps_the_call(tmp_path: Path) -> None:
    """The caller is answered, and told that the call may yet be done; the next start sends it."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far(away=True)), now=lambda: 1000.0) as outbox:
        async with Runtime([outbox.place()]) as rt:
            call = asyncio.create_task(rt.run(double, 4))
            await until(lambda: far.asked and not outbox._desk.sender._under_way)
        with pytest.raises(BackendClosed) as caught:
            await call
        assert caught.value.started
        assert (await outbox.counts())["waiting"] == 1


async def test_a_dropped_call_fails_its_caller(tmp_path: Path) -> None:
    """Whoever awaits a call that somebody drops is told, in the errors of a place."""
    async with Outbox(tmp_path / "calls.db", to=(far := Far(away=True)), now=lambda: 1000.0) as outbox:
        async with Runtime([outbox.place()]) as rt:
            call = asyncio.create_task(rt.run(double, 4))
            await until(lambda: far.asked and not outbox._desk.sender._under_way)
            await outbox.drop(states=["waiting"])
            with pytest.raises(BackendError, match="was dropped"):
                await call


async def test_a_private_task_is_not_kept_for_a_place_elsewhere(tmp_path: Path) -> None:
    """Waiting first does not make it right to send it away; kept for a place on this machine it may be."""
    async with Outbox(tmp_path / "far.db", to=Far()) as outbox:
        async with Runtime([outbox.place()]) as rt:
            with pytest.raises(PolicyRefused, match="must not leave this machine"):
                await rt.run(secret, 4)
    async with Outbox(tmp_path / "here.db", to=LocalBackend()) as outbox:
        async with Runtime([outbox.place()]) as rt:
            assert await rt.run(secret, 4) == 4
    async with Outbox(tmp_path / "unknown.db") as outbox:
        assert not outbox.place().on_this_machine


async def test_it_keeps_only_what_its_place_could_run(tmp_path: Path) -> None:
    """A stream cannot wait, and a need that nobody provides is not met by waiting."""

    @task(name="double")
    def another(x: int) -> int:
        return 3 * x

    @task(needs={"gpu"})
    def paint() -> None: ...

    async with Outbox(tmp_path / "calls.db", to=Far(), tasks=[double]) as outbox:
        async with Runtime([outbox.place()]) as rt:
            for asked, reason in [
                (count, "a stream cannot wait"),
                (another, "knows another task of that name"),
                (paint, "does not provide gpu"),
            ]:
                assert reason in rt.explain(asked).refusals["later"]
            with pytest.raises(NoBackendAvailable, match="a stream cannot wait"):
                await rt.run(count, 3)


async def test_a_place_of_an_outbox_that_is_not_open_passes_the_call_on(tmp_path: Path) -> None:
    """Nothing was kept, so another place may do."""
    outbox = Outbox(tmp_path / "calls.db", to=Far())
    async with Runtime([outbox.place(), LocalBackend()], strategy="in_order") as rt:
        assert await rt.run(double, 4) == 8
