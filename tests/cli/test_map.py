"""`hybrid-compute map`: a file of inputs in, a file of answers out."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from hybrid_compute.backends.worker import usable_cores
from hybrid_compute.cli import streams
from hybrid_compute.cli.map import Lines, Room, at_once
from hybrid_compute.tasks import Task, task
from tests.cli.command import answers, hybrid_compute, on_a_terminal, started

pytestmark = pytest.mark.timeout(60)


def lines_of(path: Path, *values: object) -> Path:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in values))
    return path


@pytest.mark.parametrize("strategy", ["auto", "worker", "local"])
def test_answers_come_in_the_order_of_the_lines(tmp_path: Path, strategy: str) -> None:
    """Line n of the output answers line n of the input, wherever the calls ran and whichever ended first."""
    file = lines_of(tmp_path / "in.ndjson", *range(5000))
    got = answers("map", "shop:double", file, "--strategy", strategy)
    assert got == [str(2 * each) for each in range(5000)]


def test_a_slow_line_is_overtaken_but_keeps_its_place(tmp_path: Path) -> None:
    """The order of the answers does not depend on how long each takes."""
    file = lines_of(tmp_path / "in.ndjson", 0.3, 0, 0.1, 0)
    assert answers("map", "shop:doze_aside", file) == ["0.3", "0.0", "0.1", "0.0"]


@pytest.mark.parametrize("count", [1, 3])
def test_the_mark_that_some_editors_begin_a_file_with_is_passed_over(tmp_path: Path, count: int) -> None:
    """Also in a file of one line without an end, and for `run`."""
    file = tmp_path / "in.ndjson"
    file.write_bytes(b"\xef\xbb\xbf" + b"\n".join(b"%d" % each for each in range(count)))
    assert answers("map", "shop:double", file) == [str(2 * each) for each in range(count)]
    if count == 1:
        assert answers("run", "shop:double", "--input", f"@{file}") == ["0"]


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    """A file that was edited by hand, or ends without a newline, or comes from Windows, is read as it is meant."""
    file = tmp_path / "in.ndjson"
    file.write_bytes(b"1\n\n2\r\n   \n3")
    assert answers("map", "shop:double", file) == ["2", "4", "6"]


def test_an_empty_file_has_no_answers(tmp_path: Path) -> None:
    """Nothing to do is done at once."""
    assert answers("map", "shop:double", lines_of(tmp_path / "in.ndjson")) == []


def test_tasks_of_several_parameters_take_objects(tmp_path: Path) -> None:
    """A line is what `run --input` takes."""
    file = lines_of(tmp_path / "in.ndjson", {"first": "a"}, {"first": "b", "second": "c"})
    assert answers("map", "shop:join", file) == ['"a!"', '"bc"']


def test_the_items_of_a_generator_are_one_answer(tmp_path: Path) -> None:
    """One line in, one line out, also where a task gives several items."""
    assert answers("map", "shop:count_to", lines_of(tmp_path / "in.ndjson", 3, 0)) == ["[1,2,3]", "[]"]


def test_a_line_from_a_pipe_is_answered_before_the_next_one_comes() -> None:
    """Two programs can talk: nothing waits for a buffer to fill."""
    with started("map", "shop:double", "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for each in (1, 2, 3):
            process.stdin.write(f"{each}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{2 * each}\n"
        process.stdin.close()
        assert process.wait() == 0


def test_the_first_line_that_fails_ends_it(tmp_path: Path) -> None:
    """The answers before it are there, none after it, and the message says which line it was."""
    file = lines_of(tmp_path / "in.ndjson", 2, 4, 7, 8, 9)
    ran = hybrid_compute("map", "shop:refuse_odd", file)
    assert ran.returncode == 1
    assert ran.stdout == "2\n4\n"
    summary, told = ran.stderr.splitlines()
    assert summary.startswith("2 lines answered in ")
    assert told.startswith(f"hybrid-compute: line 3 of {file}: task 'refuse_odd' raised ValueError: 7 is odd")


def test_a_line_that_does_not_fit_ends_it_with_the_code_for_input(tmp_path: Path) -> None:
    """The exit code says what was wrong with the line, as `run` would have."""
    ran = hybrid_compute("map", "shop:double", lines_of(tmp_path / "in.ndjson", 1, "x"))
    assert (ran.returncode, ran.stdout) == (3, "2\n")


def test_keep_going_answers_a_failing_line_with_its_error(tmp_path: Path) -> None:
    """One bad line in a million does not cost the others; the exit code and a line tell that there was one."""
    file = lines_of(tmp_path / "in.ndjson", 2, 7, "x", 8)
    ran = hybrid_compute("map", "shop:refuse_odd", file, "--keep-going")
    first, raised, invalid, last = map(json.loads, ran.stdout.splitlines())
    assert (first, last) == (2, 8)
    assert raised == {
        "error": {"code": "task_failed", "message": "task 'refuse_odd' raised ValueError: 7 is odd", "line": 2}
    }
    assert (invalid["error"]["code"], invalid["error"]["line"]) == ("invalid_input", 3)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == "hybrid-compute: 2 lines failed: the answers say why"


def test_keep_going_outlives_workers_that_die(tmp_path: Path) -> None:
    """A line that takes its process down with it is answered with that, and its neighbours are answered as ever."""
    file = lines_of(tmp_path / "in.ndjson", 0, 1, 2, 3, 4)
    ran = hybrid_compute("map", "shop:die", file, "--keep-going", "--strategy", "worker")
    got = [json.loads(each) for each in ran.stdout.splitlines()]
    assert [each if isinstance(each, int) else each["error"]["code"] for each in got] == [
        0,
        "worker_lost",
        2,
        "worker_lost",
        4,
    ]


def test_keep_going_stops_where_no_line_could_be_answered(tmp_path: Path) -> None:
    """What is wrong with every line is said once, not a million times."""
    ran = hybrid_compute("map", "shop:draw", lines_of(tmp_path / "in.ndjson", None, None), "--keep-going")
    assert (ran.returncode, ran.stdout) == (4, "")


def test_a_timeout_is_for_each_line_not_for_its_place_in_line(tmp_path: Path) -> None:
    """Lines that wait for a free core are not charged for those before them."""
    count = 10 * usable_cores()
    file = lines_of(tmp_path / "in.ndjson", *[0.3] * count)
    got = answers("map", "shop:doze", file, "--strategy", "worker", "--timeout", "2.5")
    assert got == ["0.3"] * count  # three seconds in all


def test_a_line_that_takes_too_long_is_a_timeout(tmp_path: Path) -> None:
    """The exit code says so."""
    ran = hybrid_compute("map", "shop:spin", lines_of(tmp_path / "in.ndjson", None), "--timeout", "0.2")
    assert ran.returncode == 5


@task(timeout=1.0)
def hurried(x: int) -> int:
    return x


@task(timeout=1.0)
async def patient(x: int) -> int:
    return x


@pytest.mark.parametrize(
    ("function", "how", "limit"),
    [
        (Task(abs), Lines(), None),
        (Task(abs), Lines(timeout=1.0), usable_cores()),
        (hurried, Lines(), usable_cores()),
        (patient, Lines(), None),
        (patient, Lines(timeout=1.0), None),
        (hurried, Lines(limit=7), 7),
        (Task(abs), Lines(limit=1), 1),
    ],
)
def test_lines_wait_for_a_core_only_where_time_is_limited(function: Task, how: Lines, limit: int | None) -> None:
    """As many lines as there is room for go ahead, unless a clock would run for them, or somebody set a limit."""
    assert at_once(function, how) == limit


def test_the_summary_says_how_many_lines_in_what_time(tmp_path: Path) -> None:
    """A log of the command tells what it did; no bar is drawn where nobody watches."""
    ran = hybrid_compute("map", "shop:double", lines_of(tmp_path / "in.ndjson", 1, 2, 3))
    [told] = ran.stderr.splitlines()
    assert told.startswith("3 lines answered in ")


def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    """Somebody who waits sees how much is left."""
    code, seen = on_a_terminal("map", "shop:doze", lines_of(tmp_path / "in.ndjson", *[0.2] * 4), "--limit", "1")
    assert code == 0
    assert "━" in seen
    assert "4 lines answered" in seen


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1000])
async def test_lines_are_the_same_however_they_are_cut(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a read happens to end changes no line, no line number and no count of bytes."""
    monkeypatch.setattr(streams, "CHUNK", chunk)
    text = b"1\n\n22\n\r\n333\n4444"
    with (tmp_path / "in").open("wb+", buffering=0) as file:
        file.write(text)
        file.seek(0)
        got = [line async for line in streams.read_lines(file.fileno())]
    assert [(line.number, line.text, line.end) for line in got] == [
        (1, b"1", 2),
        (3, b"22", 6),
        (5, b"333", 12),
        (6, b"4444", len(text)),
    ]


