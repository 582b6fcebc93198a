"""Ctrl-C in ordinary code: the call ends at once, its task is stopped, and the program goes on, or goes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.watching import alive, descendants, marks, wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a group of processes has no Ctrl-C there")

WHOM: dict[str, Callable[[int, int], None]] = {"the program": os.kill, "its whole group": os.killpg}
whom = pytest.mark.parametrize("interrupt", WHOM.values(), ids=WHOM)
CALLS = ["run on worker", "run again on worker", "starmap on worker", "stream on worker", "run again on local"]


@contextmanager
def waiting(call: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A program in the middle of a call that takes an hour, and all processes below it."""
    how, place = call.split(" on ")
    path = folder / "marks"
    command = [sys.executable, "-m", "tests.faults.interrupts", how, place, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as program:
        try:
            wait_until(lambda: marks(path).total() == (2 if "again" in how else 1), "the task has begun")
            yield program, [each.pid for each in descendants(program.pid)]
        finally:
            program.kill()


@whom
@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_ends_the_call_and_the_program_goes_on(
    call: str, interrupt: Callable[[int, int], None], tmp_path: Path
) -> None:
    """`KeyboardInterrupt` comes out of the call, its worker is replaced, and in the end nothing is left."""
    with waiting(call, tmp_path) as (program, below):
        interrupt(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=30)
        assert (out, err, program.returncode) == ("interrupted\n3\n", "", 0)
        wait_until(lambda: not alive(below), "no process is left")


@whom
@pytest.mark.parametrize("call", [call.replace(" on", ", uncaught on") for call in CALLS])
def test_ctrl_c_that_nobody_catches_ends_the_program(
    call: str, interrupt: Callable[[int, int], None], tmp_path: Path
) -> None:
    """With the one traceback that every program ends with then, and no process left behind."""
    with waiting(call, tmp_path) as (program, below):
        interrupt(program.pid, signal.SIGINT)
        out, err = program.communicate(timeout=30)
        assert (out, program.returncode) == ("", -signal.SIGINT)
        assert err.count("Traceback") == 1
        assert err.endswith("\nKeyboardInterrupt\n")
        wait_until(lambda: not alive(below), "no process is left")
