"""The file of an outbox: its tables, and how to open it. `links/database.py` sees to the rest."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from hybrid_compute.links import database
from hybrid_compute.links.database import Form, Synchronous

# `due` is when a call may be sent next, `runs` how often somebody asked to run it anew though its outcome is unknown.
_TABLES = """
CREATE TABLE calls (
    number   INTEGER PRIMARY KEY,
    key      TEXT NOT NULL UNIQUE,
    task     TEXT NOT NULL,
    input    BLOB NOT NULL,
    priority INTEGER NOT NULL,
    most     INTEGER NOT NULL,
    put      REAL NOT NULL,
    due      REAL NOT NULL,
    expires  REAL,
    state    TEXT NOT NULL DEFAULT 'waiting',
    tries    INTEGER NOT NULL DEFAULT 0,
    runs     INTEGER NOT NULL DEFAULT 0,
    sender   TEXT,
    outcome  BLOB NOT NULL DEFAULT x'',
    code     TEXT,
    reason   TEXT NOT NULL DEFAULT '',
    ended    REAL,
    fetched  REAL
);
CREATE INDEX waiting ON calls (priority DESC, number) WHERE state = 'waiting';
CREATE INDEX due ON calls (due) WHERE state = 'waiting';
CREATE INDEX expiring ON calls (expires) WHERE state = 'waiting' AND expires IS NOT NULL;
CREATE INDEX sent ON calls (sender) WHERE state = 'sent';
CREATE INDEX fetched ON calls (fetched) WHERE fetched IS NOT NULL;
CREATE TABLE senders (name TEXT PRIMARY KEY, lease REAL NOT NULL);
"""

FORM: Final = Form("an outbox", 0x68634F42, 1, _TABLES)  # "hcOB"


def open_file(path: Path, *, create: bool = True, synchronous: Synchronous = "FULL") -> sqlite3.Connection:
    """A connection to the outbox in this file. Raises `OSError`: see `open_database`."""
    return database.open_database(path, FORM, create=create, synchronous=synchronous)


def one_step(path: Path) -> AbstractContextManager[sqlite3.Connection]:
    """The outbox that is in this file, for one transaction; also while a program has it open. Errors as `open_file`."""
    return database.one_step(path, FORM)
