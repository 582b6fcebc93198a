"""Where an engine may live, for tests of what is the same everywhere."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from hybrid_compute.backends.crew import Lifetime
from hybrid_compute.backends.worker import WorkerBackend
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.options import WorkerOptions
from tests.engine.counters import actions, counter

Make = Callable[..., Any]

HOMES = ["here", "in a worker", "in a portable worker", "in a thread"]


@asynccontextmanager
async def opening(home: str) -> AsyncIterator[Make]:
    """A function that opens engines which live there, by default counters; they end with the block."""
    async with AsyncExitStack() as stack:

        async def make(state: Any = counter, actions: Any = actions, **options: Any) -> Engine[Any]:
            if home == "in a portable worker":
                stay = Lifetime(min_workers=1, idle_timeout=None)
                options["workers"] = WorkerBackend(1, lifetime=stay, portable=True)
                stack.push_async_callback(options["workers"].aclose)
            elif home == "in a thread":
                options["worker_options"] = WorkerOptions(mechanism="thread")
            engine: Engine[Any] = Engine(state, actions, use_worker=home != "here", **options)
            return await stack.enter_async_context(engine)

        yield make