async def test_an_input_that_cannot_be_read_is_an_error() -> None:
    """An error of the thread that reads reaches whoever asked for lines."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            [line async for line in streams.read_lines(reading)]
    finally:
        os.close(writing)


async def waits(room: Room, line: bytes) -> bool:
    """Whether there is no room for the line; if so, it is not taken in."""
    taking = asyncio.ensure_future(room.take(line))
    await asyncio.sleep(0)
    return not taking.done() and taking.cancel()


async def test_a_line_too_long_for_the_room_goes_alone() -> None:
    """However large a line is, it is answered, and no other is held in memory beside it."""
    room = Room(lines=4, size=100)
    await room.take(b"x" * 1000)
    assert await waits(room, b"1")
    room.store(b"")
    room.give(b"x" * 1000, b"")
    assert not await waits(room, b"1")


async def test_many_short_lines_are_bounded_by_their_number() -> None:
    """A million lines of one byte are not a million calls at once."""
    room = Room(lines=4, size=100)
    for _ in range(4):
        await room.take(b"1")
    assert await waits(room, b"1")
    room.store(b"2")
    room.give(b"1", b"2")
    assert not await waits(room, b"1")


async def test_answers_that_wait_for_their_turn_take_room_too() -> None:
    """Large answers do not pile up in memory behind one slow line."""
    room = Room(lines=100, size=100)
    await room.take(b"slow")
    await room.take(b"quick")
    room.store(b"large" * 20)
    assert await waits(room, b"next")
    room.give(b"quick", b"large" * 20)
    assert not await waits(room, b"next")
