"""The file: what is one, what is not, and what happens when the disk is full or another program has it locked."""

import asyncio
import errno
import os
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from hybrid_compute import LocalBackend, Outbox
from hybrid_compute.clock import ManualClock
from hybrid_compute.links import database
from hybrid_compute.links.writer import Writer
from hybrid_compute.outbox import file, store
from hybrid_compute.outbox.entries import Draft
from tests.faults.watching import until
from tests.outbox.places import Far, double, order


async def test_it_is_a_database_in_wal_mode_that_waits_for_the_disk(tmp_path: Path) -> None:
    """What is accepted survives a power cut, unless somebody asked for less."""
    for synchronous, level in (("FULL", 2), ("NORMAL", 1)):
        path = tmp_path / f"{synchronous}.db"
        db = file.open_file(path, synchronous=synchronous)  # type: ignore[arg-type]
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (level,)
        db.close()


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE addresses (name TEXT)")
    db.close()


def newer(path: Path) -> None:
    db = file.open_file(path)
    db.execute(f"PRAGMA user_version = {file.FORM.version + 1}")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


WRONG = {
    "another database": (foreign, "it is not an outbox but another database"),
    "no database": (lambda path: path.write_text("dear diary" * 100), "it is not an outbox"),
    "a newer outbox": (newer, "newer version of hybrid-compute"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_file_that_is_something_else_is_left_alone(name: str, tmp_path: Path) -> None:
    """The error names the file and says what is wrong with it; not a byte of it changes."""
    make, text = WRONG[name]
    path = tmp_path / "calls.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(OSError, match=text) as caught:
        await Outbox(path).start()
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["calls.db"]


async def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """As it is from `open`."""
    with pytest.raises(FileNotFoundError):
        await Outbox(tmp_path / "nowhere" / "calls.db").start()


OPENING = """
import sys
from pathlib import Path
from hybrid_compute.outbox.file import open_file
sys.stdin.read()
open_file(Path(sys.argv[1])).close()
"""


def test_programs_that_make_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    """One of them makes it, and the others find it made."""
    command = [sys.executable, "-c", OPENING, str(tmp_path / "calls.db")]
    programs = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(6)]
    for program in programs:
        assert program.stdin is not None
        program.stdin.close()
    assert [program.wait() for program in programs] == [0] * 6


def fill(db: sqlite3.Connection, room: int) -> None:
    """Leave room for so many pages, as a disk does that is nearly full."""
    [pages] = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + room}")


async def test_a_full_disk_accepts_nothing_and_loses_nothing(tmp_path: Path) -> None:
    """The caller is told, what was there is still there, and what fits is still taken."""
    async with Outbox(tmp_path / "calls.db") as outbox:
        first = await outbox.options(key="first").put(order, "tea")
        await outbox._desk.writer.do(partial(fill, room=8))
        small, large = await asyncio.gather(
            outbox.options(key="small").put(order, "milk"),
            outbox.options(key="large").put(order, "x" * 100_000),
            return_exceptions=True,
        )
        assert isinstance(large, OSError)
        assert (large.errno, large.filename) == (errno.ENOSPC, str(tmp_path / "calls.db"))
        assert "the disk is full: nothing was kept" in str(large)
        assert not isinstance(small, BaseException)
        assert [status.key for status in await outbox.calls()] == [first.key, small.key]


async def test_an_outcome_that_finds_the_disk_full_is_written_when_there_is_room(tmp_path: Path) -> None:
    """The call has run, so it is not sent again: its result waits in memory."""
    far, clock = Far(), ManualClock()
    far.gate = asyncio.Event()
    async with Outbox(tmp_path / "calls.db", to=far, clock=clock, now=clock.time) as outbox:
        ticket = await outbox.put(order, "x" * 100_000)
        await until(lambda: far.under_way)
        await outbox._desk.writer.do(partial(fill, room=2))
        far.gate.set()
        await until(lambda: far.done and clock.waiting >= 2)
        assert (await ticket.status()).state == "sent"
        await outbox._desk.writer.do(partial(fill, room=100_000))
        clock.advance(1.0)
        assert await ticket.result() == "1 " + "x" * 100_000
    assert len(far.done) == 1


async def test_a_file_that_is_locked_for_long_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was accepted; and when the other program has done, all goes on."""
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    async with Outbox(tmp_path / "calls.db") as outbox:
        other = sqlite3.connect(tmp_path / "calls.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="another program has kept it locked") as caught:
            await outbox.put(double, 4)
        assert caught.value.errno == errno.EBUSY
        other.execute("ROLLBACK")
        other.close()
        await outbox.put(double, 4)
        assert (await outbox.counts())["waiting"] == 1


async def test_puts_that_come_together_share_a_transaction(tmp_path: Path) -> None:
    """A thousand puts at once wait for the disk a few times, not a thousand times."""
    begun: list[str] = []

    def watched() -> sqlite3.Connection:
        db = file.open_file(tmp_path / "calls.db")
        db.set_trace_callback(lambda statement: begun.append(statement) if statement == "COMMIT" else None)
        return db

    writer = Writer(tmp_path / "calls.db", watched, "outbox")
    await writer.start()
    puts = (partial(store.put, draft=Draft(str(x), "double", b"\x04"), now=0.0) for x in range(1000))
    await asyncio.gather(*map(writer.do, puts))
    await writer.aclose()
    assert len(begun) < 20


async def test_what_was_accepted_is_on_disk_before_put_returns(tmp_path: Path) -> None:
    """Another connection sees it at once."""
    async with Outbox(tmp_path / "calls.db") as outbox:
        await outbox.options(key="a").put(double, 4)
        other = file.open_file(tmp_path / "calls.db", create=False)
        assert [status.key for status in store.listed(other)] == ["a"]
        other.close()


async def test_closing_leaves_one_file_and_no_thread(tmp_path: Path) -> None:
    """What SQLite keeps beside the file while it is open is gone."""
    before = set(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else set()
    async with Outbox(tmp_path / "calls.db") as outbox:
        await outbox.put(double, 4)
    assert [each.name for each in tmp_path.iterdir()] == ["calls.db"]
    if before:
        await until(lambda: set(os.listdir("/proc/self/task")) <= before)


async def test_a_place_that_does_not_start_closes_the_file(tmp_path: Path) -> None:
    """What cannot be opened whole is not left half open."""

    class Broken(LocalBackend):
        async def start(self) -> None:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await Outbox(tmp_path / "calls.db", to=Broken()).start()
    assert [each.name for each in tmp_path.iterdir()] == ["calls.db"]
