"""Calls that are kept on disk: what an outbox costs beside the bare database under it, which waits for it as well.

The files are where temporary files are: set TMPDIR to measure another disk. A file system in memory waits for nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks.harness import Group
from benchmarks.lazy import hc
from benchmarks.measure import Effort, Figures, await_rate, call_rate
from benchmarks.tasks import add

group = Group("outbox", "Calls kept in a file, each on disk before the next step")

ONE, TOGETHER, ROUND = "one after the other", "1,000 at once", "1,000 at once, run here, and fetched"
FEW, MANY = 100, 1000
BODY = b"\x82\xa1a\x01\xa1b\x02"  # what `add(1, 2)` is kept as


@contextmanager
def bare(synchronous: str) -> Generator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={synchronous}")
        db.execute("CREATE TABLE calls (number INTEGER PRIMARY KEY, key TEXT UNIQUE, task TEXT, input BLOB)")
        yield db
        db.close()


def _rows(count: int) -> list[tuple[str, str, bytes]]:
    return [(str(uuid.uuid4()), "add", BODY) for _ in range(count)]


INSERT = "INSERT INTO calls (key, task, input) VALUES (?, ?, ?)"


def bare_sqlite(synchronous: str, effort: Effort) -> Figures:
    with bare(synchronous) as db:

        def one_by_one(calls: int) -> None:
            for row in _rows(calls):
                db.execute(INSERT, row)

        def together(calls: int) -> None:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(INSERT, _rows(calls))
            db.execute("COMMIT")

        return {ONE: call_rate(one_by_one, FEW, effort), TOGETHER: call_rate(together, MANY, effort)}


Synchronous = Literal["FULL", "NORMAL"]


def outbox(synchronous: Synchronous, effort: Effort) -> Figures:
    task = hc.task(add)

    async def measure(path: Path) -> Figures:
        async with hc.Outbox(path, synchronous=synchronous) as kept:

            async def one_by_one(calls: int) -> None:
                for _ in range(calls):
                    await kept.put(task, 1, 2)

            async def together(calls: int) -> None:
                await asyncio.gather(*[kept.put(task, 1, 2) for _ in range(calls)])

            return {ONE: await await_rate(one_by_one, FEW, effort), TOGETHER: await await_rate(together, MANY, effort)}

    return _in_folder(measure)


def there_and_back(synchronous: Synchronous, effort: Effort) -> Figures:
    task = hc.task(cost="trivial")(add)

    async def measure(path: Path) -> Figures:
        async with hc.Outbox(path, to=hc.LocalBackend(), synchronous=synchronous) as kept:

            async def one() -> int:
                return await (await kept.put(task, 1, 2)).result()

            async def burst(calls: int) -> None:
                await asyncio.gather(*[one() for _ in range(calls)])

            return {ROUND: await await_rate(burst, MANY, effort)}

    return _in_folder(measure)


def _in_folder(measure: Callable[[Path], Coroutine[None, None, Figures]]) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder) / "calls.db"))


levels: tuple[Synchronous, ...] = ("FULL", "NORMAL")
for level in levels:
    group.limit(f"bare sqlite3, {level}", ONE, TOGETHER)(partial(bare_sqlite, level))
    group.ours(f"Outbox.put, {level}", ONE, TOGETHER)(partial(outbox, level))
    group.ours(f"Outbox, {level}", ROUND)(partial(there_and_back, level))
