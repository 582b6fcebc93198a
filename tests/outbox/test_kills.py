"""The client and the server are killed again and again while 1,000 calls go from one to the other.

Where and when they die is not by chance: a call runs only while the test lets it, so each death comes right after one
more call ran, with others begun, sent, claimed and being put.
"""

import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hybrid_compute.outbox import store
from hybrid_compute.outbox.file import open_file
from tests.faults.watching import wait_until
from tests.outbox.killing import CALLS
from tests.outbox.plainly import lines

KILLS = 20
"""How often each of the two is killed."""
STEP = 20
"""Calls that run between two deaths."""


class Pair:
    """A client and a server, started again whenever they were killed."""

    def __init__(self, kind: str, folder: Path, stack: ExitStack) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._kind = kind
        self._folder = folder
        self._stack = stack
        self.running = {who: self._start(who) for who in ("server", "client")}

    def _start(self, who: str) -> subprocess.Popen[bytes]:
        name = f"{self._kind} {who}"
        program = ["tests.outbox.plainly"] if name == "plain server" else ["tests.outbox.killing", name]
        command = [sys.executable, "-m", *program, str(self._folder), str(self._port)]
        return self._stack.enter_context(killed_at_the_end(command))

    def kill(self, who: str) -> None:
        """SIGKILL, and a new one."""
        assert self.running[who].poll() is None, f"the {who} has ended by itself"
        self.running[who].kill()
        self.running[who].wait()
        self.running[who] = self._start(who)


@contextmanager
def killed_at_the_end(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.timeout(240)  # a tenth of it, where nobody else wants the machine
@pytest.mark.parametrize("kind", ["plain", "real"])
def test_no_accepted_call_is_lost_and_none_runs_twice(kind: str, tmp_path: Path) -> None:
    """Each call that was accepted comes to its end, and each runs once.

    The plain server runs a call and remembers it in one step, so that every call has a result. The real one cannot know
    how far a call came that it had begun: that call ends as unknown, and has run once at most.
    """
    ran, allowed = tmp_path / "ran", tmp_path / "allowed"
    allowed.write_text("0")
    with ExitStack() as stack:
        pair = Pair(kind, tmp_path, stack)
        for death in range(2 * KILLS):
            leave = (death + 1) * STEP
            grant(allowed, leave)
            wait_until(lambda leave=leave: len(lines(ran)) >= leave, f"{leave} calls ran", 60)  # type: ignore[misc]
            pair.kill(("client", "server")[death % 2])
        grant(allowed, 10**9)
        assert pair.running["client"].wait(60) == 0
    everything_ended_once(kind, tmp_path)


def grant(allowed: Path, leave: int) -> None:
    new = allowed.with_suffix(".new")
    new.write_text(str(leave))
    new.rename(allowed)


def everything_ended_once(kind: str, folder: Path) -> None:
    keys = {str(number) for number in range(CALLS)}
    ran = Counter(lines(folder / "ran"))
    ends = dict(line.split(maxsplit=1) for line in lines(folder / "ended"))
    unknown = {key for key, end in ends.items() if end == "unknown"}
    assert set(lines(folder / "accepted")) == set(ends) == keys
    assert set(ran.values()) == {1}
    assert keys - set(ran) <= unknown
    assert {key: end for key, end in ends.items() if key not in unknown} == {
        key: str(2 * int(key)) for key in keys - unknown
    }
    assert len(unknown) <= (0 if kind == "plain" else KILLS * 8)
    db = open_file(folder / "calls.db", create=False)
    assert {state: count for state, count in store.counts(db).items() if count} == {
        state: count for state, count in (("done", CALLS - len(unknown)), ("dead", len(unknown))) if count
    }
    db.close()
