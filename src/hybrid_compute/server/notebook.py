"""Keys of calls and their outcomes in SQLite: what a server knows after it was killed.

One thread owns the connection. What is asked of it while it writes is written together with the next commit, so that
a hundred calls at once cost little more than one. A commit is on disk when it returns (`synchronous=FULL`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import msgspec

from hybrid_compute.links.wire import Failure
from hybrid_compute.server.memory import Entry, Key, Outcome

T = TypeVar("T")

_APPLICATION: Final = 0x4843_4B59  # "HCKY": says whose file it is
_VERSION: Final = 1
_TIDY: Final = 1_000
"""Calls after which what is too old is thrown away again."""
_TABLE: Final = """
create table if not exists calls (
  tenant text not null, key text not null, call blob not null, began real not null,
  result blob, failure blob,
  primary key (tenant, key)
) without rowid
"""


class SqliteNotebook:
    """Remembers keys in the file `path` for `keep` seconds. Raises `ValueError` if that is another program's file."""

    def __init__(self, path: str | Path, *, keep: float = 7 * 86_400) -> None:
        self._path = Path(path)
        self._keep = keep
        self._begun = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hybrid-compute-keys")
        self._waiting: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._database = self._thread.submit(self._open).result()

    async def begin(self, key: Key, call: bytes, now: float, *, again: bool) -> Entry | None:
        return await self._write(lambda: self._begin(key, call, now, again))

    async def end(self, key: Key, outcome: Outcome | None) -> None:
        await self._write(lambda: self._end(key, outcome))

    async def aclose(self) -> None:
        await asyncio.wrap_future(self._thread.submit(self._database.close))
        self._thread.shutdown()

    # In the thread.

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None)
        try:
            (application,) = database.execute("pragma application_id").fetchone()
            (version,) = database.execute("pragma user_version").fetchone()
            tables = database.execute("select count(*) from sqlite_master").fetchone()[0]
            if tables and (application, version) != (_APPLICATION, _VERSION):
                raise ValueError(
                    f"{self._path} is not a notebook of keys that this version can read: name another file"
                )
            database.execute("pragma journal_mode = wal")
            database.execute("pragma synchronous = full")
            database.execute(f"pragma application_id = {_APPLICATION}")
            database.execute(f"pragma user_version = {_VERSION}")
            database.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            database.close()
            raise ValueError(f"{self._path} cannot be opened as a notebook of keys: {error}") from error
        except ValueError:
            database.close()
            raise
        return database

    def _begin(self, key: Key, call: bytes, now: float, again: bool) -> Entry | None:
        database = self._database
        found = database.execute(
            "select call, began, result, failure from calls where tenant = ? and key = ?", key
        ).fetchone()
        if found is not None and found[1] > now - self._keep:
            outcome = msgspec.msgpack.decode(found[3], type=Failure) if found[3] is not None else found[2]
            if outcome is not None or not again or found[0] != call:
                return Entry(found[0], found[1], outcome)
        self._begun += 1
        if self._begun % _TIDY == 1:
            database.execute("delete from calls where began < ?", (now - self._keep,))
        database.execute("insert or replace into calls values (?, ?, ?, ?, null, null)", (*key, call, now))
        return None

    def _end(self, key: Key, outcome: Outcome | None) -> None:
        if outcome is None:
            self._database.execute("delete from calls where tenant = ? and key = ?", key)
        elif isinstance(outcome, Failure):
            failure = msgspec.msgpack.encode(outcome)
            self._database.execute("update calls set failure = ? where tenant = ? and key = ?", (failure, *key))
        else:
            self._database.execute("update calls set result = ? where tenant = ? and key = ?", (outcome, *key))

    async def _write(self, change: Callable[[], T]) -> T:
        """Do a change in the thread; it is on disk when this returns."""
        done: Future[T] = Future()
        self._waiting.put((change, done))
        self._thread.submit(self._commit)
        return await asyncio.wrap_future(done)

    def _commit(self) -> None:
        """All the changes that wait, in one transaction."""
        changes = [each for each in _all_of(self._waiting) if each[1].set_running_or_notify_cancel()]
        if not changes:
            return  # an earlier turn has done them
        try:
            self._database.execute("begin immediate")
            results = [change() for change, _ in changes]
            self._database.execute("commit")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("rollback")
            for _, done in changes:
                done.set_exception(error)
            return
        for (_, done), result in zip(changes, results, strict=True):
            done.set_result(result)


def _all_of(queue: SimpleQueue[T]) -> list[T]:
    found: list[T] = []
    while True:
        try:
            found.append(queue.get_nowait())
        except Empty:
            return found
