"""Lines in, answers out: what flows through the command, a line of JSON at a time.

Nothing here knows about tasks. Lines are read in a thread, so that a slow writer on the other side of a pipe never
keeps an answer from going out; answers are written as soon as they are there.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from hybrid_compute.cli.exits import Misuse, amount

CHUNK = 1 << 18
AHEAD = 4
"""Chunks that may be read before they are asked for."""


class Line(NamedTuple):
    """One line of input: its number as an editor counts, its text, and how many bytes of the input end with it."""

    number: int
    text: bytes
    end: int


BOM = b"\xef\xbb\xbf"
"""What some editors write at the beginning of a file in UTF-8."""


async def read_lines(fd: int) -> AsyncIterator[Line]:
    """The lines of a file or pipe that are not blank."""
    number = end = 0
    torn: list[bytes] = []  # pieces of a line whose end has not come yet; joined once, however long it gets
    async for chunk in _chunks(fd):
        first, *more = chunk.split(b"\n")
        torn.append(first)
        for following in more:
            text = b"".join(torn)
            torn = [following]
            number += 1
            end += len(text) + 1
            if number == 1:
                text = text.removeprefix(BOM)
            if text.strip():
                yield Line(number, text, end)
    last = b"".join(torn)
    end += len(last)
    if number == 0:
        last = last.removeprefix(BOM)
    if last.strip():
        yield Line(number + 1, last, end)


async def _chunks(fd: int) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)

    def read() -> None:
        data: bytes | OSError = b"?"
        while data and not isinstance(data, OSError):
            room.acquire()
            try:
                data = os.read(fd, CHUNK)
            except OSError as error:
                data = error
            try:
                loop.call_soon_threadsafe(arrived.put_nowait, data)
            except RuntimeError:  # the loop is closed: nobody wants to know any more
                return

    # A daemon, because nothing can wake it from a read of a terminal or pipe that stays silent.
    threading.Thread(target=read, name="hybrid-compute input", daemon=True).start()
    while chunk := await arrived.get():
        if isinstance(chunk, OSError):
            raise chunk
        room.release()
        yield chunk


@contextmanager
def standard_output() -> Generator[BinaryIO]:
    """Standard output for answers alone: what tasks print, in this process or in workers, goes to standard error."""
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)
        yield answers


@contextmanager
def answers_file(path: str, *, resume: bool) -> Generator[tuple[BinaryIO, int]]:
    """A file that answers are appended to, and how many it holds already.

    A last line without its end was being written when the writer died: it is cut off. Raises `Misuse` if the file
    holds answers and nobody said to go on with it, if another process is writing to it, or if it is no plain file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise Misuse(f"{path} is not a plain file: only such a one can hold answers to go on with")
    with open(path, "ab+", buffering=0) as file:
        _lock(file, path)
        file.seek(0)
        count, end = _complete_lines(file)
        if not resume and file.seek(0, os.SEEK_END):
            held = amount(count, "answer")
            raise Misuse(f"{path} holds {held} already: add --resume to go on with it, or remove it")
        file.truncate(end)
        yield file, count


def _complete_lines(file: BinaryIO) -> tuple[int, int]:
    """How many lines end, and where the last of them does."""
    count = end = position = 0
    while chunk := file.read(CHUNK):
        count += chunk.count(b"\n")
        if b"\n" in chunk:
            end = position + chunk.rindex(b"\n") + 1
        position += len(chunk)
    return count, end


def _lock(file: BinaryIO, path: str) -> None:
    """Keep others out while the file is open; the system unlocks it, however this process ends."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock: there it is up to the user
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Misuse(f"another process is writing to {path}") from None


def write_line(file: BinaryIO, text: bytes) -> None:
    """Write one line, all of it, at once."""
    rest = memoryview(text + b"\n")
    while rest:
        rest = rest[file.write(rest) :]
