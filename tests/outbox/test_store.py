"""The steps that the file can take, whatever their order: no call is lost, and none is with two senders."""

import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from hybrid_compute.outbox import store
from hybrid_compute.outbox.entries import DIED, Again, Claimed, Draft, Outcome
from hybrid_compute.outbox.file import open_file
from hybrid_compute.outbox.store import Alive, Wish

SENDERS = ["one", "two", "three"]
senders = st.sampled_from(SENDERS)


class Steps(RuleBasedStateMachine):
    """Senders claim, answer, lose and die in any order, beside people who retry and drop."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.db = open_file(Path(self.folder.name) / "calls.db", synchronous="NORMAL")
        self.now = 1000.0
        self.held: dict[str, dict[str, Claimed]] = {name: {} for name in SENDERS}
        self.kept: set[str] = set()
        self.answered: set[str] = set()

    def teardown(self) -> None:
        self.db.close()
        self.folder.cleanup()

    @rule(
        target=keys, number=st.integers(0, 9), priority=st.integers(-1, 1), expires=st.sampled_from([None, 5.0, 50.0])
    )
    def put(self, number: int, priority: int, expires: float | None) -> str:
        key = str(number)
        until = None if expires is None else self.now + expires
        new = store.put(self.db, Draft(key, "double", b"\x04", priority, 2, until), self.now)
        assert new is (key not in self.kept)
        self.kept.add(key)
        return key

    @rule(name=senders, room=st.integers(0, 3), strict=st.booleans())
    def look(self, name: str, room: int, strict: bool) -> None:
        wish = Wish(name, ["double"], room, len(self.held[name]), strict)
        found = store.look(self.db, wish, self.now, alive=lambda _: True)
        others = {key for held in self.held.values() for key in held}
        for call in found.claimed:
            assert call.key not in others
            assert call.key not in self.answered
            self.held[name][call.key] = call
        assert len(found.claimed) <= room
        ranks = [-call.priority for call in found.claimed]
        assert ranks == sorted(ranks)

    @rule(name=senders, away=st.booleans())
    def lose(self, name: str, away: bool) -> None:
        if self.held[name]:
            key, _ = self.held[name].popitem()
            store.put_back(self.db, name, key, self.now + 3.0, Again(away, not away, "connection_lost", "lost"))

    @rule(name=senders, state=st.sampled_from(["done", "failed", "dead"]))
    def end(self, name: str, state: str) -> None:
        if self.held[name]:
            key, _ = self.held[name].popitem()
            store.settle(self.db, key, Outcome(state, b"\x08"), self.now)  # type: ignore[arg-type]
            if state != "dead":
                self.answered.add(key)

    @rule(name=senders, by=senders)
    def die(self, name: str, by: str) -> None:
        if name == by:
            return
        self.held[name].clear()
        wish = Wish(by, ["double"], 0)
        look_and_adopt(self.db, wish, self.now, lambda each: each != name)

    @rule(name=senders)
    def leave(self, name: str) -> None:
        store.leave(self.db, name)
        self.held[name].clear()

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reopen(self) -> None:
        store.reopen(self.db, ["connection_lost"])

    @rule()
    def retry(self) -> None:
        store.retry(self.db, None)

    @rule(key=keys)
    def drop(self, key: str) -> None:
        status = store.status(self.db, key)
        if status is not None and status.state != "sent":
            assert store.drop(self.db, [key]) == [key]
            self.kept.discard(key)
            self.answered.discard(key)

    @invariant()
    def no_call_is_lost(self) -> None:
        assert {status.key for status in store.listed(self.db)} == self.kept
        assert sum(store.counts(self.db).values()) == len(self.kept)

    @invariant()
    def what_is_sent_is_with_one_sender(self) -> None:
        sent = sorted(status.key for status in store.listed(self.db, ["sent"]))
        assert sent == sorted(key for held in self.held.values() for key in held)

    @invariant()
    def what_was_answered_stays_answered(self) -> None:
        assert {status.key for status in store.listed(self.db, ["done", "failed"])} == self.answered

    @invariant()
    def tries_stay_within_reason(self) -> None:
        assert all(status.tries >= 0 for status in store.listed(self.db))


Steps.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
TestSteps = Steps.TestCase


def test_a_lease_that_runs_out_frees_its_calls_only_where_nothing_else_can_tell(tmp_path: Path) -> None:
    """A sender that is known to live keeps its calls for as long as it likes; one that is known to be dead, no time."""
    for lives, later, freed in [(True, 1e6, False), (False, 0.0, True), (None, 29.0, False), (None, 31.0, True)]:
        db = open_file(tmp_path / f"{lives}{later}.db")
        store.put(db, Draft("a", "double", b"\x04"), 1000.0)
        assert claim(db, "one", 1000.0, None) == ["a"]
        assert claim(db, "two", 1000.0 + later, lives) == (["a"] if freed else [])
        db.close()


def claim(db: sqlite3.Connection, name: str, now: float, lives: bool | None) -> list[str]:
    look_and_adopt(db, Wish(name, ["double"], 0), now, lambda _: lives)
    return [call.key for call in store.look(db, Wish(name, ["double"], 1), now, lambda _: lives).claimed]


def look_and_adopt(db: sqlite3.Connection, wish: Wish, now: float, alive: Alive) -> None:
    found = store.look(db, wish, now, alive)
    store.adopt(db, [(orphan, DIED) for orphan in found.orphans], now)


def test_an_orphan_that_another_has_adopted_is_left_to_it(tmp_path: Path) -> None:
    """Two may find the same orphan; what the first decided holds, though the second decides otherwise."""
    db = open_file(tmp_path / "calls.db")
    store.put(db, Draft("a", "double", b"\x04"), 1000.0)
    assert claim(db, "one", 1000.0, None) == ["a"]
    [orphan] = store.look(db, Wish("two", ["double"], 0), 1000.0, lambda _: False).orphans
    assert store.adopt(db, [(orphan, DIED)], 1000.0) == []
    assert claim(db, "two", 1000.0, True) == ["a"]
    assert store.adopt(db, [(orphan, Outcome("dead"))], 1000.0) == []
    assert store.adopt(db, [(orphan, DIED)], 1000.0) == []
    assert [status.state for status in store.listed(db)] == ["sent"]
    db.close()


def test_a_call_that_was_given_up_is_forgotten_wherever_it_is_on_its_way(tmp_path: Path) -> None:
    """Waiting, claimed by this sender, or put back by it; but not while another has it, and not its result."""
    db = open_file(tmp_path / "calls.db")
    for key in ("waiting", "claimed", "put back", "elsewhere", "done"):
        store.put(db, Draft(key, "double", b"\x04"), 1000.0)
        if key != "waiting":
            rest = [status.key for status in store.listed(db, ["waiting"]) if status.key != key]
            db.executemany("UPDATE calls SET due = 1e9 WHERE key = ?", [(each,) for each in rest])
            assert claim(db, "two" if key == "elsewhere" else "one", 1000.0, True) == [key]
        if key == "put back":
            store.put_back(db, "one", key, 1e9, Again(True, False, None, ""))
        if key == "done":
            store.settle(db, key, Outcome("done"), 1000.0)
    for status in store.listed(db):
        store.withdraw(db, status.key, "one")
    assert [status.key for status in store.listed(db)] == ["elsewhere", "done"]
    db.close()


def test_a_late_answer_counts_if_there_is_no_other(tmp_path: Path) -> None:
    """Of two senders that both were given a call, the first to answer it has answered it."""
    db = open_file(tmp_path / "calls.db")
    store.put(db, Draft("a", "double", b"\x04"), 1000.0)
    assert claim(db, "one", 1000.0, None) == ["a"]
    assert claim(db, "two", 2000.0, None) == ["a"]
    store.settle(db, "a", Outcome("done", b"first"), 2000.0)
    store.settle(db, "a", Outcome("dead", b"second"), 2000.0)
    outcome = store.outcome(db, "a")
    assert outcome is not None
    assert (outcome.state, outcome.body) == ("done", b"first")
    db.close()
