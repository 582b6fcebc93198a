"""`hybrid-compute run`: one call from the shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import HERE, answers, hybrid_compute, on_a_terminal, started

pytestmark = pytest.mark.timeout(60)


def test_the_result_goes_to_standard_output_as_json() -> None:
    """What comes out can be piped into the next program."""
    assert answers("run", "shop:double", "--input", "21") == ["42"]


def test_a_task_of_several_parameters_takes_an_object() -> None:
    """Parameters are named, and those with a default may be left out."""
    assert answers("run", "shop:join", "--input", '{"first": "a", "second": "b"}') == ['"ab"']
    assert answers("run", "shop:join", "--input", '{"first": "a"}') == ['"a!"']


def test_a_task_without_parameters_needs_no_input() -> None:
    """Nothing to say is nothing to type."""
    [pid] = answers("run", "shop:where")
    assert int(pid) != os.getpid()


def test_input_comes_from_a_file_or_from_standard_input(tmp_path: Path) -> None:
    """Input that is too long to type, or made by another program, finds its way in."""
    file = tmp_path / "input.json"
    file.write_text("4\n")
    assert answers("run", "shop:double", "--input", f"@{file}") == ["8"]
    assert answers("run", "shop:double", "--input", "-", given="5") == ["10"]


def test_a_task_is_found_by_its_name_on_the_wire_too() -> None:
    """Whoever knows a task from a log or a client can run it by that name."""
    assert answers("run", "shop:text.join", "--input", '{"first": "a"}') == ['"a!"']


def test_a_module_can_be_the_path_of_a_file(tmp_path: Path) -> None:
    """A script need not be installed, nor lie in the working directory, for workers to import it."""
    file = tmp_path / "elsewhere.py"
    file.write_text("def triple(x: int) -> int:\n    return 3 * x\n")
    for strategy in ("local", "worker"):
        assert answers("run", f"{file}:triple", "--input", "5", "--strategy", strategy) == ["15"]


def test_any_function_will_do() -> None:
    """A function that nobody marked, or one of the standard library, runs as well."""
    assert answers("run", "shop:without_mark", "--input", "5") == ["-5"]
    assert answers("run", "math:factorial", "--input", "10", "--strategy", "worker") == ["3628800"]


@pytest.mark.parametrize(("strategy", "here"), [("local", True), ("worker", False)])
def test_the_strategy_says_where(strategy: str, here: bool) -> None:
    """The task runs in the command's own process only if that is asked for."""
    with started("run", "shop:where", "--strategy", strategy) as process:
        output, _ = process.communicate()
        assert (int(output) == process.pid) is here


def test_a_generator_writes_each_item_as_it_comes(tmp_path: Path) -> None:
    """The first item can be read while the task still works on the second."""
    gate = tmp_path / "gate"
    with started("run", "shop:one_then_wait_for", "--input", json.dumps(str(gate))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert process.poll() is None
        gate.touch()
        assert process.stdout.readline() == "2\n"
        assert process.wait() == 0


@pytest.mark.parametrize("strategy", ["local", "worker"])
def test_what_a_task_prints_stays_out_of_the_output(strategy: str) -> None:
    """Standard output holds answers and nothing else, wherever the task runs."""
    ran = hybrid_compute("run", "shop:print_and_return", "--input", '"x"', "--strategy", strategy)
    assert ran.stdout == '"x"\n'
    assert ran.stderr == "printed: x\n"


@pytest.mark.parametrize("command", ["run talks:same --input 1", "map talks:same in.ndjson"])
def test_what_a_module_prints_stays_out_of_the_output(command: str, tmp_path: Path) -> None:
    """A module that greets whoever imports it does not spoil the answers."""
    (tmp_path / "talks.py").write_text("print('hello')\ndef same(x: int) -> int:\n    return x\n")
    (tmp_path / "in.ndjson").write_text("1\n")
    ran = hybrid_compute(*command.split(), cwd=tmp_path)
    assert ran.stdout == "1\n"
    assert "hello\n" in ran.stderr


def test_a_terminal_shows_the_progress_that_a_task_reports() -> None:
    """Somebody who waits for a long call sees how far it is."""
    code, seen = on_a_terminal("run", "shop:report_and_return", "--input", "4")
    assert code == 0
    assert "stirring [/b]" in seen
    assert "━" in seen


def test_a_reader_who_leaves_ends_it_quietly() -> None:
    """`| head` is no error, and leaves no message."""
    with started("run", "shop:count_to", "--input", "10000000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "1\n"
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == ""


def test_the_installed_command_is_this_one() -> None:
    """`hybrid-compute` itself stands where the environment keeps its programs."""
    program = Path(sys.executable).with_name("hybrid-compute")
    typed = [program, "run", "shop:double", "--input", "4"]
    assert subprocess.check_output(typed, text=True, cwd=HERE) == "8\n"
