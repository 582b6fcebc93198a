"""The one thread that owns the file. What is asked at the same time shares a transaction, and so one wait for the disk.

    do(job), read(job), post(job) ──> queue ──> thread: BEGIN, all that has come, COMMIT ──> futures

A job is a plain function of the connection. It looks first and writes last, so that one that refuses has written
nothing.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from hybrid_compute.errors import BackendClosed
from hybrid_compute.links.database import told

T = TypeVar("T")
Job: TypeAlias = Callable[[sqlite3.Connection], T]

MOST_AT_ONCE: Final = 1000
"""Jobs in one transaction: more would make the first of them wait for the last."""

_log = logging.getLogger("hybrid_compute")


class _Asked:
    """One job, and who waits for it, if anybody does."""

    __slots__ = ("answer", "error", "future", "job", "writes")

    def __init__(self, job: Job[Any], writes: bool, future: asyncio.Future[Any] | None) -> None:
        self.job = job
        self.writes = writes
        self.future = future
        self.answer: Any = None
        self.error: BaseException | None = None

    def try_on(self, db: sqlite3.Connection) -> None:
        """Do it. What SQLite says concerns the whole transaction; what the job itself says, only this one."""
        self.answer = self.error = None
        try:
            self.answer = self.job(db)
        except sqlite3.Error:
            raise
        except Exception as error:
            self.error = error

    def deliver(self) -> None:
        """In the loop."""
        if self.future is None:
            if self.error is not None:
                _log.warning("something could not be noted: %s", self.error)
        elif self.future.done():  # whoever asked was cancelled
            return
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)


class Writer:
    """Does jobs on a file in a thread, many in one transaction. `open_file` makes the connection, over there.

    `name` is what the file is, for errors and for the name of the thread: "outbox".
    """

    def __init__(self, path: Path, open_file: Callable[[], sqlite3.Connection], name: str) -> None:
        self._path = path
        self._name = name
        self._open_file = open_file
        self._jobs: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def start(self) -> None:
        """Open the file. Raises what `open_file` raises."""
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        opened: asyncio.Future[None] = self._loop.create_future()
        # A daemon, because a program that ends in the middle of something must end; the file survives that.
        self._thread = threading.Thread(
            target=self._run, args=(opened,), name=f"hybrid-compute {self._name}", daemon=True
        )
        self._thread.start()
        await opened

    async def do(self, job: Job[T]) -> T:
        """What the job returns, once what it has written is on disk. Raises `OSError` if that cannot be."""
        return await self._ask(job, writes=True)

    async def read(self, job: Job[T]) -> T:
        """The same for a job that only looks."""
        return await self._ask(job, writes=False)

    def post(self, job: Job[object]) -> None:
        """Have it done, soon; nobody waits."""
        if not self._closed:
            self._jobs.put(_Asked(job, True, None))

    async def aclose(self) -> None:
        """Do what was asked so far, and close the file. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        if self._thread is not None:
            await asyncio.shield(self._over)
            self._thread.join()

    async def _ask(self, job: Job[T], *, writes: bool) -> T:
        if self._closed or self._thread is None:
            state = "closed" if self._closed else "not open: enter it with `async with`"
            raise BackendClosed(f"the {self._name} {self._path} is {state}")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Asked(job, writes, future))
        return await future

    # In the thread.

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            db = self._open_file()
        except BaseException as error:
            self._tell(_refuse, opened, error)
            self._tell(_agree, self._over)
            return
        self._tell(_agree, opened)
        while batch := self._next():
            self._carry_out(db, batch)
            self._tell(_deliver, batch)
        db.close()
        self._tell(_agree, self._over)

    def _next(self) -> list[_Asked]:
        """All that waits; nothing at the end."""
        batch: list[_Asked] = []
        asked = self._jobs.get()
        while asked is not None:
            batch.append(asked)
            if len(batch) == MOST_AT_ONCE or self._jobs.empty():
                return batch
            asked = self._jobs.get()
        self._jobs.put(None)  # the end comes after these
        return batch

    def _carry_out(self, db: sqlite3.Connection, batch: Sequence[_Asked]) -> None:
        try:
            db.execute("BEGIN IMMEDIATE" if any(asked.writes for asked in batch) else "BEGIN")
            for asked in batch:
                asked.try_on(db)
            db.execute("COMMIT")
        except Exception as error:
            _roll_back(db)
            failure = told(error, self._path) if isinstance(error, sqlite3.Error) else error
            if len(batch) > 1 and not _is_busy(error):
                for asked in batch:  # one that cannot be written takes no other along
                    self._carry_out(db, [asked])
                return
            for asked in batch:
                asked.error = failure

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass


def _roll_back(db: sqlite3.Connection) -> None:
    try:
        if db.in_transaction:
            db.execute("ROLLBACK")
    except sqlite3.Error:  # it has done so by itself
        pass


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _agree(opened: asyncio.Future[None]) -> None:
    if not opened.done():
        opened.set_result(None)


def _refuse(opened: asyncio.Future[None], error: BaseException) -> None:
    if not opened.done():
        opened.set_exception(error)


def _deliver(batch: Sequence[_Asked]) -> None:
    for asked in batch:
        asked.deliver()
