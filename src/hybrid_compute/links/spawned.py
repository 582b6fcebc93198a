"""A link over two `multiprocessing` connections, and the nursery that spawns the workers behind it. Any system.

    the event loop -- send --> a small message: written at once    ┌────────┐
                               else: a thread of its own writes -> │        │
    the event loop <-- call_soon_threadsafe -- a thread reads  <-- │ worker │
                                                                   └────────┘

The reading thread also sees the worker's end and waits for the process. It is slower than `pipe.py` by the way through
these threads, and a worker takes as long to start as an interpreter does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import Any

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.links import spawned_child
from hybrid_compute.links.arena import Segment, share_of_descriptors
from hybrid_compute.links.child import CANCELS, STARTED
from hybrid_compute.links.link import Link
from hybrid_compute.links.loans import Loans
from hybrid_compute.links.named import NamedArena, create, unlink, unlink_segments
from hybrid_compute.links.spawned_child import MADE, SLOT_WORDS, ledger_name, slot_of
from hybrid_compute.links.spawning import Process

SLOTS = 1024

ROOM = 1 << 12
"""Bytes that an empty connection takes on every system without blocking the sender."""

FAREWELL = 1.0
"""Seconds that a worker has to leave once it no longer talks or listens."""

Received = Callable[[Link, bytes], None]
Exited = Callable[[Link, int | None], None]


class SpawnedLink(Link):
    """A worker behind two connections: calls go out on one, replies come in on the other."""

    def __init__(
        self,
        nursery: SpawnedNursery,
        number: int,
        slot: int,
        ends: tuple[Connection, Connection],
        worker: Process,
    ) -> None:
        super().__init__(number)
        self.slot = slot
        self.process = worker
        self.ledger = slot_of(nursery.ledger, slot)
        self.loans = Loans(nursery.arena, number, _say_nothing, nursery.arena.fetch)
        self._nursery = nursery
        self._pid = worker.pid
        self._writer = _Writer(ends[0], number)
        self._replies = ends[1]
        self._inbox: deque[bytes] = deque()
        self._ended = self._was_silent = False
        self._received: Received | None = None
        self._reader = threading.Thread(target=self._read, name=f"hybrid-compute replies {number}", daemon=True)

    def listen(self) -> None:
        """Read replies from here on, until the end."""
        self._reader.start()

    @property
    def started(self) -> int:
        return int(self.ledger[STARTED])

    @property
    def pid(self) -> int | None:
        return self._pid

    def watch(self, received: Received) -> None:
        self._received = received
        self.watched = True

    def drain(self) -> None:
        if self._received is None:
            return
        parts: list[bytes] = []
        while self._inbox:  # to the last: the reader only rings when it finds this empty
            parts.append(self._inbox.popleft())
        if parts:
            self._received(self, b"".join(parts))
            if not self.sent:  # it has answered everything, so it has read everything
                self._writer.unread = 0

    def hold(self, seconds: float) -> None:
        # The reader tells the loop, and nobody else: so this looks again and again.
        end = time.monotonic() + seconds
        while not self._inbox and not self._ended and time.monotonic() < end:
            time.sleep(0.0002)
        if self._ended:
            self._silent()
        else:
            self.drain()

    def send(self, data: bytes) -> None:
        self._writer.send(data)

    def ring(self) -> None:
        self._writer.after_all(self._ring)

    def kill(self) -> None:
        if self._reader.is_alive():
            self.process.kill()

    def close(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        """In a forked copy: close what belongs to the original."""
        self._writer.abandon()
        self._replies.close()

    def wait_for_end(self) -> None:
        """Wait until the process that is leaving has left; not for ever, though."""
        self._reader.join(2 * FAREWELL)

    def bury(self) -> None:
        """Let go of everything, after its end. What the ledger said last stays true."""
        self.wait_for_end()
        self._writer.close()
        self._writer.join()
        self.ledger = memoryview(self.ledger.tobytes()).cast("Q")
        if self.process.exitcode is not None:
            self.process.close()

    def _ring(self) -> None:
        self.ledger[CANCELS] += 1

    def _read(self) -> None:
        """The reading thread."""
        inbox = self._inbox
        try:
            while True:
                inbox.append(self._replies.recv_bytes())
                if len(inbox) == 1:
                    self._post(self.drain)
        except (EOFError, OSError, MemoryError):
            pass
        self._replies.close()
        self._ended = True
        self._post(self._silent)
        self._see_off()
        self._post(self._nursery.gone, self)

    def _see_off(self) -> None:
        """Wait for the end of a process that neither talks nor listens any more; not for long, if it lives on."""
        # Its sentinel says too little: a task may have closed it, and a copy made by `fork` holds it open.
        patience = time.monotonic() + FAREWELL
        while self.process.exitcode is None and time.monotonic() < patience:
            time.sleep(0.001)
        self.process.kill()
        self.process.join()

    def _silent(self) -> None:
        self.drain()
        if self._received is not None and not self._was_silent:
            self._was_silent = True
            self._received(self, b"")

    def _post(self, action: Callable[..., None], *args: Any) -> None:
        try:
            self._nursery.loop.call_soon_threadsafe(action, *args)
        except RuntimeError:  # the loop is closed: there is nobody to tell
            pass


class _Writer:
    """The sending end of a connection, which never keeps its user waiting.

    What an empty connection takes for sure is written at once. Anything else is left to a thread, which exists from
    then on. `unread` is how many bytes the worker may not have read yet.
    """

    def __init__(self, to: Connection, number: int) -> None:
        self.unread = 0
        self._to = to
        self._number = number
        self._queue: SimpleQueue[bytes | Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._queued = self._done = 0  # each has one thread that writes it
        self._closed = False

    def send(self, data: bytes) -> None:
        if self._closed:
            return
        self.unread += len(data)
        if self._queued == self._done and self.unread <= ROOM:
            self._write(data)
        else:
            self._put(data)

    def after_all(self, action: Callable[[], None]) -> None:
        """Call `action` as soon as everything sent so far has been written."""
        if self._queued == self._done:
            action()
        else:
            self._put(action)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._thread is None:
            self._to.close()
        else:
            self._queue.put(None)

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(FAREWELL)

    def abandon(self) -> None:
        self._closed = True
        self._to.close()

    def _put(self, item: bytes | Callable[[], None]) -> None:
        self._queued += 1
        self._queue.put(item)
        if self._thread is None:
            name = f"hybrid-compute calls {self._number}"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, bytes):
                self._write(item)
            else:
                item()
            self._done += 1
        self._to.close()

    def _write(self, data: bytes) -> None:
        try:
            spawned_child.send(self._to, data)
        except OSError:  # it died: the reading thread sees that too, and there it is dealt with
            pass


class SpawnedNursery:
    """Makes workers by starting interpreters."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, arena: NamedArena, exited: Exited, preload: Iterable[str], size: int
    ) -> None:
        self.loop = loop
        self.arena = arena
        self._exited = exited
        self._preload = list(preload)
        self._segments = share_of_descriptors(size)
        self._links: dict[int, SpawnedLink] = {}
        self._slots = list(range(SLOTS))
        try:
            self.ledger = memoryview(create(ledger_name(arena.family), SLOTS * SLOT_WORDS * 8))
        except OSError as error:
            raise BackendUnavailable(f"workers need shared memory, but there is none: {error}") from error
        self._clean_up = weakref.finalize(self, _clean_up, self._links, arena.family, os.getpid())

    def start(self, number: int) -> SpawnedLink:
        """A new worker. Returns at once; the process gets ready meanwhile. Raises `BackendUnavailable`."""
        if not self._slots:
            raise BackendUnavailable(f"no more than {SLOTS} worker processes can be started")
        slot = self._slots.pop()
        slot_of(self.ledger, slot)[:] = slot_of(memoryview(bytes(SLOT_WORDS * 8)), 0)
        try:
            their_calls, calls = _connect()
            replies, their_replies = _connect()
            args = (number, self.arena.family, slot, their_calls, their_replies, self._preload, self._segments)
            worker = Process(target=spawned_child.main, args=args, name=f"hybrid-compute worker {number}")
            with _interrupts_blocked():
                worker.start()
            link = SpawnedLink(self, number, slot, (calls, replies), worker)
            link.listen()
        except Exception as error:  # multiprocessing says no by an assertion; no thread starts at a program's very end
            self._slots.append(slot)
            raise BackendUnavailable(f"a worker process could not be started: {error}") from error
        their_calls.close()
        their_replies.close()
        self._links[number] = link
        return link

    def gone(self, link: SpawnedLink) -> None:
        """A worker's process has ended."""
        if self._links.pop(link.number, None) is None:
            return
        try:
            self._exited(link, link.process.exitcode)
        finally:
            link.bury()
            unlink_segments(self.arena.family, link.number, link.ledger[MADE:], os.getpid())
            self._slots.append(link.slot)

    def close(self) -> None:
        """Stop whatever is left, at once."""
        for link in list(self._links.values()):
            link.kill()
        for link in list(self._links.values()):
            link.wait_for_end()
            self.gone(link)
        self.ledger = memoryview(b"")  # the mapping goes with its last view
        self._clean_up()

    def abandon(self) -> None:
        """In a forked copy of this process: close all connections, which belong to the original."""
        for link in self._links.values():
            link.abandon()


def _connect() -> tuple[Connection, Connection]:
    """Two ends: one to receive at, one to send from."""
    # On Windows they are of another class, which is alike in everything used here.
    return Pipe(duplex=False)  # pyright: ignore[reportReturnType]


@contextmanager
def _interrupts_blocked() -> Generator[None]:
    """A process started in this block receives no interrupt until it says so, which it does once it is set up."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _clean_up(links: dict[int, SpawnedLink], family: str, process: int) -> None:
    """At the end of a nursery, or of the program: leave no process and no name behind."""
    if os.getpid() != process:  # a forked copy, to which nothing of this belongs
        return
    for link in list(links.values()):
        link.kill()
    for link in list(links.values()):
        link.wait_for_end()
        unlink_segments(family, link.number, link.ledger[MADE:], process)
    unlink(ledger_name(family))


def _say_nothing(_segment: Segment) -> None:
    """The peer finds a segment by its name."""
