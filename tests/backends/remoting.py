"""What the tests of remote places share: tasks, a line that can be cut, and a server that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from hybrid_compute.backends.remote.upkeep import Upkeep
from hybrid_compute.reporting import progress
from hybrid_compute.tasks import TaskRegistry, task
from hybrid_compute.tracing import current
from tests.faults.watching import until as until

QUICK = Upkeep(connect=2.0, first_pause=0.01, longest_pause=0.05, patience=10.0)
"""For tests in which a server goes and comes back."""


# Tasks.


@task
def double(x: int) -> int:
    return 2 * x


@task(pure=True)
def double_again(x: int) -> int:
    return 2 * x


@task
def process() -> int:
    return os.getpid()


@task
def trace() -> str | None:
    return current()


@task
def tell(folder: str, name: str) -> None:
    """Leave a sign."""
    Path(folder, name).touch()


@task
async def note_and_hold(folder: str, name: str) -> str:
    """Note that it runs, and wait for the word to go on; at most half a minute."""
    with Path(folder, "log").open("a") as log:
        log.write(f"{name}\n")
    for _ in range(15_000):
        if Path(folder, "go").exists():
            break
        await asyncio.sleep(0.002)
    return name


@task
async def nap(folder: str) -> None:
    """Say that it has begun, and how it ended."""
    Path(folder, "begun").touch()
    try:
        await asyncio.sleep(30)
    finally:
        Path(folder, "ended").touch()


@task
def spin(folder: str) -> None:
    """Run without end, and say so all the time: a function that nobody can ask to stop."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        Path(folder, "alive").touch()
        time.sleep(0.002)


@task
def steps(count: int) -> int:
    for number in range(count):
        progress(number + 1, count, f"step {number + 1}")
    return count


@task
def numbers(upto: int) -> Iterator[int]:
    yield from range(upto)


@task
def numbered(folder: str) -> Iterator[int]:
    """Count without end, and say how far; sign off when stopped."""
    try:
        for number in range(1_000_000):
            Path(folder, "produced").write_text(str(number))
            yield number
    finally:
        Path(folder, "stopped").touch()


@task
async def stepping(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        progress(number, upto)
        yield number


@task
def total(values: Any) -> float:
    return float(values.sum())


@task
def twice(values: Any) -> Any:
    return values * 2


@task
def unknown(x: int) -> int:
    """No server has it."""
    return x


TASKS = TaskRegistry(
    [
        double,
        double_again,
        process,
        trace,
        tell,
        note_and_hold,
        nap,
        spin,
        steps,
        numbers,
        numbered,
        stepping,
        total,
        twice,
    ]
)


# A line that can be cut.


class Relay:
    """Passes on what goes to a port and what comes back, until it is told otherwise."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._busy = 0
        self._passing = asyncio.Event()
        self._passing.set()
        self.port = 0
        self.delay = 0.0
        self.accepted = 0

    @property
    def open(self) -> int:
        """Connections through it, counted by both their ends."""
        return len(self._writers)

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Take no more, and cut those there are."""
        if self._server is not None:
            self._server.close()
        self.cut()
        await until(lambda: not self._busy)

    def cut(self) -> None:
        """End every connection without a word."""
        for each in self._writers:
            each.transport.abort()

    async def cut_until_next(self) -> None:
        """Cut them, and wait until somebody connects again."""
        accepted = self.accepted
        self.cut()
        await until(lambda: self.accepted > accepted)

    def stall(self) -> None:
        """Pass nothing on any more, and end nothing: the line looks open from both ends."""
        self._passing.clear()

    def go_on(self) -> None:
        """Pass on again, also what has come meanwhile."""
        self._passing.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._busy += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
            ends = {writer, far_writer}
            self._writers |= ends
            self.accepted += 1
            await self._pass_on_both_ways((reader, far_writer), (far_reader, writer))
            self._writers -= ends
            far_writer.transport.abort()
        finally:
            writer.transport.abort()
            self._busy -= 1

    async def _pass_on_both_ways(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Until one of them ends."""
        passing = [asyncio.create_task(self._pass_on(*way)) for way in ways]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for each in passing:
            each.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                await self._passing.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)  # as a server far away would seem
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def relay(port: int) -> AsyncGenerator[Relay]:
    """A relay to a port, until the block is left."""
    made = Relay(port)
    await made.start()
    try:
        yield made
    finally:
        made.go_on()
        await made.stop()


# A server that can be killed.

PROGRAM = """
import asyncio, socket, sys
from hybrid_compute.server import Limits, create_app
from hybrid_compute.server.serving import Address, make_server
from tests.backends.remoting import TASKS

async def main(port, remember):
    listener = socket.create_server(("127.0.0.1", port))
    app = create_app(TASKS, remember=remember or None)
    server = make_server(app, Address(), Limits(), log_level="error")
    startup = server.startup
    async def started(sockets=None):
        await startup(sockets)
        print(listener.getsockname()[1], flush=True)
    server.startup = started
    await server.serve([listener])

asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
"""


class Program:
    """A server in a process of its own."""

    def __init__(self, port: int = 0, remember: str = "") -> None:
        command = [sys.executable, "-c", PROGRAM, str(port), remember]
        self._process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def program(port: int = 0, remember: str = "") -> Generator[Program]:
    """Such a server, killed when the block is left."""
    made = Program(port, remember)
    try:
        yield made
    finally:
        made.kill()
