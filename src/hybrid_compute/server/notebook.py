"""Keys of calls and their outcomes in SQLite: what a server knows after it was killed."""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

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
    PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX began ON calls (began);
""",
)


class SqliteNotebook:
    """Remembers keys in the file `path` for `keep` seconds. Raises `OSError` if that is another program's file."""

    def __init__(self, path: str | Path, *, keep: float = 7 * 86_400) -> None:
        open_file = partial(open_database, Path(path), FORM)
        open_file().close()  # what is wrong with it is said before anything is served
        self._keep = keep
        self._writer = Writer(Path(path), open_file, "notebook of keys")
        self._opening: asyncio.Task[None] | None = None

    async def begin(self, key: Key, call: bytes, now: float, *, again: bool) -> Entry | None:
        await self._opened()
        return await self._writer.do(partial(_begin, key=key, call=call, now=now, again=again, keep=self._keep))

    async def end(self, key: Key, outcome: Outcome | None) -> None:
        await self._opened()
        await self._writer.do(partial(_end, key=key, outcome=outcome))

    async def aclose(self) -> None:
        await self._writer.aclose()

    async def _opened(self) -> None:
        if self._opening is None:
            self._opening = asyncio.create_task(self._writer.start())
        await asyncio.shield(self._opening)


# In the writer's thread.


def _begin(db: sqlite3.Connection, *, key: Key, call: bytes, now: float, again: bool, keep: float) -> Entry | None:
    db.execute("DELETE FROM calls WHERE began < ?", (now - keep,))
    found = db.execute("SELECT call, began, result, failure FROM calls WHERE tenant = ? AND key = ?", key).fetchone()
    if found is not None:
        known, began, result, failure = found
        outcome = result if failure is None else msgspec.msgpack.decode(failure, type=Failure)
        if outcome is not None or not again or known != call:
            return Entry(known, began, outcome)
    db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, NULL, NULL)", (*key, call, now))
    return None


def _end(db: sqlite3.Connection, *, key: Key, outcome: Outcome | None) -> None:
    if outcome is None:
        db.execute("DELETE FROM calls WHERE tenant = ? AND key = ?", key)
    elif isinstance(outcome, Failure):
        failure = msgspec.msgpack.encode(outcome)
        db.execute("UPDATE calls SET failure = ? WHERE tenant = ? AND key = ?", (failure, *key))
    else:
        db.execute("UPDATE calls SET result = ? WHERE tenant = ? AND key = ?", (outcome, *key))
