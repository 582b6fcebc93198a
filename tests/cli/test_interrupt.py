"""Ctrl-C: the command ends at once, says so in one line, and leaves no process behind."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.cli.command import started
from tests.faults.watching import alive, descendants, wait_until

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.name == "nt", reason="a group of processes has no Ctrl-C there"),
]


def workers(process: subprocess.Popen[str]) -> bool:
    """A worker is there, and has been at work."""
    below = descendants(process.pid)
    return len(below) > 1 and max(each.cpu_times().user for each in below) > 0.2


def itself(process: subprocess.Popen[str]) -> bool:
    """The command's own process has been at work, for longer than its start takes."""
    return psutil.Process(process.pid).cpu_times().user > 1.5


def below(process: subprocess.Popen[str]) -> bool:
    return len(descendants(process.pid)) > 1


AT_WORK: dict[str, Callable[[subprocess.Popen[str]], bool]] = {
    "run shop:spin --strategy worker": workers,
    "run shop:spin --strategy local": itself,
    "map shop:spin LINES --strategy worker": workers,
    "map shop:spin LINES --strategy local": itself,
    "map shop:double -": lambda process: psutil.Process(process.pid).num_threads() > 1,  # reads, and nothing comes
    "demo": itself,  # it begins with `local`
    "doctor": below,
    "bench": below,
}


@pytest.mark.parametrize(("line", "at_work"), AT_WORK.items(), ids=AT_WORK)
def test_ctrl_c_ends_it_and_leaves_nothing_behind(
    line: str, at_work: Callable[[subprocess.Popen[str]], bool], tmp_path: Path
) -> None:
    """As from a terminal, the whole group of processes gets the signal; one line is said, and everybody goes."""
    lines = tmp_path / "in.ndjson"
    lines.write_text("null\n" * 10)
    with started(*line.replace("LINES", str(lines)).split()) as process:
        wait_until(lambda: at_work(process))
        others = [each.pid for each in descendants(process.pid)]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        wait_until(lambda: not alive(others), seconds=2)
        assert process.stderr is not None
        told = process.stderr.read().splitlines()
    assert told[-1] == "hybrid-compute: interrupted"
    assert "Traceback" not in "".join(told)
    assert [each for each in told[:-1] if " answered in " not in each] == []


def test_what_was_answered_before_ctrl_c_is_kept(tmp_path: Path) -> None:
    """The answers so far are in the file, whole, and the next command with --resume goes on after them."""
    output = tmp_path / "out.ndjson"
    with started("map", "shop:double", "-", "--output", output) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("1\n2\n")
        process.stdin.flush()
        wait_until(lambda: output.exists() and output.read_text() == "2\n4\n")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read().startswith("2 lines answered in ")
    assert output.read_text() == "2\n4\n"
