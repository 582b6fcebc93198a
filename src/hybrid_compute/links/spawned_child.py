"""The life of a spawned worker, from the first line of its own to the last.

Its parent is `spawned.py`. What comes before is `multiprocessing`'s: a fresh interpreter with the parent's `sys.path`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable
from multiprocessing import connection
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TYPE_CHECKING, NoReturn

from hybrid_compute.links.arena import Segment
from hybrid_compute.links.child import Worker
from hybrid_compute.links.named import NamedArena, attach

if TYPE_CHECKING:
    import asyncio

SLOT_WORDS = 8
MADE = 2  # the word of the ledger that counts segments, after STARTED and CANCELS

PIECE = 1 << 18
"""The longest message: a receiver sets aside memory for the whole of it."""

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def ledger_name(family: str) -> str:
    return f"{family}-ledger"


def slot_of(ledger: memoryview, slot: int) -> memoryview:
    """The words of one worker in the ledger of all."""
    return ledger.cast("Q")[slot * SLOT_WORDS : (slot + 1) * SLOT_WORDS]


def main(
    number: int,
    family: str,
    slot: int,
    calls: Connection,
    replies: Connection,
    preload: list[str],
    segments: int,
) -> NoReturn:
    """A worker's whole life. It ends as a forked worker does: no thread and no exit handler of the user's is asked."""
    code = 1
    try:
        _leave_the_terminal()
        _leave_with_the_parent()
        for variable in ONE_THREAD:
            os.environ.setdefault(variable, "1")
        _import(preload)
        ledger = slot_of(memoryview(attach(ledger_name(family))), slot)
        arena = NamedArena(number, family=family, made=ledger[MADE : MADE + 1], most=segments)
        Worker(number, Mailbox(calls, replies, arena), ledger, arena).run()
        _flush()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BrokenPipeError:  # the parent has gone: there is nobody left to tell
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Mailbox:
    """A worker's channel over two `multiprocessing` connections."""

    def __init__(self, calls: Connection, replies: Connection, arena: NamedArena) -> None:
        self._calls = calls
        self._replies = replies
        self._read_ahead: SimpleQueue[bytes] | None = None
        self.fetch = arena.fetch
        if sys.platform != "win32":
            for end in (calls, replies):
                os.set_inheritable(end.fileno(), False)
            os.register_at_fork(after_in_child=self._let_go)

    def read(self) -> bytes:
        return self._receive() if self._read_ahead is None else self._read_ahead.get()

    def ready(self) -> bool:
        return self._calls.poll() if self._read_ahead is None else not self._read_ahead.empty()

    def write(self, data: bytes) -> None:
        send(self._replies, data)

    def announce(self, segment: Segment) -> None:
        """Nothing to say: the peer finds it by its name."""

    def wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a thread read from here on, since no event loop can watch a pipe on Windows."""
        self._read_ahead = inbox = SimpleQueue[bytes]()

        def read() -> None:
            data = b"*"
            while data:
                data = self._receive()
                inbox.put(data)
                loop.call_soon_threadsafe(loop.stop)

        threading.Thread(target=read, name="hybrid-compute calls", daemon=True).start()

    def _let_go(self) -> None:
        """In a process that a task has forked: it must neither hide this one's death nor answer in its place."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for end in (self._calls, self._replies):
            os.dup2(nowhere, end.fileno(), inheritable=False)
        os.close(nowhere)
        if self._read_ahead is not None:  # its thread is not here
            self._read_ahead = SimpleQueue()
            self._read_ahead.put(b"")

    def _receive(self) -> bytes:
        try:
            return self._calls.recv_bytes()
        except (EOFError, OSError):
            return b""


def send(to: Connection, data: bytes) -> None:
    """Write `data` in pieces; its frames say where it ends."""
    if len(data) <= PIECE:
        to.send_bytes(data)
        return
    for start in range(0, len(data), PIECE):
        to.send_bytes(data, start, min(PIECE, len(data) - start))


def _leave_the_terminal() -> None:
    """An interrupt typed there is for the user's program, not for its workers; and so is what else is typed."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by the parent until now
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what a killed worker printed is out


def _leave_with_the_parent() -> None:
    """However the parent dies; on Linux also while a task keeps the interpreter, and every thread, to itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    if sys.platform == "linux":
        import fcntl  # there is none on Windows

        signal.signal(signal.SIGIO, signal.SIG_DFL)  # it ends the process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})  # whatever the parent thinks of signals
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, os.O_ASYNC)

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, name="hybrid-compute parent", daemon=True).start()


def _import(names: Iterable[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            # Not fatal: a call that needs the module will fail with the same reason, where the call can carry it.
            traceback.print_exc()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
