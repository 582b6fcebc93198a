"""The command as its users start it: a process of its own."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
"""The folder of `shop.py`, whose tasks the tests name as a user would."""
COMMAND = [sys.executable, "-m", "hybrid_compute"]


def hybrid_compute(
    *arguments: object, given: str = "", cwd: Path = HERE, timeout: float = 55
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    typed = [*COMMAND, *map(str, arguments)]
    return subprocess.run(typed, input=given, capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False)


def answers(*arguments: object, given: str = "") -> list[str]:
    """The lines of output of a command that has to succeed."""
    ran = hybrid_compute(*arguments, given=given)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start the command, as the leader of a group of its own, as a shell does."""
    typed = [*COMMAND, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        typed, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=HERE, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def on_a_terminal(*arguments: object) -> tuple[int, str]:
    """The exit code, and all that a person at a terminal would have seen."""
    ours, theirs = pty.openpty()
    typed = [*COMMAND, *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(typed, stdin=theirs, stdout=theirs, stderr=theirs, cwd=HERE, env=environment)
    os.close(theirs)
    seen = b""
    with process:
        try:
            while data := os.read(ours, 1 << 16):
                seen += data
        except OSError:  # how Linux says that the last writer has closed a terminal
            pass
    os.close(ours)
    return process.returncode, seen.decode()
