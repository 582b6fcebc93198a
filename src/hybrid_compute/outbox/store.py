"""What can be done with the file, as plain functions of a connection: each is one step, done whole or not at all.

Whoever calls them sees to the transaction (`writer.py`). Each looks first and writes last: one that raises has changed
nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from hybrid_compute.errors import OutcomeUnknown, TaskNotFound, TaskTimeout
from hybrid_compute.outbox.entries import (
    AT_ONCE,
    GIVEN_UP,
    STATES,
    Again,
    Claimed,
    Draft,
    Outcome,
    State,
    Status,
    Verdict,
)

Connection: TypeAlias = sqlite3.Connection

_STATUS: Final = "key, task, state, priority, tries, most, put, due, expires, ended, fetched, code, reason"
_EXPIRED: Final = "it could not be sent before it expired"
_UNKNOWN: Final = "the program that sends does not know its task: name it there, as in Outbox(tasks=[...])"


# Putting and looking.


def put(db: Connection, draft: Draft, now: float) -> bool:
    """Keep a call; whether it is a new one. The same call under the same key is kept once.

    Raises `ValueError` if there is a different call under that key.
    """
    added = db.execute(
        "INSERT INTO calls (key, task, input, priority, most, put, due, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO NOTHING",
        (draft.key, draft.task, draft.input, draft.priority, draft.tries, now, AT_ONCE, draft.expires),
    )
    if added.rowcount:
        return True
    [task, input] = db.execute("SELECT task, input FROM calls WHERE key = ?", (draft.key,)).fetchone()
    if (task, input) != (draft.task, draft.input):
        what = f"a call of {task!r}" if task != draft.task else f"another input of {task!r}"
        raise ValueError(f"the key {draft.key!r} stands for {what} already: give each call a key of its own")
    return False


def status(db: Connection, key: str) -> Status | None:
    found = db.execute(f"SELECT {_STATUS} FROM calls WHERE key = ?", (key,)).fetchone()
    return None if found is None else Status(*found)


def listed(db: Connection, states: Collection[State] = STATES) -> list[Status]:
    """All calls in these states, in the order in which they were put."""
    marks = ", ".join("?" * len(states))
    rows = db.execute(f"SELECT {_STATUS} FROM calls WHERE state IN ({marks}) ORDER BY number", tuple(states))
    return [Status(*row) for row in rows]


def counts(db: Connection) -> dict[State, int]:
    """How many calls there are in each state."""
    found = dict(db.execute("SELECT state, count(*) FROM calls GROUP BY state").fetchall())
    return {state: found.get(state, 0) for state in STATES}


def outcome(db: Connection, key: str) -> Outcome | None:
    """What became of a call, as far as it has come."""
    found = db.execute("SELECT state, outcome, code, reason, fetched FROM calls WHERE key = ?", (key,)).fetchone()
    if found is None:
        return None
    state, body, code, reason, fetched = found
    return Outcome(state, body, code, reason, fetched is not None)


def version(db: Connection) -> int:
    """Another number each time that another connection has changed the file."""
    [number] = db.execute("PRAGMA data_version").fetchone()
    return int(number)


# What people decide.


def fetched(db: Connection, key: str, now: float) -> None:
    """Its outcome has been given to somebody."""
    db.execute("UPDATE calls SET fetched = ? WHERE key = ? AND fetched IS NULL", (now, key))


def retry(db: Connection, keys: Iterable[str] | None) -> list[str]:
    """Let calls that were given up wait again, all of them if no keys are said; those that now do.

    One whose outcome is unknown is run anew: under its old key, a place that remembers keys would only say so again.
    Raises `LookupError` or `ValueError` for a key that is not there or was not given up.
    """
    chosen = _chosen(db, keys, GIVEN_UP, "was not given up")
    db.executemany(
        "UPDATE calls SET state = 'waiting', due = ?, tries = 0, expires = NULL, ended = NULL, fetched = NULL, "
        "runs = runs + (code IS ?), code = NULL, outcome = x'' WHERE key = ?",
        [(AT_ONCE, OutcomeUnknown.code, key) for key in chosen],
    )
    return chosen


def drop(db: Connection, keys: Iterable[str] | None, states: Collection[State] = GIVEN_UP) -> list[str]:
    """Forget calls, or all in these states if no keys are said; the keys of those that are gone.

    Raises `LookupError` for a key that is not there, and `ValueError` for one whose call is under way.
    """
    droppable: list[State] = [state for state in (states if keys is None else STATES) if state != "sent"]
    chosen = _chosen(db, keys, droppable, "cannot be dropped")
    db.executemany("DELETE FROM calls WHERE key = ?", [(key,) for key in chosen])
    return chosen


def withdraw(db: Connection, key: str, sender: str) -> None:
    """Forget a call that was given up: it has not been sent, or by this sender, which does not send it any more."""
    db.execute(
        "DELETE FROM calls WHERE key = ? AND (state = 'waiting' OR (state = 'sent' AND sender = ?))", (key, sender)
    )


def forget(db: Connection, key: str) -> None:
    """Forget a call that was answered."""
    db.execute("DELETE FROM calls WHERE key = ? AND state IN ('done', 'failed')", (key,))


def _chosen(db: Connection, keys: Iterable[str] | None, allowed: Collection[State], otherwise: str) -> list[str]:
    if keys is None:
        return [each.key for each in listed(db, allowed)]
    chosen = list(dict.fromkeys(keys))
    for key in chosen:
        found = status(db, key)
        if found is None:
            raise LookupError(f"there is no call of key {key!r}: nothing was changed")
        if found.state not in allowed:
            raise ValueError(f"the call of key {key!r} {otherwise}: it is {found.state}, and nothing was changed")
    return chosen


# Sending.


@dataclass(frozen=True, slots=True)
class Wish:
    """What a sender asks for: as many calls as it has room for, of the tasks that it knows.

    Its `lease` is how many seconds it may be silent, while calls of its are under way, before others take them over.
    """

    sender: str
    tasks: Collection[str]
    room: int
    under_way: int = 0
    strict: bool = False
    lease: float = 30.0
    keep: float | None = None


class Orphan(NamedTuple):
    """A call that was under way when its sender died."""

    sender: str
    call: Claimed


@dataclass(frozen=True, slots=True)
class Found:
    """What it got: calls to send, the keys of calls that have expired, and when the next is due or expires.

    `orphans` are calls of which the sender has died, for `adopt`; `others` tells whether there are more senders, which
    may die yet.
    """

    claimed: Sequence[Claimed]
    expired: Sequence[str]
    orphans: Sequence[Orphan]
    due: float | None
    others: bool


Alive: TypeAlias = Callable[[str], bool | None]
"""Whether a sender lives; None where only its lease can tell."""


def look(db: Connection, wish: Wish, now: float, alive: Alive) -> Found:
    """Look around once, and claim as many calls as are wished for; end what has expired, remove what had its time."""
    expired = _expire(db, now)
    if wish.keep is not None:
        db.execute("DELETE FROM calls WHERE fetched <= ? AND state IN ('done', 'failed')", (now - wish.keep,))
    claimed = _claim(db, wish, now) if wish.room > 0 and wish.tasks else []
    if claimed or wish.under_way:
        _renew(db, wish, now)
    orphans, others = _orphans(db, wish, now, alive)
    return Found(claimed, expired, orphans, _due(db, wish, now, all_claimed=len(claimed) < wish.room), others)


def adopt(db: Connection, verdicts: Sequence[tuple[Orphan, Verdict]], now: float) -> list[str]:
    """What becomes of calls whose sender died, unless another has seen to them; the keys of those that have ended."""
    ended: list[str] = []
    for (sender, call), verdict in verdicts:
        if isinstance(verdict, Again):
            put_back(db, sender, call.key, AT_ONCE, verdict)
        elif any(each.key == call.key for each in _sent_by(db, sender)):
            settle(db, call.key, verdict, now)
            ended.append(call.key)
    return ended


def settle(db: Connection, key: str, outcome: Outcome, now: float) -> None:
    """A call has come to its end. The first end counts."""
    db.execute(
        "UPDATE calls SET state = ?, outcome = ?, code = ?, reason = ?, ended = ?, sender = NULL "
        "WHERE key = ? AND state NOT IN ('done', 'failed')",
        (outcome.state, outcome.body, outcome.code, outcome.reason, now, key),
    )


def put_back(db: Connection, sender: str, key: str, due: float, why: Again) -> None:
    """A call that was claimed waits again."""
    db.execute(
        "UPDATE calls SET state = 'waiting', sender = NULL, due = ?, tries = tries - ?, code = ?, reason = ? "
        "WHERE key = ? AND sender = ? AND state = 'sent'",
        (due, 0 if why.counts else 1, why.code, why.reason, key, sender),
    )


def reopen(db: Connection, codes: Collection[str] | None = None) -> None:
    """What waits need not wait any longer: all of it, or what failed with an error of these codes."""
    rows = db.execute("SELECT key, code FROM calls WHERE state = 'waiting' AND due > ?", (AT_ONCE,)).fetchall()
    chosen = [(AT_ONCE, key) for key, code in rows if codes is None or code in codes]
    db.executemany("UPDATE calls SET due = ? WHERE key = ?", chosen)


def note_unknown(db: Connection, tasks: Collection[str]) -> None:
    """Say why calls of other tasks than these wait, and say so no longer of those that are known now."""
    marks = ", ".join("?" * len(tasks))
    db.execute(
        f"UPDATE calls SET code = NULL, reason = '' WHERE state = 'waiting' AND code = ? AND task IN ({marks})",
        (TaskNotFound.code, *tasks),
    )
    db.execute(
        f"UPDATE calls SET code = ?, reason = ? WHERE state = 'waiting' AND reason = '' AND task NOT IN ({marks})",
        (TaskNotFound.code, _UNKNOWN, *tasks),
    )


def leave(db: Connection, sender: str, begun: Sequence[str] = ()) -> None:
    """A sender says goodbye. What it had claimed waits again, but for the calls that have `begun`."""
    claimed = {key for (key,) in db.execute("SELECT key FROM calls WHERE state = 'sent' AND sender = ?", (sender,))}
    db.executemany(
        "UPDATE calls SET state = 'waiting', sender = NULL, tries = tries - 1 WHERE key = ?",
        [(key,) for key in claimed.difference(begun)],
    )
    db.execute("DELETE FROM senders WHERE name = ?", (sender,))


def _expire(db: Connection, now: float) -> list[str]:
    rows = db.execute(
        "UPDATE calls SET state = 'expired', ended = ?, code = ?, reason = "
        f"CASE reason WHEN '' THEN '{_EXPIRED}' ELSE '{_EXPIRED}: ' || reason END "
        "WHERE state = 'waiting' AND expires <= ? RETURNING key",
        (now, TaskTimeout.code, now),
    )
    return [key for (key,) in rows.fetchall()]


def _orphans(db: Connection, wish: Wish, now: float, alive: Alive) -> tuple[list[Orphan], bool]:
    """Calls of dead senders, as far as their tasks are known here, and whether there are senders that may die yet."""
    orphans: list[Orphan] = []
    others = False
    for sender, lease in _leases(db, wish.sender).items():
        lives = alive(sender)
        left = _sent_by(db, sender)
        if lives or (lives is None and lease > now):
            others = True
        elif left:
            orphans += [Orphan(sender, call) for call in left if call.task in wish.tasks]
        else:
            db.execute("DELETE FROM senders WHERE name = ?", (sender,))
    return orphans, others


def _leases(db: Connection, but_not: str) -> dict[str, float]:
    """All other senders, whether they have calls under way or not, and until when they are thought to live."""
    at_work = db.execute("SELECT DISTINCT sender FROM calls WHERE state = 'sent'").fetchall()
    leases: dict[str, float] = dict.fromkeys((name for (name,) in at_work), 0.0)
    leases.update(db.execute("SELECT name, lease FROM senders").fetchall())
    leases.pop(but_not, None)
    return leases


def _renew(db: Connection, wish: Wish, now: float) -> None:
    """Say that this sender is there. Written only now and then: each writing wakes all who have the file open."""
    db.execute(
        "INSERT INTO senders (name, lease) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET lease = excluded.lease WHERE lease <= ?",
        (wish.sender, now + wish.lease, now + wish.lease * 2 / 3),
    )


_CLAIMED: Final = "key, runs, task, input, priority, tries, most"


def _claim(db: Connection, wish: Wish, now: float) -> list[Claimed]:
    marks = ", ".join("?" * len(wish.tasks))
    if wish.strict:  # the first of all, if it is its turn: one that is under way, or must wait, holds the others
        chosen = (
            "SELECT number FROM (SELECT * FROM calls WHERE state IN ('waiting', 'sent') ORDER BY number LIMIT 1) "
            f"WHERE state = 'waiting' AND due <= ? AND task IN ({marks}) LIMIT ?"
        )
    else:
        chosen = (
            f"SELECT number FROM calls WHERE state = 'waiting' AND due <= ? AND task IN ({marks}) "
            "ORDER BY priority DESC, number LIMIT ?"
        )
    rows = db.execute(
        f"UPDATE calls SET state = 'sent', sender = ?, tries = tries + 1 WHERE number IN ({chosen}) "
        f"RETURNING number, {_CLAIMED}",
        (wish.sender, now, *wish.tasks, wish.room),
    ).fetchall()
    claimed = [(-row[5], row[0], _claimed(*row[1:])) for row in rows]
    return [call for _, _, call in sorted(claimed, key=lambda each: each[:2])]


def _sent_by(db: Connection, sender: str) -> list[Claimed]:
    rows = db.execute(f"SELECT {_CLAIMED} FROM calls WHERE state = 'sent' AND sender = ?", (sender,))
    return [_claimed(*row) for row in rows.fetchall()]


def _claimed(key: str, runs: int, task: str, input: bytes, priority: int, tries: int, most: int) -> Claimed:
    return Claimed(key, f"{key}/{runs}" if runs else key, task, input, priority, tries, most)


def _due(db: Connection, wish: Wish, now: float, *, all_claimed: bool) -> float | None:
    """When the next call expires or, if `all_claimed` of those that are due, when the next one will be."""
    times = db.execute("SELECT min(expires) FROM calls WHERE state = 'waiting' AND expires > ?", (now,)).fetchall()
    if all_claimed and wish.tasks:
        marks = ", ".join("?" * len(wish.tasks))
        times += db.execute(
            f"SELECT due FROM calls WHERE state = 'waiting' AND due > ? AND task IN ({marks}) ORDER BY due LIMIT 1",
            (now, *wish.tasks),
        ).fetchall()
    return min((time for (time,) in times if time is not None), default=None)
