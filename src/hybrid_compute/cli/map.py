"""`hybrid-compute map`: one call for each line of a file, the answers in the order of the lines.

    lines ──_start──> calls under way, as many as there is Room for ──in order──> answers

An answer is written once all before it are, so whatever stops the command leaves the answers of the first lines, and
`--resume` only has to count them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import BinaryIO

import msgspec
from rich.progress import TimeRemainingColumn

from hybrid_compute.backends.worker import usable_cores
from hybrid_compute.cli import screen
from hybrid_compute.cli.exits import LineFailed, LinesFailed, Misuse, amount
from hybrid_compute.cli.run import under
from hybrid_compute.cli.streams import Line, answers_file, read_lines, write_line
from hybrid_compute.errors import BackendError, BackendUnavailable, HybridComputeError, TaskError
from hybrid_compute.runtime import Runtime, Verbs
from hybrid_compute.schema import bind_json, encode_json
from hybrid_compute.tasks import AnyTask
from hybrid_compute.timings import duration

ROOM = 1024
"""Lines that may be under way at a time."""
ROOM_BYTES = 64 << 20
"""Bytes that these lines, and their answers, may have together; a longer line goes alone."""


@dataclass(frozen=True, slots=True)
class Lines:
    """How many lines to work on at once, what becomes of one that fails, and where and how long each may run."""

    limit: int | None = None
    keep_going: bool = False
    strategy: str | None = None
    timeout: float | None = None


@dataclass(slots=True)
class Count:
    """How far it is."""

    skipped: int = 0
    answered: int = 0
    failed: int = 0
    bytes: int = 0
    began: float = field(default_factory=perf_counter)

    def __str__(self) -> str:
        seconds = perf_counter() - self.began
        lines, speed = amount(self.answered, "line"), self.answered / seconds
        text = f"{lines} answered in {duration(seconds)} ({speed:,.0f}/s)"
        text += f", {self.failed:,} of them with an error" if self.failed else ""
        return text + (f", after {self.skipped:,} answered before" if self.skipped else "")


def map_file(task: AnyTask, source: str, output: str | BinaryIO, how: Lines, *, resume: bool) -> None:
    """Answer every line of the file `source` (`-`: standard input) in the file `output`, or in one that is open.

    Says on standard error how far it is. Raises `Misuse` for files that will not do, and `LineFailed` for the first
    line that fails; with `keep_going` `LinesFailed` in the end, if any did.
    """
    with ExitStack() as files:
        fd = 0 if source == "-" else files.enter_context(open(source, "rb")).fileno()
        if not isinstance(output, str):
            answers, skip = output, 0
        elif os.path.exists(output) and os.path.samestat(os.stat(output), os.fstat(fd)):
            raise Misuse(f"{output} is the input as well: the answers need a file of their own")
        else:
            answers, skip = files.enter_context(answers_file(output, resume=resume))
        count = Count()
        asyncio.run(_map(Mapping(task, source, fd, answers, how, skip, count), how, os.fstat(fd).st_size or None))
    if count.failed:
        raise LinesFailed(count.failed)


async def _map(mapping: Mapping, how: Lines, total: int | None) -> None:
    """With a bar that moves by bytes of the input, if somebody watches, and a summary however it ends."""
    console = screen.console(stderr=True)
    count = mapping.count
    shown_at = count.began
    lines = screen.Saying(lambda: amount(count.answered, "line"))
    with screen.bar(console, lines, TimeRemainingColumn()) as progress:
        shown = progress.add_task("map", total=total)

        def tick() -> None:
            nonlocal shown_at
            if perf_counter() - shown_at > 0.1:  # often enough for the eye, and cheap enough for a million lines
                shown_at = perf_counter()
                progress.update(shown, completed=count.bytes)

        try:
            async with Runtime() as rt:
                await mapping.run(under(rt, how.strategy, how.timeout), tick)
            progress.update(shown, completed=count.bytes, total=count.bytes)
        finally:
            console.print(str(count))


class Room:
    """Bounds what is under way, by lines and by bytes: a short line takes as much room as its place in line."""

    def __init__(self, lines: int = ROOM, size: int = ROOM_BYTES) -> None:
        self._size = size
        self._least = size // lines
        self._taken = 0
        self._given = asyncio.Event()

    async def take(self, line: bytes) -> None:
        """Wait until there is room for a line; alone, any line has room."""
        size = max(len(line), self._least)
        while self._taken and self._taken + size > self._size:
            self._given.clear()
            await self._given.wait()
        self._taken += size

    def store(self, answer: bytes) -> None:
        """An answer has come, and is kept until those before it have come too."""
        self._taken += len(answer)

    def give(self, line: bytes, answer: bytes) -> None:
        """A line has been answered, and nothing of it is kept."""
        self._taken -= max(len(line), self._least) + len(answer)
        self._given.set()


class Mapping:
    """One run of the command: a task, the lines it is called with, and where the answers go."""

    def __init__(
        self, task: AnyTask, source: str, fd: int, answers: BinaryIO, how: Lines, skip: int, count: Count
    ) -> None:
        limit = at_once(task, how)
        self.count = count
        self._task = task
        self._source = source
        self._fd = fd
        self._answers = answers
        self._skip = skip
        self._keep_going = how.keep_going
        self._gate = asyncio.Semaphore(limit) if limit is not None else nullcontext()
        self._room = Room()
        self._calls: set[asyncio.Task[bytes]] = set()
        self._in_order: asyncio.Queue[tuple[Line, asyncio.Task[bytes]] | None] = asyncio.Queue()

    async def run(self, verbs: Verbs, tick: Callable[[], object]) -> None:
        """Answer all lines; `tick` is called after each."""
        starting = asyncio.create_task(self._start(verbs))
        try:
            while (under_way := await self._in_order.get()) is not None:
                line, call = under_way
                answer = await call
                write_line(self._answers, answer)
                self._calls.discard(call)
                self._room.give(line.text, answer)
                self.count.answered += 1
                self.count.bytes = line.end
                tick()
            await starting
        finally:
            left: list[asyncio.Task[object]] = [starting, *self._calls]
            for each in left:
                each.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _start(self, verbs: Verbs) -> None:
        try:
            async for line in read_lines(self._fd):
                if self.count.skipped < self._skip:
                    self.count.skipped += 1
                    continue
                await self._room.take(line.text)
                call = asyncio.create_task(self._answer(verbs, line))
                self._calls.add(call)
                self._in_order.put_nowait((line, call))
            if self.count.skipped < self._skip:
                held, given = amount(self._skip, "answer"), amount(self.count.skipped, "line")
                raise Misuse(f"the output holds {held}, {self._source} only {given}: they do not belong together")
        finally:
            self._in_order.put_nowait(None)

    async def _answer(self, verbs: Verbs, line: Line) -> bytes:
        try:
            async with self._gate:
                args, kwargs = bind_json(self._task, line.text)
                answer = encode_json(await verbs.run(self._task, *args, **kwargs))
        except HybridComputeError as error:
            if not self._keep_going or not _is_about_one_line(error):
                raise LineFailed(line.number, self._source) from error
            self.count.failed += 1
            answer = msgspec.json.encode({"error": {"code": error.code, "message": str(error), "line": line.number}})
        self._room.store(answer)
        return answer


def _is_about_one_line(error: HybridComputeError) -> bool:
    """Whether the next line may fare better."""
    return isinstance(error, TaskError | BackendError) and not isinstance(error, BackendUnavailable)


def at_once(task: AnyTask, how: Lines) -> int | None:
    """How many lines may be at work at a time; None for as many as there is room for.

    A timeout counts from submission. Where one is set, a call is submitted only when a core is free for it, or it
    would be charged for the calls before it. Coroutines mostly wait, and need no core for that.
    """
    if how.limit is not None:
        return how.limit
    limited = how.timeout is not None or task.timeout is not None
    return usable_cores() if limited and not task.is_async else None
