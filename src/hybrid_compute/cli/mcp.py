"""`hybrid-compute mcp`: the tasks of a module as tools, for a client that has started this command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import BinaryIO

from hybrid_compute.cli.exits import Misuse
from hybrid_compute.cli.run import under
from hybrid_compute.cli.streams import read_lines, write_line
from hybrid_compute.cli.targets import load_module, tasks_of
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import AnyTask


def load_tools(module: str, names: Collection[str] | None) -> list[AnyTask]:
    """The tasks of a module that are tools. Raises `Misuse` if there is none, or if one cannot be."""
    if find_spec("mcp") is None:
        raise Misuse("tools are spoken of by the mcp package: install hybrid-compute[mcp]")
    from hybrid_compute.schema import object_schema
    from hybrid_compute.server.mcp import tools_of

    try:
        tools = tools_of(tasks_of(load_module(module)), names)
        for each in tools:
            object_schema(each)  # raises here what would otherwise meet the client
    except (TypeError, ValueError) as error:
        raise Misuse(str(error)) from error
    if not tools:
        raise Misuse(f"no task of {module} is a tool: mark tasks with @task(tool=True), or name them with --tool")
    return tools


async def offer(
    tools: Collection[AnyTask],
    questions: int,
    answers: BinaryIO,
    *,
    strategy: str | None = None,
    timeout: float | None = None,
    tracebacks: bool = False,
) -> None:
    """Serve tools to the client whose messages come from this descriptor, until they end."""
    from hybrid_compute.server.mcp import Tools, serve

    async def texts() -> AsyncIterator[bytes]:
        async for line in read_lines(questions):
            yield line.text

    async def write(text: bytes) -> None:
        await asyncio.to_thread(write_line, answers, text)

    names = {task.name for task in tools}
    async with Runtime() as rt:
        verbs = under(rt, strategy, timeout)
        await serve(Tools(verbs, lambda _scope: tools, names=names, tracebacks=tracebacks), texts(), write)


@contextmanager
def standard_input() -> Generator[int]:
    """Standard input for messages alone: a task that reads from it finds its end."""
    messages = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    yield messages  # left open: a thread may still wait at it, and another file must not get its number
