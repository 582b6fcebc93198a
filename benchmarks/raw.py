"""The bare mechanisms under every process pool: what a call would cost if it cost nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

MESSAGE = b"x" * 64
PIPE_SIZE = 65536


@contextmanager
def forked(serve: Callable[[int, int], None]) -> Generator[tuple[int, int], None, None]:
    """A forked child that runs `serve(read, write)`; gives this side's own `(read, write)`."""
    child_read, write = os.pipe()
    read, child_write = os.pipe()
    child = os.fork()
    if child == 0:
        _serve_and_exit(serve, child_read, child_write, (read, write))
    os.close(child_read)
    os.close(child_write)
    try:
        yield read, write
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def _serve_and_exit(serve: Callable[[int, int], None], read: int, write: int, parents: tuple[int, int]) -> None:
    # Whatever happens, the child must not return into the benchmark that forked it.
    try:
        for fd in parents:
            os.close(fd)
        serve(read, write)
    finally:
        os._exit(0)


def echo(read: int, write: int) -> None:
    """Send back what comes, until the other side hangs up."""
    while message := os.read(read, PIPE_SIZE):
        os.write(write, message)


class LoopPipe:
    """An echoing child asked from an event loop: one reader callback and one future, no more."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._loop = asyncio.get_running_loop()
        self._waiting = self._loop.create_future()
        os.set_blocking(read, False)
        self._loop.add_reader(read, self._answered)

    def ask(self) -> asyncio.Future[None]:
        self._waiting = waiting = self._loop.create_future()
        os.write(self._write, MESSAGE)
        return waiting

    def _answered(self) -> None:
        os.read(self._read, PIPE_SIZE)
        self._waiting.set_result(None)

    def close(self) -> None:
        self._loop.remove_reader(self._read)
