"""Keys of calls and their outcomes in SQLite: what a server knows after it was killed."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.links import owners
from hybrid_compute.links.database import Form, open_database
from hybrid_compute.links.wire import Failure
from hybrid_compute.links.writer import Writer
from hybrid_compute.server.memory import Entry, Key, Outcome

FORM: Final = Form(
    "a notebook of keys",
    0x68634B59,  # "hcKY"
    1,
    """
CREATE TABLE calls (
    tenant  TEXT NOT NULL,
    key     TEXT NOT NULL,
    call    BLOB NOT NULL,
    began   REAL NOT NULL,
    result  BLOB,
    failure BLOB,
    server  TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX began ON calls (began);
CREATE TABLE notebook (id TEXT NOT NULL);
INSERT INTO notebook VALUES (lower(hex(randomblob(8))));
""",
)


class SqliteNotebook:
    """Remembers keys in the file `path` for `keep` seconds. Raises `OSError` if that is another program's file."""

    def __init__(self, path: str | Path, *, keep: float = 7 * 86_400) -> None:
        open_file = partial(open_database, Path(path), FORM)
        with closing(open_file()) as database:  # what is wrong with it is said before anything is served
            [self.id] = database.execute("SELECT id FROM notebook").fetchone()
        self._keep = keep
        self._new_writer = partial(Writer, Path(path), open_file, "notebook of keys")
        self._writer = self._new_writer()
        self._opening: asyncio.Task[None] | None = None
        self._name = owners.new_name()

    async def begin(self, key: Key, call: bytes, now: float, *, again: bool) -> Entry | None:
        await self._opened()
        begin = partial(_begin, key=key, call=call, now=now, again=again, server=self._name, old=now - self._keep)
        return await self._writer.do(begin)

    async def end(self, key: Key, outcome: Outcome | None) -> None:
        await self._opened()
        await self._writer.do(partial(_end, key=key, outcome=outcome))

    async def aclose(self) -> None:
        await self._writer.aclose()

    async def _opened(self) -> None:
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        try:
            await self._writer.start()
        except OSError:  # somebody has kept it locked, perhaps: the next call tries again
            self._writer, self._opening = self._new_writer(), None
            raise


# In the writer's thread.


def _begin(
    db: sqlite3.Connection, *, key: Key, call: bytes, now: float, again: bool, server: str, old: float
) -> Entry | None:
    # A few at a time, so that a clock that is wrong for a moment does not cost all of them.
    db.execute(
        "DELETE FROM calls WHERE (tenant, key) IN (SELECT tenant, key FROM calls WHERE began < ? LIMIT 2)", (old,)
    )
    find = "SELECT call, began, result, failure, server FROM calls WHERE tenant = ? AND key = ?"
    found = db.execute(find, key).fetchone()
    if found is not None and found[1] > old:
        known, began, result, failure, whose = found
        outcome = result if failure is None else msgspec.msgpack.decode(failure, type=Failure)
        if outcome is None and known == call and whose != server and owners.alive(whose):
            raise BackendUnavailable(f"the call {key[1]!r} is under way at another server: ask again in a moment")
        if outcome is not None or not again or known != call:
            return Entry(known, began, outcome)
    db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, NULL, NULL, ?)", (*key, call, now, server))
    return None


def _end(db: sqlite3.Connection, *, key: Key, outcome: Outcome | None) -> None:
    if outcome is None:
        db.execute("DELETE FROM calls WHERE tenant = ? AND key = ?", key)
    elif isinstance(outcome, Failure):
        failure = msgspec.msgpack.encode(outcome)
        db.execute("UPDATE calls SET failure = ? WHERE tenant = ? AND key = ?", (failure, *key))
    else:
        db.execute("UPDATE calls SET result = ? WHERE tenant = ? AND key = ?", (outcome, *key))
