"""Pipelines: what comes out, how far each stage runs ahead, and how it all ends."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_compute import BlockingRuntime, LocalBackend, RemoteBackend, Runtime, Task, WorkerBackend, pipeline
from hybrid_compute.clock import ManualClock
from hybrid_compute.errors import BackendClosed, NoBackendAvailable, TaskFailed, TaskTimeout, WorkerLost
from hybrid_compute.pipelines.pipeline import Pipeline
from hybrid_compute.strategies import only
from hybrid_compute.tasks import AnyTask, Stage, TaskRegistry
from hybrid_compute.testing import MockBackend
from tests import piped
from tests.faults import tasks as faulty
from tests.faults.watching import kill, marks, until
from tests.piped import Refused, count, count_here, double
from tests.server.serving import serving

ENDED = 2**64 - 1


@pytest.fixture(autouse=True)
async def clean_end() -> AsyncIterator[None]:
    """No test leaves a task behind, nor an error that nobody has seen."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


def coroutine(fn: Callable[[Any], Any], name: str = "step") -> Task[[Any], Any]:
    """A task of this test alone, which runs in this event loop and may look at what the test holds."""
    return Task(fn, name=name)


def notes(error: BaseException) -> list[str]:
    return [note for note in getattr(error, "__notes__", ()) if "pipeline" in note or "stage" in note]


async def read(items: AsyncIterator[Any], seen: list[Any]) -> None:
    """Read all items, so that those before an error have been seen."""
    async for item in items:
        seen.append(item)  # noqa: PERF401  # a comprehension that fails gives nothing


async def settle() -> None:
    """Let everything in this event loop go as far as it can go."""
    for _ in range(200):
        await asyncio.sleep(0)


# What comes out


async def test_items_go_through_the_places_that_their_stages_name() -> None:
    """One call: a generator in a worker, a function in a worker, a function here."""
    pipe = pipeline(count.on("worker"), piped.where.on("worker"), piped.whence.on("local"))
    async with Runtime([WorkerBackend(2), LocalBackend()]) as rt:
        rows = await pipe.run(rt, 50)
    assert [row[0] for row in rows] == list(range(50))
    assert os.getpid() not in {row[1] for row in rows}
    assert {row[2] for row in rows} == {os.getpid()}


async def test_two_places_of_other_names() -> None:
    """A stage goes to the place of its name, and only there."""
    remote, worker = MockBackend(name="remote", on_this_machine=False), MockBackend(name="worker")
    async with Runtime([remote, worker, LocalBackend()]) as rt:
        assert await pipeline(count.on("remote"), double.on("worker"), double.on("local")).run(rt, 3) == [0, 4, 8]
    assert [asked.task for asked in remote.calls] == ["count"]
    assert [asked.args for asked in worker.calls] == [(0,), (1,), (2,)]


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_server_is_a_stage(scheme: str) -> None:
    """Its generator is read as it yields, is held back by a stage here, and leaving it early stops it."""
    with serving(TaskRegistry([count_here, double]), workers=1) as served:
        remote = RemoteBackend(f"{scheme}://127.0.0.1:{served.port}")
        async with Runtime([LocalBackend(), remote]) as rt:
            pipe = pipeline(count_here.on("remote"), piped.increment.on("local"), double.on("remote"))
            assert await pipe.run(rt, 20) == [2 * (number + 1) for number in range(20)]
            async with pipe.stream(rt, 10**9) as items:
                assert [await anext(items) for _ in range(5)] == [2, 4, 6, 8, 10]
            await until(lambda: served.app.desk.under_way == 0, "the server is at work for nobody")
        assert rt.stats()["count_here"]["remote"].calls == 2
        assert set(rt.stats()["double"]) == {"remote"}


async def test_a_first_stage_that_is_no_generator_gives_one_item() -> None:
    """It is called with the arguments, all of them, as any other call."""
    async with Runtime([LocalBackend()]) as rt:
        assert await pipeline(lambda a, *, b: a * b, count).run(rt, 2, b=2) == [0, 1, 2, 3]
        assert await pipeline(double).run(rt, 21) == [42]
        assert await pipeline(count).run(rt, 0) == []


