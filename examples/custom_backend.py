"""A place of your own to run tasks: two methods make a backend.

This one runs plain functions in a pool of threads. `hybrid_compute.testing.BackendContract` tells whether a backend
keeps all its promises; `tests/examples/test_custom_backend.py` asks it about this one.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from hybrid_compute import Backend, LocalBackend, Runtime, task
from hybrid_compute.backends.base import run_function
from hybrid_compute.tasks import AnyTask


class ThreadBackend(Backend):
    """Runs plain functions in a pool of threads."""

    name = "thread"
    provides = frozenset({"cpu", "thread"})

    def __init__(self, *, size: int = 4) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="thread-backend")

    def can_run(self, task: AnyTask, /) -> bool:
        return task.kind == "function"

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        work = partial(run_function, task, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    # Optional: what else the place can say and do.

    def why_not(self, task: AnyTask, /) -> str:
        return f"it runs plain functions, and this is a {task.kind}"

    async def aclose(self) -> None:
        await super().aclose()  # answers every pending call, and refuses new ones
        self._pool.shutdown(wait=False, cancel_futures=True)


@task
def whereabouts() -> str:
    return threading.current_thread().name


@task
async def wait_a_little() -> str:
    await asyncio.sleep(0.01)
    return threading.current_thread().name


async def main() -> None:
    async with Runtime([ThreadBackend(), LocalBackend()]) as rt:
        thread, elsewhere = await rt.run(whereabouts), await rt.run(wait_a_little)
        print(f"whereabouts ran in {thread}, wait_a_little in {elsewhere}")
        print(rt.explain(wait_a_little))
    assert thread.startswith("thread-backend")
    assert elsewhere == "MainThread"


if __name__ == "__main__":
    asyncio.run(main())
