"""`hybrid-compute map --resume`: what a crash has left undone is done, and nothing twice."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.command import hybrid_compute, started
from tests.faults.watching import alive, descendants, wait_until

pytestmark = pytest.mark.timeout(120)

COUNT = 60_000


def whole_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "in.ndjson"
    file.write_text("".join(f"{each}\n" for each in range(COUNT)))
    return file


EXPECTED = "".join(f"{2 * each}\n" for each in range(COUNT))


def test_a_command_killed_again_and_again_ends_with_every_answer_once(source: Path, tmp_path: Path) -> None:
    """SIGKILL at any moment costs no answer and repeats none; workers go with the command."""
    output = tmp_path / "out.ndjson"
    arguments = ("map", "shop:double", source, "--output", output, "--resume", "--strategy", "worker")
    for _ in range(4):
        before = whole_lines(output)
        with started(*arguments) as process:
            wait_until(lambda before=before: whole_lines(output) > before + 200)
            workers = [each.pid for each in descendants(process.pid)]
            process.kill()
            process.wait()
            wait_until(lambda workers=workers: not alive(workers))
        assert whole_lines(output) < COUNT, "it was too quick to be killed: make COUNT larger"
    ran = hybrid_compute(*arguments)
    assert ran.returncode == 0, ran.stderr
    assert output.read_text() == EXPECTED


def test_a_torn_last_line_is_cut_off_and_answered_anew(source: Path, tmp_path: Path) -> None:
    """Half an answer is none."""
    output = tmp_path / "out.ndjson"
    torn = EXPECTED[: EXPECTED.index("\n2468\n") + 3]
    output.write_text(torn)
    ran = hybrid_compute("map", "shop:double", source, "--output", output, "--resume")
    assert ran.returncode == 0
    assert output.read_text() == EXPECTED
    assert "after 1,234 answered before" in ran.stderr


def test_what_is_complete_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    """To resume once more than needed is harmless."""
    output = tmp_path / "out.ndjson"
    output.write_text(EXPECTED)
    ran = hybrid_compute("map", "shop:double", source, "--output", output, "--resume")
    assert (ran.returncode, output.read_text()) == (0, EXPECTED)


def test_blank_lines_do_not_shift_what_is_left(tmp_path: Path) -> None:
    """Only lines that have an answer count as answered."""
    source, output = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    source.write_text("1\n\n\n2\n\n3\n")
    output.write_text("2\n4\n")
    hybrid_compute("map", "shop:double", source, "--output", output, "--resume")
    assert output.read_text() == "2\n4\n6\n"


def test_after_a_failing_line_was_mended_it_goes_on_there(tmp_path: Path) -> None:
    """The way out of a bad line: mend it, and say --resume."""
    source, output = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    source.write_text("2\n3\n4\n")
    arguments = ("map", "shop:refuse_odd", source, "--output", output, "--resume")
    assert hybrid_compute(*arguments).returncode == 1
    assert output.read_text() == "2\n"
    source.write_text("2\n30\n4\n")
    assert hybrid_compute(*arguments).returncode == 0
    assert output.read_text() == "2\n30\n4\n"


def test_a_line_answered_with_an_error_counts_as_answered(tmp_path: Path) -> None:
    """With --keep-going a failing line is not tried again."""
    source, output = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    source.write_text("3\n4\n")
    arguments = ("map", "shop:refuse_odd", source, "--output", output, "--resume", "--keep-going")
    assert hybrid_compute(*arguments).returncode == 1
    before = output.read_text()
    assert hybrid_compute(*arguments).returncode == 0
    assert output.read_text() == before
    assert json.loads(before.splitlines()[0])["error"]["line"] == 1


def test_a_file_with_answers_is_never_overwritten(tmp_path: Path) -> None:
    """Without --resume the work of last night is safe."""
    source, output = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    source.write_text("1\n")
    output.write_text("7\n")
    ran = hybrid_compute("map", "shop:double", source, "--output", output)
    assert ran.returncode == 2
    assert "holds 1 answer already: add --resume to go on with it, or remove it" in ran.stderr
    assert output.read_text() == "7\n"


def test_more_answers_than_lines_are_refused(tmp_path: Path) -> None:
    """An output that belongs to another input is noticed, and left alone."""
    source, output = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    source.write_text("1\n2\n")
    output.write_text("2\n4\n6\n")
    ran = hybrid_compute("map", "shop:double", source, "--output", output, "--resume")
    assert ran.returncode == 2
    assert "they do not belong together" in ran.stderr
    assert output.read_text() == "2\n4\n6\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_two_commands_never_write_to_one_file(tmp_path: Path) -> None:
    """Whoever resumes while the first one still runs is told so."""
    output = tmp_path / "out.ndjson"
    with started("map", "shop:double", "-", "--output", output) as process:
        assert process.stdin is not None
        process.stdin.write("1\n")
        process.stdin.flush()
        wait_until(lambda: whole_lines(output) == 1)
        ran = hybrid_compute("map", "shop:double", "-", "--output", output, "--resume", given="1\n2\n")
        assert ran.returncode == 2
        assert f"another process is writing to {output}" in ran.stderr
        process.stdin.close()
        assert process.wait() == 0
    assert output.read_text() == "2\n"