async def test_a_pipeline_is_fed_with_items() -> None:
    """From any iterable, asynchronous or not: then the first stage takes an item as well."""

    async def some() -> AsyncIterator[int]:
        for number in range(40):
            await asyncio.sleep(0)
            yield number

    pipe = pipeline(double.on("worker"), double.on("local"))
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        assert await pipe.over(range(100)).run(rt) == [4 * number for number in range(100)]
        assert await pipe.over(some()).run(rt) == [4 * number for number in range(40)]
        assert await pipe.over([]).run(rt) == []


async def test_a_pipeline_can_be_run_many_times_and_at_once() -> None:
    """It holds nothing but what was said about it."""
    pipe = pipeline(count_here, double, double)
    async with Runtime([LocalBackend()]) as rt:
        results = await asyncio.gather(*(pipe.run(rt, upto) for upto in range(20)))
    assert results == [[4 * number for number in range(upto)] for upto in range(20)]


async def test_there_may_be_many_stages() -> None:
    """More than a type checker follows."""
    async with Runtime([LocalBackend()]) as rt:
        assert await pipeline(count_here, *([piped.increment] * 20)).run(rt, 3) == [20, 21, 22]


KINDS: list[AnyTask] = [piped.increment, piped.dawdle, piped.repeat, piped.split, piped.picky]


async def one_by_one(stages: list[AnyTask], items: list[int], failures: list[BaseException]) -> AsyncIterator[int]:
    """What nested loops would give. What raises is noted, and left out."""
    if not stages:
        for item in items:
            yield item
        return
    last = stages[-1]
    async for item in one_by_one(stages[:-1], items, failures):
        try:
            made = last.fn(item)
            if last.kind == "coroutine":
                made = await made
        except Refused as error:
            failures.append(error)
            continue
        if last.kind == "async generator":
            async for each in made:
                yield each
        else:
            for each in made if last.kind == "generator" else [made]:
                yield each


SETTINGS = st.fixed_dictionaries(
    {
        "stages": st.lists(st.tuples(st.sampled_from(KINDS), st.none() | st.integers(1, 4)), min_size=1, max_size=4),
        "items": st.lists(st.integers(0, 60), max_size=30),
        "ordered": st.booleans(),
        "ahead": st.integers(1, 5),
    }
)


@given(SETTINGS)
@settings(max_examples=150)
def test_it_gives_what_nested_loops_would_give(asked: dict[str, Any]) -> None:
    """Whatever the stages and their limits: the same items in order, up to the same error, or the same items at all."""

    async def compare() -> None:
        chosen = [stage for stage, _ in asked["stages"]]
        expected: list[int] = []
        failures: list[BaseException] = []
        before_the_first = None
        async for item in one_by_one(chosen, asked["items"], failures):
            if failures and before_the_first is None:
                before_the_first = list(expected)
            expected.append(item)
        stages = [stage.on("local", limit=limit) for stage, limit in asked["stages"]]
        pipe: Pipeline[[int], int] = pipeline(*stages, ordered=asked["ordered"], ahead=asked["ahead"])
        got: list[int] = []
        failed: BaseException | None = None
        async with Runtime([LocalBackend()]) as rt:
            try:
                async with pipe.over(asked["items"]).stream(rt) as items:
                    await read(items, got)
            except TaskFailed as error:
                failed = error.__cause__
        assert bool(failures) == (failed is not None)
        if not failures:
            assert got == expected if asked["ordered"] else Counter(got) == Counter(expected)
        elif asked["ordered"]:
            assert str(failed) == str(failures[0])
            assert got == (expected if before_the_first is None else before_the_first)
        else:
            assert str(failed) in map(str, failures)
            assert Counter(got) <= Counter(expected)

    asyncio.run(compare())


@given(SETTINGS)
@settings(max_examples=10)
def test_it_does_so_in_workers(asked: dict[str, Any]) -> None:
    """The same where the calls really run beside each other."""
    chosen = [stage for stage, _ in asked["stages"] if stage is not piped.picky]

    async def compare() -> None:
        expected = [item async for item in one_by_one(chosen, asked["items"], [])]
        pipe: Any = pipeline(piped.increment, *(stage.on("worker") for stage in chosen), ordered=asked["ordered"])
        async with Runtime([WorkerBackend(2), LocalBackend()]) as rt:
            got = await pipe.over([item - 1 for item in asked["items"]]).run(rt)
        assert got == expected if asked["ordered"] else Counter(got) == Counter(expected)

    asyncio.run(compare())


