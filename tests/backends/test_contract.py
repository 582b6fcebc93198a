"""Every backend keeps the contract: ours, each of ours inside each wrapper, a mock, and one as a user writes it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.backends.wrappers import Limited, Recording, Retrying
from hybrid_compute.errors import BackendClosed
from hybrid_compute.tasks import AnyTask
from hybrid_compute.testing import BackendContract, MockBackend


class ThreadBackend(Backend):
    """A backend as a user writes it: two methods, and one to clean up."""

    name = "thread"

    def __init__(self, size: int = 4) -> None:
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(size)

    def can_run(self, task: AnyTask, /) -> bool:
        return not task.is_async and not task.streams

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        if self._pool is None:
            raise BackendClosed("the thread pool is closed", backend=self.name)
        return await asyncio.get_running_loop().run_in_executor(self._pool, run, task, args, kwargs)

    async def aclose(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


def run(task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return task.fn(*args, **kwargs)
    except (StopIteration, SystemExit) as error:  # the first no future can carry; the second would stop the loop
        raise RuntimeError(f"the task raised {error!r}") from error


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
    return task.fn(*args, **kwargs) if task.kind != "function" else asyncio.to_thread(run, task, args, kwargs)


class TestMockBackend(BackendContract):
    def make_backend(self) -> Backend:
        return MockBackend(in_thread)


class TestThreadBackend(BackendContract):
    streams = False
    coroutines = False

    def make_backend(self) -> Backend:
        return ThreadBackend()


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
