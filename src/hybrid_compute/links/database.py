"""An SQLite database in a file that knows what it is, opened with care.

What goes wrong with the file is an `OSError` that names it, as from `open`. Nothing here knows what the rows mean.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]
"""`FULL`: what was accepted survives a power cut. `NORMAL`: only a crash of the program, and quicker."""

PATIENCE: Final = 10.0
"""Seconds to wait while another program writes."""


@dataclass(frozen=True, slots=True)
class Form:
    """What is in a file of one kind."""

    name: str
    """With its article, for errors: "an outbox"."""
    application: int
    """What SQLite's header says that the file is for."""
    version: int
    tables: str
    """The statements that make them, a semicolon and a new line after each."""


def open_database(
    path: Path, form: Form, *, create: bool = True, synchronous: Synchronous = "FULL"
) -> sqlite3.Connection:
    """A connection to the file, which only its owner may read.

    Raises `OSError` if there is none and none shall be made, if the file is something else, or if it was written by a
    newer version; then it is left as it was.
    """
    if sqlite3.sqlite_version_info < (3, 35):
        raise trouble(path, errno.ENOSYS, f"{form.name} needs SQLite 3.35, and this is {sqlite3.sqlite_version}")
    os.close(os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600))
    db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        _open(db, path, form, synchronous)
    except sqlite3.Error as error:
        db.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
            raise trouble(path, errno.EINVAL, f"it is not {form.name}, and is left alone ({error})") from error
        raise told(error, path) from error
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def one_step(path: Path, form: Form) -> Generator[sqlite3.Connection]:
    """What is in the file, for one transaction, also while a program has it open. Errors as `open_database`."""
    with closing(open_database(path, form, create=False)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise told(error, path) from error


def _open(db: sqlite3.Connection, path: Path, form: Form, synchronous: Synchronous) -> None:
    db.execute("BEGIN")  # one view of it, though another program may be making it at this moment
    _is_new(db, path, form)
    db.execute("COMMIT")
    if _switch_to_wal(db) != "wal":
        raise trouble(path, errno.ENOTSUP, f"its file system cannot hold {form.name}: put it on a local disk")
    db.execute(f"PRAGMA synchronous={synchronous}")
    db.execute("BEGIN IMMEDIATE")  # of two programs that make the same file, one finds it made
    if _is_new(db, path, form):
        for statement in form.tables.split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id={form.application}")
        db.execute(f"PRAGMA user_version={form.version}")
    db.execute("COMMIT")


def _is_new(db: sqlite3.Connection, path: Path, form: Form) -> bool:
    """Whether nothing is in the file yet. Raises `OSError` if it is of another kind, or of a later version."""
    application, version = _of(db, "application_id"), _of(db, "user_version")
    [tables] = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (application, version, tables) == (0, 0, 0):
        return True
    if application != form.application:
        raise trouble(path, errno.EINVAL, f"it is not {form.name} but another database, and is left alone")
    if version > form.version:
        known = f"its format is {version}, and this version knows {form.version}"
        raise trouble(path, errno.EINVAL, f"it was written by a newer version of hybrid-compute ({known}): update it")
    return False


def _switch_to_wal(db: sqlite3.Connection) -> Any:
    """The mode that it is in now. Of programs that switch at once SQLite lets one, and does not let the others wait."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return _of(db, "journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.001)


def _of(db: sqlite3.Connection, pragma: str) -> Any:
    [value] = db.execute(f"PRAGMA {pragma}").fetchone()
    return value


def told(error: sqlite3.Error, path: Path) -> OSError:
    """What SQLite says, as an `OSError` for the person who has to do something about it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    number, text = _MEANING.get(code, (errno.EIO, "SQLite failed"))
    return trouble(path, number, f"{text} ({error})")


_MEANING = {
    sqlite3.SQLITE_BUSY: (errno.EBUSY, f"another program has kept it locked for {PATIENCE:g} s: nothing was done"),
    sqlite3.SQLITE_CANTOPEN: (errno.EACCES, "it cannot be opened"),
    sqlite3.SQLITE_CORRUPT: (errno.EIO, "it is damaged: put it aside and start a new one"),
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "the disk is full: nothing was kept"),
    sqlite3.SQLITE_IOERR: (errno.EIO, "reading or writing failed: nothing was kept"),
    sqlite3.SQLITE_READONLY: (errno.EROFS, "it cannot be written"),
    sqlite3.SQLITE_TOOBIG: (errno.EFBIG, "what it was given is too large: nothing was kept"),
}


def trouble(path: Path, number: int, text: str) -> OSError:
    return OSError(number, text, str(path))