# Order, and how many at once


@pytest.mark.parametrize("ordered", [True, False])
async def test_in_order_or_as_completed(ordered: bool) -> None:
    """A slow item keeps the others waiting only where their order matters."""
    go = asyncio.Event()

    async def slow_at_first(x: int) -> int:
        if x == 0:
            await go.wait()
        return x

    seen: list[int] = []
    pipe = pipeline(count_here, coroutine(slow_at_first), double.on("local"), ordered=ordered)

    async def run(rt: Runtime) -> None:
        async with pipe.stream(rt, 5) as items:
            await read(items, seen)

    async with Runtime([LocalBackend()]) as rt:
        reading = asyncio.create_task(run(rt))
        if ordered:
            await settle()
            assert seen == []
        else:
            await until(lambda: sorted(seen) == [2, 4, 6, 8], "the others have overtaken it")
        go.set()
        await reading
    assert (seen if ordered else sorted(seen)) == [0, 2, 4, 6, 8]


async def test_all_stages_work_at_once() -> None:
    """The first stage has item 2 in hand while the second has item 1, and the reader has item 0."""
    has_begun = [asyncio.Event() for _ in range(10)]

    async def wait_for_the_one_before(x: int) -> int:
        has_begun[x].set()
        return x

    async def wait_for_the_one_behind(x: int) -> int:
        await has_begun[min(x + 1, 9)].wait()
        return x

    stages = [coroutine(wait_for_the_one_before).on("local", limit=1), coroutine(wait_for_the_one_behind).on(limit=1)]
    async with Runtime([LocalBackend()]) as rt:
        assert await pipeline(count_here, *stages).run(rt, 10) == list(range(10))


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_stage_has_as_many_calls_under_way_as_its_limit_says(ordered: bool) -> None:
    """No more, and no fewer if there are items."""
    under_way: set[int] = set()
    most = 0
    go = asyncio.Event()

    async def watched(x: int) -> int:
        nonlocal most
        under_way.add(x)
        most = max(most, len(under_way))
        await go.wait()
        under_way.remove(x)
        return x

    async with Runtime([LocalBackend()]) as rt:
        pipe = pipeline(count_here, coroutine(watched).on("local", limit=3), ordered=ordered)
        running = asyncio.create_task(pipe.run(rt, 50))
        await until(lambda: len(under_way) == 3, "three are under way")
        go.set()
        assert sorted(await running) == list(range(50))
    assert most == 3


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("by_arguments", [True, False])
async def test_a_slow_reader_slows_down_the_first_stage(ordered: bool, by_arguments: bool) -> None:
    """What is made and not read is never more than the limits of the stages and what may wait between them."""
    made = 0

    async def make(upto: int = 10**9) -> AsyncIterator[int]:
        nonlocal made
        for number in range(upto):
            made += 1
            yield number

    stages = [double.on("local", limit=2), coroutine(piped.dawdle.fn).on("local", limit=3)]
    pipe: Any = pipeline(make, *stages, ordered=ordered, ahead=4) if by_arguments else None
    if pipe is None:
        pipe = pipeline(*stages, ordered=ordered, ahead=4).over(make())
    most = (1 + 5) + (2 + 5) + (3 + 5)  # in the hands of each stage, and behind it
    async with Runtime([LocalBackend()]) as rt, pipe.stream(rt) as items:
        for number in range(1, 60):
            await anext(items)
            assert made <= number + most
        await until(lambda: made >= 59 + most // 2, "it goes on as far as it may")
        await settle()
        assert made <= 59 + most


async def test_a_slow_stage_slows_down_a_generator_in_a_worker(tmp_path: Path) -> None:
    """It stays within what its place lets it run ahead, and is closed when nobody reads any more."""
    made, go = tmp_path / "made", asyncio.Semaphore(0)

    async def one_at_a_time(x: int) -> int:
        await go.acquire()
        return x

    pipe = pipeline(faulty.count_to.on("worker"), coroutine(one_at_a_time).on("local", limit=1), ahead=2)
    async with Runtime([WorkerBackend(1), LocalBackend()], strategy="worker") as rt:
        async with pipe.stream(rt, 10**9, str(made)) as items:
            for number in range(100):
                go.release()
                assert await anext(items) == number
                assert marks(made).total() <= number + 1 + 32 + 2 * 3 + 2
            assert not marks(made)[ENDED]
        await until(lambda: marks(made)[ENDED], "the generator's `finally` has run")


async def test_a_generator_and_the_calls_on_its_items_share_a_worker() -> None:
    """Its end once stayed in the worker, held back behind the reply to such a call, and nobody ever heard of it."""
    for _ in range(40):
        async with Runtime([WorkerBackend(1)]) as rt:
            assert await pipeline(count.on("worker"), double.on("worker")).run(rt, 3) == [0, 2, 4]


@pytest.mark.parametrize("ordered", [True, False])
async def test_generators_in_later_stages_share_the_room(ordered: bool) -> None:
    """However many there are, and however much each would give: what waits is bounded."""
    made = 0

    async def pour(x: int) -> AsyncIterator[int]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield x

    pipe = pipeline(count_here, Task(pour).on("local", limit=8), ordered=ordered, ahead=3)
    async with Runtime([LocalBackend()]) as rt, pipe.stream(rt, 10**9) as items:
        for number in range(1, 1500):
            item = await anext(items)
            assert not ordered or item == (number - 1) // 1000
            assert made <= number + 8 + 4
        await settle()
        assert made <= 1499 + 8 + 4


async def test_there_may_be_no_end_of_items() -> None:
    """What is not read is not made."""
    numbers = itertools.count()
    async with Runtime([WorkerBackend(1)]) as rt, pipeline(double, double).over(numbers).stream(rt) as items:
        assert [await anext(items) for _ in range(100)] == [4 * number for number in range(100)]
    assert next(numbers) < 100 + 3 * 17 + 2 * 16 + 2


async def test_an_item_that_is_done_with_is_kept_by_nobody() -> None:
    """It may be large, and no other may come for a while."""

    class Large:
        pass

    made: list[weakref.ref[Large]] = []
    go = asyncio.Event()

    async def some() -> AsyncIterator[Large]:
        for _ in range(3):
            large = Large()
            made.append(weakref.ref(large))
            yield large
            del large
        await go.wait()

    async def pass_on(large: Large) -> AsyncIterator[Large]:
        yield large

    async def weigh(large: Large) -> int:
        return len(made)

    stages = [coroutine(pass_on).on("local"), coroutine(weigh).on("local")]
    async with Runtime([LocalBackend()]) as rt:
        pipe: Any = pipeline(*stages)
        async with pipe.over(some()).stream(rt) as items:
            assert [await anext(items) for _ in range(3)] == [3, 3, 3]
            await settle()
            gc.collect()
            assert [each() for each in made] == [None, None, None]
            go.set()
            assert [item async for item in items] == []


# Errors


@pytest.mark.parametrize("place", ["worker", "local"])
async def test_an_error_keeps_its_type_and_names_its_stage(place: str) -> None:
    """Whoever knows the errors of a call knows those of a pipeline; the note tells where to look."""
    pipe = pipeline(count.on(place), double.on("local"), piped.picky.on(place), double.on(place))
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        with pytest.raises(TaskFailed) as caught:
            await pipe.over([3, 12]).run(rt)
    assert isinstance(caught.value.__cause__, Refused)
    assert notes(caught.value) == [f"in stage 3 of 4, picky on {place}, on item 12 (counted from 0)"]


async def test_what_came_before_an_error_is_read_before_it() -> None:
    """In order, the items end where a loop would have ended, however many stages are behind; then there is no more."""
    pipe = pipeline(count.on("worker"), piped.picky.on("worker"), double.on("worker"), double.on("local"))
    seen = []
    async with Runtime([WorkerBackend(2), LocalBackend()]) as rt:
        async with pipe.stream(rt, 10**9) as items:
            with pytest.raises(TaskFailed):
                await read(items, seen)
            assert [item async for item in items] == []
    assert seen == [4 * number for number in range(7)]


async def test_the_first_error_is_the_first_in_order_not_in_time() -> None:
    """Twice the same run, twice the same error."""
    late = asyncio.Event()

    async def fail(x: int) -> int:
        if x == 2:
            await late.wait()
        elif x == 4:
            late.set()
        if x in (2, 4):
            raise Refused(x)
        return x

    async with Runtime([LocalBackend()]) as rt:
        with pytest.raises(TaskFailed, match="Refused: 2"):
            await pipeline(count_here, coroutine(fail), double).run(rt, 10)
        with pytest.raises(TaskFailed, match="Refused: 4"):
            late.clear()
            await pipeline(count_here, coroutine(fail), double, ordered=False).run(rt, 10)


async def test_an_error_stops_what_comes_before_it_even_if_nobody_reads(tmp_path: Path) -> None:
    """The generator of the first stage is closed at once."""
    made = tmp_path / "made"
    pipe = pipeline(faulty.count_to.on("worker"), piped.picky.on("local"), double.on("local"))
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        async with pipe.stream(rt, 10**9, str(made)) as items:
            await until(lambda: marks(made)[ENDED], "the generator's `finally` has run")
            assert await anext(items) == 0
            with pytest.raises(TaskFailed):
                async for _ in items:
                    pass


async def test_an_error_of_a_generator_comes_after_its_items() -> None:
    """In the first stage, where it has no item to blame, and in a later one."""
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        for pipe, arguments, where in (
            (pipeline(faulty.count_and_fail.on("worker"), double), (3,), "1 of 2, count_and_fail on worker"),
            (pipeline(faulty.add_one, faulty.count_and_fail), (2,), "2 of 2, count_and_fail, on item 0"),
        ):
            seen: list[int] = []
            async with pipe.stream(rt, *arguments) as items:
                with pytest.raises(TaskFailed) as caught:
                    await read(items, seen)
            assert len(seen) == 3
            assert where in notes(caught.value)[0]


async def test_an_error_of_the_callers_own_items_is_raised_as_it_is() -> None:
    """After all that came before it."""

    def broken() -> Iterator[int]:
        yield from range(5)
        raise LookupError("the file ends here")

    seen: list[int] = []
    async with Runtime([LocalBackend()]) as rt:
        async with pipeline(double, double).over(broken()).stream(rt) as items:
            with pytest.raises(LookupError, match="ends here") as caught:
                await read(items, seen)
    assert seen == [0, 4, 8, 12, 16]
    assert notes(caught.value) == ["in the items that pipeline double → double is fed with"]


async def test_an_item_that_cannot_go_anywhere_is_an_error_of_its_stage() -> None:
    """No place can run it: the refusals say why, the note says which stage."""
    worker = MockBackend(name="worker", refuses=lambda task: "it is a Tuesday" if task.name == "double" else None)
    async with Runtime([worker]) as rt:
        with pytest.raises(NoBackendAvailable, match="Tuesday") as caught:
            await pipeline(count, double.on("worker")).run(rt, 3)
    assert notes(caught.value) == ["in stage 2 of 2, double on worker, on item 0 (counted from 0)"]


async def test_a_task_that_cancels_itself_ends_the_pipeline() -> None:
    """As it ends a call: nobody waits for ever for an item that will never come."""

    async def give_up(x: int) -> int:
        raise asyncio.CancelledError(f"item {x}")

    async with Runtime([LocalBackend()]) as rt:
        async with pipeline(count_here, coroutine(give_up), double).stream(rt, 3) as items:
            with pytest.raises(asyncio.CancelledError, match="item 0"):
                await anext(items)


async def test_a_runner_that_somebody_else_cancels_is_missed() -> None:
    """What is read does not look complete when it is not."""
    async with Runtime([LocalBackend()]) as rt:
        async with pipeline(piped.dawdle, piped.dawdle).over(itertools.count()).stream(rt) as items:
            await anext(items)
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()
            with pytest.raises(asyncio.CancelledError):
                async for _ in items:
                    pass


# Workers that die


async def test_the_loss_of_a_worker_names_its_stage(tmp_path: Path) -> None:
    """What the worker did may have been done: it is not repeated, and the rest is stopped."""
    pid = tmp_path / "pid"
    jobs = [(str(pid), number) for number in range(20)]
    pipe = pipeline(piped.say_pid_and_stay.on("worker"), double.on("local"))
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        seen: list[int] = []
        async with pipe.over(jobs).stream(rt) as items:
            await until(pid.exists, "it has begun")
            assert kill(int(pid.read_text()))
            with pytest.raises(WorkerLost) as caught:
                await read(items, seen)
        assert seen == [0, 2, 4]
        assert caught.value.started
        assert notes(caught.value) == ["in stage 1 of 2, say_pid_and_stay on worker, on item 3 (counted from 0)"]
        assert await pipe.over([("", 0), ("", 1)]).run(rt) == [0, 2]


async def test_pure_tasks_survive_the_loss_of_a_worker(tmp_path: Path) -> None:
    """They are run again by another worker, and nothing is missing or out of order."""
    jobs = [(str(tmp_path / "died"), number) for number in range(100)]
    pipe = pipeline(piped.die_once.on("worker"), double.on("worker"), double.on("local"))
    async with Runtime([pool := WorkerBackend(2), LocalBackend()]) as rt:
        assert await pipe.over(jobs).run(rt) == [4 * number for number in range(100)]
        assert pool.stats().lost == 1


# How it ends


@pytest.mark.parametrize("ordered", [True, False])
async def test_leaving_early_stops_all_stages(tmp_path: Path, ordered: bool) -> None:
    """Generators are closed, calls are cancelled, and all of that is over when the block is left."""
    made, under_way, cancelled = tmp_path / "made", set[int](), set[int]()

    async def hold(x: int) -> int:
        if x < 2:
            return x
        under_way.add(x)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(10):  # tidying up takes a moment
                await asyncio.sleep(0)
            cancelled.add(x)
            raise
        raise AssertionError

    pipe = pipeline(faulty.count_to.on("worker"), coroutine(hold).on("local"), double.on("worker"), ordered=ordered)
    async with Runtime([pool := WorkerBackend(2), LocalBackend()]) as rt:
        async with pipe.stream(rt, 10**9, str(made)) as items:
            async for item in items:
                if item == 2:
                    break
            await until(lambda: len(under_way) >= 14, "more are under way")
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert cancelled == under_way
        await until(lambda: marks(made)[ENDED], "the generator's `finally` has run")
        await until(lambda: pool.stats().running == 0, "the workers are free")


async def test_cancelling_a_run_stops_all_stages(tmp_path: Path) -> None:
    """As it stops a call: also the worker whose function would never have returned."""
    pid = tmp_path / "pid"
    jobs = [(str(pid), number) for number in range(20)]
    async with Runtime([pool := WorkerBackend(1), LocalBackend()]) as rt:
        running = asyncio.create_task(pipeline(piped.say_pid_and_stay.on("worker"), double).over(jobs).run(rt))
        await until(pid.exists, "it has begun")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await until(lambda: int(pid.read_text()) not in pool.pids, "its worker was killed")


async def test_an_error_in_the_block_stops_all_stages() -> None:
    """It is raised as it is."""
    async with Runtime([WorkerBackend(1), LocalBackend()]) as rt:
        with pytest.raises(ZeroDivisionError):
            async with pipeline(count.on("worker"), double).stream(rt, 10**9) as items:
                async for item in items:
                    1 / item
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_step_that_is_cancelled_loses_nothing() -> None:
    """A reader that looked in vain can look again."""
    go = asyncio.Event()

    async def hold(x: int) -> int:
        await go.wait()
        return x

    async with Runtime([LocalBackend()]) as rt, pipeline(count_here, coroutine(hold)).stream(rt, 20) as items:
        step = asyncio.ensure_future(anext(items))
        await settle()
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        go.set()
        assert [item async for item in items] == list(range(20))


async def test_closing_the_runtime_ends_a_pipeline() -> None:
    """With the error that every pending call gets, and its stage."""

    async def hold(x: int) -> int:
        await asyncio.Event().wait()
        return x

    async with Runtime([LocalBackend()]) as rt:
        async with pipeline(count_here, coroutine(hold, "hold").on("local")).stream(rt, 3) as items:
            await settle()
            await rt.aclose()
            with pytest.raises(BackendClosed) as caught:
                await anext(items)
    assert notes(caught.value) == ["in stage 2 of 2, hold on local, on item 0 (counted from 0)"]


async def test_the_time_of_a_runtime_is_that_of_the_whole_pipeline() -> None:
    """However many calls it is made of, and however quick each of them is."""
    clock = ManualClock()
    async with Runtime([LocalBackend()], clock=clock) as rt:
        assert await pipeline(count_here, double).run(rt.options(timeout=60.0), 2) == [0, 2]
        assert clock.waiting == 0
        pipe = pipeline(double.on("local"), double.on("local")).over(itertools.count())
        async with pipe.stream(rt.options(timeout=60.0)) as items:
            for _ in range(59):
                await anext(items)
                clock.advance(1.0)
            clock.advance(1.0)
            with pytest.raises(TaskTimeout, match="pipeline double on local → double on local was not done after 60 s"):
                async for _ in items:
                    pass
        assert clock.waiting == 0


async def test_the_time_of_a_task_is_that_of_each_of_its_calls() -> None:
    """Also where the whole pipeline has more time, or less."""
    async with Runtime([WorkerBackend(1)]) as rt:
        with pytest.raises(TaskTimeout, match=r"'never_done' .* 0\.1 s") as caught:
            await pipeline(count, piped.never_done.on("worker")).run(rt.options(timeout=3600.0), 1)
        assert notes(caught.value) == ["in stage 2 of 2, never_done on worker, on item 0 (counted from 0)"]


# What is refused


async def test_a_place_that_is_not_there_is_told_before_anything_starts() -> None:
    """A slip of the pen costs nothing."""
    worker = MockBackend(name="worker")
    async with Runtime([worker]) as rt:
        with pytest.raises(ValueError, match="no strategy or backend named 'wroker'; known are: worker,") as caught:
            await pipeline(count.on("worker"), double.on("wroker")).run(rt, 3)
    assert notes(caught.value) == ["in stage double on wroker of a pipeline"]
    worker.assert_not_asked()


def test_nonsense_is_refused_where_it_is_said() -> None:
    """Not only when the pipeline is run."""
    with pytest.raises(ValueError, match="at least one stage"):
        pipeline()  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="ahead must be at least 1, not 0"):
        pipeline(double, ahead=0)
    with pytest.raises(ValueError, match="limit of stage 'double' must be at least 1, not 0"):
        double.on("worker", limit=0)
    with pytest.raises(TypeError, match="a task or a function is needed, not 'double'"):
        pipeline(count, "double")  # type: ignore[call-overload]


