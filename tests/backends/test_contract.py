"""Every backend keeps the contract: ours, each of ours inside each wrapper, a mock, and one as a user writes it."""

import asyncio
from typing import Any

import pytest

from hybrid_compute.backends.base import Backend, run_function
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.backends.wrappers import Limited, Recording, Retrying
from hybrid_compute.errors import BackendClosed, TaskTimeout
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import AnyTask
from hybrid_compute.testing import BackendContract, ManualClock, MockBackend
from hybrid_compute.testing.tasks import add, count_async


class ThreadBackend(Backend):
    """A backend as a user writes it: two methods, and not one more."""

    name = "thread"

    def can_run(self, task: AnyTask, /) -> bool:
        return task.kind == "function"

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(run_function, task, *args, **kwargs)


class LoopBackend(Backend):
    """The same for coroutines: what only waits ends when the place is closed."""

    name = "loop"

    def can_run(self, task: AnyTask, /) -> bool:
        return not task.streams

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        if task.is_async:
            return await task.fn(*args, **kwargs)
        return await asyncio.to_thread(run_function, task, *args, **kwargs)


class TestLocalBackend(BackendContract):
    def make_backend(self) -> Backend:
        return LocalBackend()


class TestLocalBackendOfOneThread(BackendContract):
    def make_backend(self) -> Backend:
        return LocalBackend(threads=1)


class TestWorkerBackend(BackendContract):
    def make_backend(self) -> Backend:
        return WorkerBackend(2)


class TestWorkerBackendOfOneWorker(BackendContract):
    def make_backend(self) -> Backend:
        return WorkerBackend(1)


class TestPortableWorkerBackend(BackendContract):
    def make_backend(self) -> Backend:
        return WorkerBackend(2, portable=True)


def in_thread(task: AnyTask, *args: Any, **kwargs: Any) -> Any:
    """A handler that runs the task where it does not block the event loop."""
    if task.kind != "function":
        return task.fn(*args, **kwargs)
    return asyncio.to_thread(run_function, task, *args, **kwargs)


class TestMockBackend(BackendContract):
    def make_backend(self) -> Backend:
        return MockBackend(in_thread)


class TestThreadBackend(BackendContract):
    streams = False
    coroutines = False

    def make_backend(self) -> Backend:
        return ThreadBackend()


class TestLoopBackend(BackendContract):
    streams = False

    def make_backend(self) -> Backend:
        return LoopBackend()


class TestRetryingLocal(BackendContract):
    def make_backend(self) -> Backend:
        return Retrying(LocalBackend())


class TestRetryingWorkers(BackendContract):
    def make_backend(self) -> Backend:
        return Retrying(WorkerBackend(2))


class TestRecordingLocal(BackendContract):
    def make_backend(self) -> Backend:
        return Recording(LocalBackend())


class TestRecordingWorkers(BackendContract):
    def make_backend(self) -> Backend:
        return Recording(WorkerBackend(2))


class TestLimitedLocal(BackendContract):
    def make_backend(self) -> Backend:
        return Limited(LocalBackend(), calls=2)


class TestLimitedWorkers(BackendContract):
    def make_backend(self) -> Backend:
        return Limited(WorkerBackend(2), calls=1)


class TestAllWrappersAroundEachOther(BackendContract):
    def make_backend(self) -> Backend:
        return Recording(Retrying(Limited(WorkerBackend(2), calls=2)))


class TestWrappedThreadBackend(BackendContract):
    streams = False
    coroutines = False

    def make_backend(self) -> Backend:
        return Retrying(Limited(ThreadBackend(), calls=2))


@pytest.mark.parametrize("make", [LocalBackend, WorkerBackend, MockBackend])
async def test_our_own_backends_refuse_run_task_too_once_closed(make: type[Backend]) -> None:
    """The contract asks this of `run_call` alone, which is what a runtime calls; ours need no reminder."""
    backend = make()
    await backend.start()
    await backend.aclose()
    assert backend.closed
    with pytest.raises(BackendClosed, match=f"{backend.name} backend is closed"):
        await backend.run_task(add, 1, 2)


async def test_a_rank_may_be_of_one_backend_alone() -> None:
    """Two places of one class may stand at different ranks."""
    first, last = ThreadBackend(), LoopBackend()
    first.rank, last.rank = 5, 4
    async with Runtime([first, last]) as rt:
        assert rt.explain(add, 1, 2).order == ("loop", "thread")
    assert Backend.rank == 1


async def test_a_stream_of_short_steps_ends_at_its_deadline_too() -> None:
    """Items that come in every turn of the event loop leave no time between them for a timer."""
    clock = ManualClock()
    async with Runtime([LocalBackend()], clock=clock) as rt:
        with pytest.raises(TaskTimeout):
            async with rt.options(timeout=1.0).stream(count_async, 1000) as items:
                async for item in items:
                    if item == 10:
                        clock.advance(1.0)
