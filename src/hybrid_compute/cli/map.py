"""`hybrid-compute map`: one call for each line of a file, the answers in the order of the lines.

    lines ──start──> calls under way, at most ROOM of them ──in order──> answers

An answer is written once all before it are, so whatever stops the command leaves the answers of the first lines, and
`--resume` only has to count them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import BinaryIO

import click
import msgspec
from rich.progress import TimeRemainingColumn

from hybrid_compute.backends.worker import usable_cores
from hybrid_compute.cli import screen
from hybrid_compute.cli.exits import LineFailed
from hybrid_compute.cli.run import under
from hybrid_compute.cli.streams import Line, read_lines, write_line
from hybrid_compute.errors import BackendError, BackendUnavailable, HybridComputeError, TaskError
from hybrid_compute.runtime import Runtime, Verbs
from hybrid_compute.schema import bind_json, encode_json
from hybrid_compute.tasks import AnyTask

ROOM = 1024
"""Lines that may be under way at a time."""
ROOM_BYTES = 64 << 20
"""Bytes that these lines may be; a longer line goes alone."""


@dataclass(slots=True)
class Count:
    """How far it is."""

    skipped: int = 0
    answered: int = 0
    failed: int = 0
    bytes: int = 0


class Room:
    """Bounds what is under way, by lines and by bytes: a short line takes as much room as its place in line."""

    def __init__(self, lines: int = ROOM, size: int = ROOM_BYTES) -> None:
        self._size = size
        self._least = size // lines
        self._taken = 0
        self._given = asyncio.Event()

    async def take(self, size: int) -> None:
        while self._taken and self._taken + max(size, self._least) > self._size:
            self._given.clear()
            await self._given.wait()
        self._taken += max(size, self._least)

    def give(self, size: int) -> None:
        self._taken -= max(size, self._least)
        self._given.set()


class Mapping:
    """One run of the command: a task, the lines it is called with, and where the answers go."""

    def __init__(
        self, task: AnyTask, source: str, fd: int, answers: BinaryIO, *, skip: int, limit: int | None, keep_going: bool
    ) -> None:
        self.count = Count()
        self._task = task
        self._source = source
        self._fd = fd
        self._answers = answers
        self._skip = skip
        self._keep_going = keep_going
        self._gate = asyncio.Semaphore(limit) if limit is not None else None
        self._room = Room()
        self._started: asyncio.Queue[tuple[Line, asyncio.Task[bytes]] | None] = asyncio.Queue()

    async def run(self, verbs: Verbs, tick: Callable[[], object]) -> None:
        """Answer all lines. Raises `LineFailed` for the first line that fails, unless it is to keep going."""
        calls: set[asyncio.Task[bytes]] = set()
        starting = asyncio.create_task(self._start(verbs, calls))
        try:
            while (under_way := await self._started.get()) is not None:
                line, call = under_way
                write_line(self._answers, await call)
                calls.discard(call)
                self._room.give(len(line.text))
                self.count.answered += 1
                self.count.bytes = line.end
                tick()
            await starting
        finally:
            left = [starting, *calls]
            for each in left:
                each.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _start(self, verbs: Verbs, calls: set[asyncio.Task[bytes]]) -> None:
        try:
            async for line in read_lines(self._fd):
                if self.count.skipped < self._skip:
                    self.count.skipped += 1
                    continue
                await self._room.take(len(line.text))
                call = asyncio.create_task(self._answer(verbs, line))
                calls.add(call)
                self._started.put_nowait((line, call))
            if self.count.skipped < self._skip:
                lines = f"{self._source} has only {self.count.skipped} lines"
                raise click.UsageError(f"the output holds {self._skip} answers, but {lines}: they do not belong together")
        finally:
            self._started.put_nowait(None)

    async def _answer(self, verbs: Verbs, line: Line) -> bytes:
        try:
            async with self._gate or nullcontext():
                args, kwargs = bind_json(self._task, line.text)
                return encode_json(await verbs.run(self._task, *args, **kwargs))
        except HybridComputeError as error:
            if not self._keep_going or not _is_about_one_line(error):
                raise LineFailed(line.number, self._source) from error
            self.count.failed += 1
            fault = {"code": error.code, "message": str(error), "line": line.number}
            return msgspec.json.encode({"error": fault})


def _is_about_one_line(error: HybridComputeError) -> bool:
    """Whether the next line may fare better."""
    return isinstance(error, TaskError | BackendError) and not isinstance(error, BackendUnavailable)


def at_once(task: AnyTask, timeout: float | None, limit: int | None) -> int | None:
    """How many lines may be at work at a time; None for as many as there is room for.

    A timeout counts from submission. Where one is set, a call is submitted only when a core is free for it, or it
    would be charged for the calls before it. Coroutines mostly wait, so they do not wait for cores.
    """
    if limit is not None:
        return limit
    limited = timeout is not None or task.timeout is not None
    return usable_cores() if limited and not task.is_async else None


async def map_lines(
    task: AnyTask,
    source: str,
    fd: int,
    answers: BinaryIO,
    *,
    skip: int = 0,
    strategy: str | None = None,
    timeout: float | None = None,
    limit: int | None = None,
    keep_going: bool = False,
) -> int:
    """Answer every line of `fd` after the first `skip`; how many failed. Says on standard error how far it is."""
    console = screen.console(stderr=True)
    began = perf_counter()
    mapping = Mapping(
        task, source, fd, answers, skip=skip, limit=at_once(task, timeout, limit), keep_going=keep_going
    )
    count = mapping.count
    total = os.fstat(fd).st_size or None
    shown_at = began
    said = screen.Saying(lambda: f"{count.answered:,} lines")
    with screen.bar(console, said, TimeRemainingColumn()) as progress:
        shown = progress.add_task(task.name, total=total)

        def tick() -> None:
            nonlocal shown_at
            if perf_counter() - shown_at > 0.1:
                shown_at = perf_counter()
                progress.update(shown, completed=count.bytes)

        try:
            async with Runtime() as rt:
                await mapping.run(under(rt, strategy, timeout), tick)
            progress.update(shown, completed=count.bytes, total=count.bytes)
        finally:
            seconds = perf_counter() - began
            console.print(summary(count, seconds))
    return count.failed


def summary(count: Count, seconds: float) -> str:
    """One line that says what was done."""
    speed = f"{count.answered:,} lines answered in {screen.duration(seconds)} ({count.answered / seconds:,.0f}/s)"
    skipped = f", {count.skipped:,} had been before" if count.skipped else ""
    failed = f", {count.failed:,} of them with an error" if count.failed else ""
    return speed + failed + skipped