async def test_what_cannot_be_meant_is_refused_when_it_is_run() -> None:
    """A key for many calls, arguments besides items, a runtime without an event loop."""
    async with Runtime([LocalBackend()]) as rt:
        with pytest.raises(ValueError, match="a key stands for one call, and 'k1' would be given to many"):
            await pipeline(count, double).run(rt.options(key="k1"), 3)
        with pytest.raises(TypeError, match="pipeline double is fed with items: it takes no arguments besides"):
            await pipeline(double).over([1]).run(rt, 3)  # type: ignore[call-arg]
    with BlockingRuntime([LocalBackend()]) as blocking:
        with pytest.raises(TypeError, match="run by a Runtime, in its event loop, not by <BlockingRuntime"):
            await pipeline(double).run(blocking, 3)  # type: ignore[arg-type]


# How it reads


def test_a_stage_is_still_its_function() -> None:
    """And says where it runs."""
    stage = double.on("worker", limit=4)
    assert stage(21) == 42
    assert (stage.task, stage.place, stage.limit) == (double, "worker", 4)
    assert repr(stage) == "<Stage double on worker, limit 4>"
    assert str(Stage(double)) == "double"


async def test_a_stage_may_have_a_strategy_of_its_own() -> None:
    """A callable, or the name of one; without, it is the runtime's."""
    one, other = MockBackend(name="one"), MockBackend(name="other")
    async with Runtime([one, other], strategy="one") as rt:
        pipe = pipeline(count, double.on(only("other")), double.on("round_robin"), str)
        assert await pipe.run(rt, 4) == ["0", "4", "8", "12"]
    assert Counter(asked.task for asked in one.calls) == {"count": 1, "double": 2, "str": 4}
    assert Counter(asked.task for asked in other.calls) == {"double": 6}


def test_a_pipeline_reads_as_it_was_written() -> None:
    """From left to right; and it cannot be changed."""
    pipe = pipeline(count.on("remote"), double.on("worker", limit=4), Task(str.upper, name="shout"))  # type: ignore[arg-type, call-overload]
    assert repr(pipe) == "<Pipeline count on remote → double on worker → shout>"
    with pytest.raises(AttributeError):
        pipe.ordered = False
