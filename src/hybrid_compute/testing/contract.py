"""The contract of a backend, as tests: subclass `BackendContract`, make your backend, and they run against it.

    class TestThreadBackend(BackendContract):
        streams = False

        def make_backend(self):
            return ThreadBackend(size=1)

They need pytest with pytest-asyncio, and take a second or two.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hybrid_compute.backends.base import Backend
from hybrid_compute.calls import Call
from hybrid_compute.clock import Clock, ManualClock
from hybrid_compute.errors import BackendClosed, BackendError, HybridComputeError, TaskFailed, TaskTimeout
from hybrid_compute.tasks import AnyTask
from hybrid_compute.testing import tasks


class BackendContract:
    """What every backend promises. Say what yours can do in the class attributes below."""

    streams: ClassVar[bool] = True
    """Whether it runs generator tasks."""
    coroutines: ClassVar[bool] = True
    """Whether it runs coroutine tasks."""
    sees_files: ClassVar[bool] = True
    """Whether its tasks see the files of the test. Where they do not, what needs a sign from a task is left out."""
    values: ClassVar[Sequence[Any]] = (
        None,
        True,
        0,
        -(2**63),
        2**5000,
        1.5,
        -math.inf,
        "",
        "naïve 漢字 🙂 \0",
        b"",
        bytes(range(256)),
        [],
        (1, (2, [3, {"deep": (4,)}])),
        {"a": None, 2: "b"},
        {1, 2, 3},
    )
    """Values that come back from it as they went."""
    large: ClassVar[int] = 16 << 20
    """A number of bytes that it takes and gives back."""
    keeps_causes: ClassVar[bool] = True
    """Whether what a task raised comes back with its notes and its own cause. Elsewhere they are in the text alone."""
    keeps_tracebacks: ClassVar[bool] = True
    """Whether the traceback of what a task raised comes back as text."""
    refuses: ClassVar[Collection[AnyTask]] = ()
    """The contract's tasks that it has no way to run, and says so. Tests that need one are skipped, with its reason."""
    invalid_input: ClassVar[type[HybridComputeError]] = TaskFailed
    """What a call raises whose input does not fit the task: `InvalidInput`, if that is seen before the task runs."""

    pytestmark = pytest.mark.asyncio

    def make_backend(self) -> Backend:
        """A new backend, not yet started."""
        raise NotImplementedError("say in make_backend which backend is to be tested")

    @asynccontextmanager
    async def opened(self, clock: Clock | None = None) -> AsyncGenerator[Backend]:
        """A started backend, closed at the end. Whatever hangs is given up after half a minute."""
        backend = self.make_backend()
        backend.clock = clock or backend.clock
        async with asyncio.timeout(tasks.PATIENCE):
            await backend.start()
            try:
                yield backend
            finally:
                await backend.aclose()

    # Results.

    async def test_it_returns_the_result(self) -> None:
        """A call gives what the task returns."""
        async with self.opened() as backend:
            assert await backend.run_call(Call(tasks.add, (1, 2))) == 3

    async def test_it_passes_keyword_arguments(self) -> None:
        """Arguments by position and by name reach the task as they were given."""
        async with self.opened() as backend:
            assert await backend.run_call(Call(tasks.add, (1,), {"b": 2})) == 3
            assert await backend.run_call(Call(tasks.add, (), {"b": 2, "a": 1})) == 3
            assert await backend.run_call(Call(tasks.add, (), {"a": 1})) == 1

    async def test_run_task_gives_the_result_too(self) -> None:
        """`run_task` is the same without the limits of a call."""
        async with self.opened() as backend:
            assert await backend.run_task(tasks.add, 1, b=2) == 3

    async def test_values_come_back_as_they_went(self) -> None:
        """Nothing is lost on the way: not None, not a big number, not the kind of a container."""
        async with self.opened() as backend:
            for value in self.values:
                back = await backend.run_call(Call(tasks.echo, (value,)))
                assert back == value
                assert type(back) is type(value)

    async def test_a_task_may_return_nothing(self) -> None:
        """None is a result like any other."""
        async with self.opened() as backend:
            self.needs(backend, tasks.nothing)
            assert await backend.run_call(Call(tasks.nothing)) is None

    async def test_it_takes_many_bytes(self) -> None:
        """A large argument and a large result cross whole."""
        value = bytes(range(256)) * (self.large // 256)
        async with self.opened() as backend:
            assert await backend.run_call(Call(tasks.echo, (value,))) == value

    async def test_it_runs_coroutine_tasks(self) -> None:
        """A coroutine task gives what it returns; a backend that cannot run one says so."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.add_async, self.coroutines):
                assert await backend.run_call(Call(tasks.add_async, (1, 2))) == 3

    # Failures.

    async def test_what_a_task_raises_becomes_task_failed(self) -> None:
        """The original is the cause, with its own cause and notes; the traceback travels as text."""
        async with self.opened() as backend:
            self.needs(backend, tasks.fail)
            with pytest.raises(TaskFailed) as caught:
                await backend.run_call(Call(tasks.fail, ("odd",)))
            failed, cause = caught.value, caught.value.__cause__
            assert "ValueError: odd" in str(failed)
            assert isinstance(cause, ValueError)
            assert cause.args == ("odd",)
            if self.keeps_causes:
                assert cause.__notes__ == ["a note for the reader"]
                assert isinstance(cause.__cause__, KeyError)
            if self.keeps_tracebacks:
                for words in ("in fail", "a note for the reader", "KeyError: 'the cause'"):
                    assert words in failed.remote_traceback
            await self.still_works(backend)

    async def test_an_exception_that_cannot_travel_is_still_told(self) -> None:
        """Its text arrives, whatever its class does to pickling."""
        async with self.opened() as backend:
            self.needs(backend, tasks.fail_peculiarly)
            with pytest.raises(TaskFailed, match="Peculiar: quite odd") as caught:
                await backend.run_call(Call(tasks.fail_peculiarly, ("quite odd",)))
            if self.keeps_tracebacks:
                assert "Peculiar" in caught.value.remote_traceback
            await self.still_works(backend)

    async def test_wrong_arguments_are_a_failure_of_the_task(self) -> None:
        """A call that does not fit the function fails as the function would, or before it runs."""
        async with self.opened() as backend:
            with pytest.raises(self.invalid_input, match="argument"):
                await backend.run_call(Call(tasks.add, (1, 2, 3)))
            await self.still_works(backend)

    async def test_an_escaped_stop_iteration_is_a_failure_of_the_task(self) -> None:
        """The one exception that futures and generators cannot carry arrives all the same."""
        async with self.opened() as backend:
            self.needs(backend, tasks.run_out)
            with pytest.raises(TaskFailed, match="StopIteration"):
                await backend.run_call(Call(tasks.run_out))
            await self.still_works(backend)

    @pytest.mark.parametrize("seconds", [None, 20.0], ids=["without a deadline", "with a deadline"])
    async def test_a_timeout_error_of_the_task_is_its_own(self, seconds: float | None) -> None:
        """`TaskTimeout` is for the call's time alone."""
        async with self.opened() as backend:
            self.needs(backend, tasks.be_late)
            with pytest.raises(TaskFailed) as caught:
                await backend.run_call(self.timed(backend, seconds, tasks.be_late))
            assert isinstance(caught.value.__cause__, TimeoutError)
            await self.still_works(backend)

    async def test_a_task_that_exits_ends_only_its_call(self) -> None:
        """`sys.exit` in a task stops neither this program nor the place."""
        async with self.opened() as backend:
            self.needs(backend, tasks.leave)
            with pytest.raises((TaskFailed, BackendError)):
                await backend.run_call(Call(tasks.leave))
            await self.still_works(backend)

    # Time and cancellation.

    async def test_a_call_in_time_is_not_touched_by_its_deadline(self) -> None:
        """A deadline far away changes nothing."""
        async with self.opened() as backend:
            assert await backend.run_call(self.timed(backend, 20.0, tasks.add, 1, 2)) == 3

    async def test_a_call_beyond_its_deadline_gets_task_timeout(self, tmp_path: Path) -> None:
        """The caller goes on when the time is up, and so does the place."""
        if not self.sees_files:
            pytest.skip("its tasks do not see the files of the test")
        async with self.opened() as backend:
            try:
                with pytest.raises(TaskTimeout, match=r"0\.05 s"):
                    await backend.run_call(self.timed(backend, 0.05, tasks.hold, str(tmp_path)))
            finally:
                (tmp_path / "go").touch()  # for places that cannot stop a running task
            await self.still_works(backend)

    async def test_its_time_is_that_of_its_clock(self) -> None:
        """A deadline in an hour passes when the clock is turned so far, and not before."""
        clock = ManualClock()
        async with self.opened(clock) as backend:
            if self.offers(backend, tasks.wait_async, self.coroutines):
                call = asyncio.ensure_future(backend.run_call(self.timed(backend, 3600.0, tasks.wait_async)))
                while not clock.waiting:  # noqa: ASYNC110  # a clock that stands still wakes nobody
                    await asyncio.sleep(0.001)
                clock.advance(3599.0)
                await asyncio.sleep(0.001)
                assert not call.done()
                clock.advance(1.0)
                with pytest.raises(TaskTimeout):
                    await call

    async def test_a_coroutine_task_beyond_its_deadline_gets_task_timeout(self) -> None:
        """The same for a task that only waits."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.wait_async, self.coroutines):
                with pytest.raises(TaskTimeout):
                    await backend.run_call(self.timed(backend, 0.05, tasks.wait_async))
                await self.still_works(backend)

    async def test_a_cancelled_call_leaves_the_place_usable(self, tmp_path: Path) -> None:
        """Cancellation passes through untouched, and the next call is answered."""
        if not self.sees_files:
            pytest.skip("its tasks do not see the files of the test")
        async with self.opened() as backend:
            running = asyncio.ensure_future(backend.run_call(Call(tasks.hold, (str(tmp_path),))))
            await appears(tmp_path / "begun")
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            (tmp_path / "go").touch()
            await self.still_works(backend)

    # Many calls.

    async def test_concurrent_calls_get_each_their_own_answer(self) -> None:
        """No answer goes astray among many."""
        async with self.opened() as backend:
            calls = (backend.run_call(Call(tasks.add, (number, 1))) for number in range(500))
            assert await asyncio.gather(*calls) == list(range(1, 501))

    async def test_failures_among_many_calls_reach_their_own_callers(self) -> None:
        """A call that fails harms no other."""
        async with self.opened() as backend:
            calls = (
                backend.run_call(Call(tasks.add, (number, None if number % 3 == 0 else 1))) for number in range(60)
            )
            answers = await asyncio.gather(*calls, return_exceptions=True)
            for number, answer in enumerate(answers):
                assert isinstance(answer, self.invalid_input) if number % 3 == 0 else answer == number + 1

    async def test_each_call_runs_once(self, tmp_path: Path) -> None:
        """However the place sends and re-sends, a task that is not pure runs one time for each call."""
        if not self.sees_files:
            pytest.skip("its tasks do not see the files of the test")
        log = tmp_path / "log"
        async with self.opened() as backend:
            self.needs(backend, tasks.append)
            calls = (backend.run_call(Call(tasks.append, (str(log), f"{number}"))) for number in range(100))
            await asyncio.gather(*calls)
        assert sorted(map(int, log.read_text().split())) == list(range(100))

    async def test_a_batch_is_many_calls(self) -> None:
        """Where a place sends batches: results in order, the first failure raised, an empty one answered."""
        async with self.opened() as backend:
            if not backend.batches:
                pytest.skip("it sends no batches")
            inputs = [(number, 1) for number in range(700)]
            for limit in (None, 2):
                assert await backend.run_batch(Call(tasks.add), inputs, limit) == list(range(1, 701))
            assert await backend.run_batch(Call(tasks.add), [], None) == []
            with pytest.raises(self.invalid_input):
                await backend.run_batch(Call(tasks.add), [(1, 2), (1, None), (1, 2)], None)
            await self.still_works(backend)

    # Streams.

    async def test_a_stream_gives_the_items_in_order(self) -> None:
        """Every item once, in order, then the end; a backend that cannot stream says so."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.count, self.streams):
                assert await collect(backend, tasks.count, 1000) == list(range(1000))
                assert await collect(backend, tasks.count, 0) == []
                await self.still_works(backend)

    async def test_a_stream_of_an_async_generator_gives_its_items(self) -> None:
        """Async generators stream as generators do."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.count_async, self.streams and self.coroutines):
                assert await collect(backend, tasks.count_async, 100) == list(range(100))

    async def test_running_a_generator_task_gives_the_list_of_its_items(self) -> None:
        """`run` of a generator task waits for all of it."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.count, self.streams):
                assert await backend.run_call(Call(tasks.count, (100,))) == list(range(100))

    async def test_streams_run_side_by_side(self) -> None:
        """Two open streams do not mix."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.count, self.streams):
                ones, others = await asyncio.gather(
                    collect(backend, tasks.count, 200), collect(backend, tasks.count, 300)
                )
                assert ones == list(range(200))
                assert others == list(range(300))

    async def test_leaving_a_stream_early_stops_its_task(self, tmp_path: Path) -> None:
        """The producer is closed, its `finally` runs, and the place is free again."""
        if not self.sees_files:
            pytest.skip("its tasks do not see the files of the test")
        async with self.opened() as backend:
            if self.offers(backend, tasks.tick, self.streams):
                seen: list[int] = []
                async with backend.stream_call(Call(tasks.tick, (str(tmp_path),))) as items:
                    async for item in items:
                        seen.append(item)
                        if item == 3:
                            break
                assert seen == [0, 1, 2, 3]
                await appears(tmp_path / "stopped")
                await self.still_works(backend)

    async def test_a_stream_that_is_never_read_ends_with_its_block(self, tmp_path: Path) -> None:
        """Opening a stream and walking away is harmless."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.tick, self.streams):
                async with backend.stream_call(Call(tasks.tick, (str(tmp_path),))):
                    pass
                await self.still_works(backend)

    async def test_a_stream_that_fails_gives_its_items_first(self) -> None:
        """What was yielded arrives; then comes `TaskFailed`."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.count_and_fail, self.streams):
                seen: list[int] = []
                with pytest.raises(TaskFailed, match="no more") as caught:
                    async with backend.stream_call(Call(tasks.count_and_fail, (3,))) as items:
                        async for item in items:
                            seen.append(item)  # noqa: PERF401  # a comprehension would lose them with the failure
                assert seen == [0, 1, 2]
                assert isinstance(caught.value.__cause__, ValueError)
                await self.still_works(backend)

    async def test_a_stream_left_before_it_fails_says_nothing(self) -> None:
        """Nobody waits for that failure any more, so it is no noise in anybody's log either."""
        noise: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
        async with self.opened() as backend:
            if self.offers(backend, tasks.count_and_fail, self.streams):
                async with backend.stream_call(Call(tasks.count_and_fail, (3,))) as items:
                    for number in range(3):
                        assert await anext(items) == number
                    await asyncio.sleep(0.02)  # time to fail unheard
                await self.still_works(backend)
        gc.collect()
        assert not noise

    async def test_a_stream_with_wrong_arguments_fails(self) -> None:
        """A generator that cannot even begin is a failure, and never a wait without end."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.count, self.streams):
                with pytest.raises(self.invalid_input, match="argument"):
                    await collect(backend, tasks.count, 1, 2, 3)
                await self.still_works(backend)

    async def test_a_stream_beyond_its_deadline_gets_task_timeout(self, tmp_path: Path) -> None:
        """The deadline of a call is that of the whole stream."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.tick, self.streams):
                call = self.timed(backend, 0.1, tasks.tick, str(tmp_path))
                with pytest.raises(TaskTimeout):
                    async with backend.stream_call(call) as items:
                        async for _ in items:
                            pass
                await self.still_works(backend)

    # The place itself.

    async def test_it_has_a_name_and_shows_it(self) -> None:
        """Errors, strategies and logs call it by its name."""
        backend = self.make_backend()
        assert backend.name
        assert backend.name in repr(backend)
        await backend.aclose()

    async def test_can_run_is_quick_and_changes_nothing(self) -> None:
        """It is asked before every call: a thousand answers take no second and are all the same."""
        async with self.opened() as backend:
            for task in (tasks.add, tasks.add_async, tasks.count, tasks.count_async):
                began = time.monotonic()
                answers = {backend.can_run(task) for _ in range(1000)}
                assert time.monotonic() - began < 1.0
                assert len(answers) == 1
            await self.still_works(backend)

    async def test_closing_twice_is_harmless(self) -> None:
        """So is closing what was never used, or never started."""
        async with self.opened() as backend:
            await self.still_works(backend)
            await backend.aclose()
            await backend.aclose()
        unused = self.make_backend()
        await unused.aclose()
        await unused.aclose()

    async def test_a_closed_place_says_so(self) -> None:
        """Use after close is `BackendClosed`, of a call that has not begun."""
        async with self.opened() as backend:
            await self.still_works(backend)
            await backend.aclose()
            with pytest.raises(BackendClosed) as caught:
                await backend.run_call(Call(tasks.add, (1, 2)))
            assert caught.value.backend == backend.name
            assert not caught.value.started

    async def test_a_closed_place_streams_no_more(self) -> None:
        """Use after close is `BackendClosed` for streams too."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.count, self.streams):
                await backend.aclose()
                with pytest.raises(BackendClosed):
                    await collect(backend, tasks.count, 3)

    async def test_closing_answers_every_pending_call(self, tmp_path: Path) -> None:
        """A call that was under way when the place closed gets its result or `BackendClosed`, and nobody waits."""
        if not self.sees_files:
            pytest.skip("its tasks do not see the files of the test")
        async with self.opened() as backend:
            calls = [asyncio.ensure_future(backend.run_call(Call(tasks.hold, (str(tmp_path),)))) for _ in range(20)]
            await appears(tmp_path / "begun")
            closing = asyncio.ensure_future(backend.aclose())
            await asyncio.sleep(0)
            (tmp_path / "go").touch()
            await closing
            for answer in await asyncio.gather(*calls, return_exceptions=True):
                assert answer == "done" or isinstance(answer, BackendClosed)

    async def test_closing_ends_what_only_waits(self) -> None:
        """A coroutine task that would wait for long is not waited for when the place closes."""
        async with self.opened() as backend:
            if self.offers(backend, tasks.wait_async, self.coroutines):
                call = asyncio.ensure_future(backend.run_call(Call(tasks.wait_async)))
                await asyncio.sleep(0)
                await backend.aclose()
                with pytest.raises(BackendClosed):
                    await call

    # Helpers.

    async def still_works(self, backend: Backend) -> None:
        """The next call is answered as if nothing had happened."""
        assert await backend.run_call(Call(tasks.add, (20, 22))) == 42

    def timed(self, backend: Backend, seconds: float | None, task: AnyTask, /, *args: Any) -> Call:
        """A call with this many seconds to go."""
        call = Call(task, args)
        if seconds is not None:
            call.timeout, call.deadline = seconds, backend.clock.time() + seconds
        return call

    def needs(self, backend: Backend, task: AnyTask) -> None:
        """Leave the test where the place refuses this task, which must be what this class says."""
        assert backend.can_run(task) is (task not in self.refuses)
        if task in self.refuses:
            pytest.skip(f"{backend.name} refuses {task.name}: {backend.why_not(task)}")

    def offers(self, backend: Backend, task: AnyTask, expected: bool) -> bool:
        """Whether the place runs such tasks, which must be what this class says."""
        assert backend.can_run(task) is expected
        if not expected:
            assert backend.why_not(task)
        return expected


async def collect(backend: Backend, task: AnyTask, /, *args: Any) -> list[Any]:
    """All items of a stream."""
    async with backend.stream_call(Call(task, args)) as items:
        return [item async for item in items]


async def appears(path: Path) -> None:
    """Wait for a sign that a task leaves."""
    while not path.exists():  # noqa: ASYNC110, ASYNC240  # a file is all that every place can make
        await asyncio.sleep(0.002)
