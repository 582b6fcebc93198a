"""The event loops that the asynchronous contenders run on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal, TypeAlias, TypeVar

from benchmarks.lazy import uvloop

Loop: TypeAlias = Literal["asyncio", "uvloop"]
LOOPS: tuple[Loop, ...] = ("asyncio", "uvloop")

T = TypeVar("T")


def run_on(loop: Loop, main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a loop of that kind."""
    if loop == "asyncio":
        return asyncio.run(main)
    try:
        factory = uvloop.new_event_loop
    except ModuleNotFoundError:
        main.close()
        raise
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
