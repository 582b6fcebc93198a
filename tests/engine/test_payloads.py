"""What was dispatched is what is done, whatever becomes of the payload afterwards, and also when it is done again."""

import asyncio

import pytest

from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.errors import ActionFailed, NotTransferable, WorkerLost
from tests.engine.counters import actions, counter


async def test_what_is_changed_after_the_dispatch_is_not_done_again() -> None:
    """The log of a durable engine has what was dispatched, not what the caller has made of it."""
    async with Engine(counter, actions, use_worker=True, worker_options=WorkerOptions(durable=True)) as engine:
        given = {"list": [1]}
        await engine.dispatch_async("keep", given)
        given["list"].append(2)
        with pytest.raises(WorkerLost):
            await engine.dispatch_async("die")
        assert (await engine.state())["seen"] == [{"list": [1]}]


async def test_what_is_changed_within_the_window_is_sent_as_it_was() -> None:
    """A batch has the payloads of the moment of their dispatch."""
    options = WorkerOptions(batching=True, batch_window=0.001)
    async with Engine(counter, actions, use_worker=True, worker_options=options) as engine:
        given = {"by": 1}
        adding = asyncio.create_task(engine.dispatch_async("add", given))
        await asyncio.sleep(0)
        given["by"] = 100
        assert await adding == 1


async def test_what_cannot_travel_fails_alone() -> None:
    """The others of its batch are done."""
    options = WorkerOptions(batching=True, batch_window=0.001)
    async with Engine(counter, actions, use_worker=True, worker_options=options) as engine:
        payloads = [{"by": 1}, (each for each in "abc"), {"by": 1}]
        done = await asyncio.gather(*(engine.dispatch_checked("add", each) for each in payloads))
        assert [each.result for each in done] == [1, None, 2]
        assert isinstance(done[1].error, NotTransferable)


@pytest.mark.parametrize("heard", [False, True], ids=["nobody listens", "somebody listens"])
@pytest.mark.parametrize("use_worker", [False, True], ids=["here", "in a worker"])
async def test_an_action_that_tells_what_cannot_travel_was_not_done(use_worker: bool, heard: bool) -> None:
    """Whoever listens does not decide what is done."""
    async with Engine(counter, actions, use_worker=use_worker) as engine:
        if heard:
            engine.on("added", lambda event: None)
        with pytest.raises(ActionFailed, match="generator"):
            await engine.dispatch_async("tell what cannot travel")
        assert await engine.dispatch_async("add") == 1
        assert [each.type for each in await engine.history()] == ["add"]
