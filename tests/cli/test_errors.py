"""What a person and a script learn when something fails: one line, and an exit code that says whose fault it was."""

import os
import shlex
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest

from hybrid_compute.cli.exits import MEANING, Exit
from tests.cli.command import COMMAND, HERE, hybrid_compute

pytestmark = pytest.mark.timeout(60)

FAILURES = {
    "the task raises": ("run shop:refuse_odd --input 3", 1, "task 'refuse_odd' raised ValueError: 3 is odd"),
    "the result cannot be JSON": ("run shop:no_json", 1, "['deep'][0]"),
    "no command": ("fly", 2, "No such command 'fly'"),
    "no such option": ("run shop:double --fast", 2, "--fast"),
    "no colon": ("run shop", 2, "a task is named as MODULE:TASK, not 'shop'"),
    "no module": ("run nowhere:double", 2, "No module named 'nowhere'"),
    "no file": ("run nowhere.py:double", 2, "there is no file nowhere.py"),
    "no task": ("run shop:treble", 2, "there is no task 'treble' in shop; its tasks: count_to, die, double"),
    "not a function": ("run shop:ANSWER", 2, "shop:ANSWER is neither a task nor a function, but of type int"),
    "no strategy": ("run shop:double --input 1 --strategy moon", 2, "no strategy or backend named 'moon'"),
    "a timeout of nothing": ("run shop:double --input 1 --timeout 0", 2, "--timeout"),
    "one file for both": ("map shop:double shop.py --output shop.py", 2, "shop.py is the input as well"),
    "no plain file": ("map shop:double shop.py --output /dev/full", 2, "/dev/full is not a plain file"),
    "resume without a file": ("map shop:double - --resume", 2, "--resume needs --output"),
    "no module to list": ("tasks nowhere", 2, "cannot import nowhere: ModuleNotFoundError"),
    "a folder without sources": ("demo empty", 2, "there is no *.py file below empty"),
    "the wrong type": ("run shop:double --input '\"x\"'", 3, "Expected `int`, got `str`"),
    "no JSON": ("run shop:double --input hello", 3, "the input of task 'double' is not valid"),
    "no input": ("run shop:double", 3, "the input of task 'double' is not valid"),
    "an unknown argument": ('run shop:join --input \'{"first": "a", "third": "b"}\'', 3, "third"),
    "no place provides it": ("run shop:draw", 4, "no backend can run 'draw': worker (it does not provide gpu)"),
    "the worker dies": ("run shop:die --input 1", 4, "was killed by SIGABRT while it had task 'die'"),
    "too slow in a worker": ("run shop:spin --timeout 0.2 --strategy worker", 5, "0.2 s"),
    "too slow in a thread": ("run shop:spin --timeout 0.2 --strategy local", 5, "0.2 s"),
    "no such input file": ("run shop:double --input @nowhere.json", 74, "nowhere.json: No such file or directory"),
    "no such file of lines": ("map shop:double nowhere.ndjson", 74, "nowhere.ndjson: No such file or directory"),
}


@pytest.mark.parametrize(("line", "code", "words"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_one_readable_line_and_an_exit_code(line: str, code: int, words: str, tmp_path: Path) -> None:
    """Nobody has to read a traceback to learn what to do, and a script can tell the cases apart."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "shop.py").symlink_to(HERE / "shop.py")
    ran = hybrid_compute(*shlex.split(line), cwd=tmp_path)
    assert ran.returncode == code, ran.stderr
    assert ran.stdout == ""
    [told] = ran.stderr.splitlines()
    assert told.startswith("hybrid-compute: ")
    assert words in told


def test_traceback_shows_the_line_of_the_task_that_raised() -> None:
    """The author of a task sees where it failed, and none of our own frames."""
    ran = hybrid_compute("run", "shop:refuse_odd", "--input", "3", "--strategy", "worker", "--traceback")
    assert ran.returncode == 1
    assert 'raise ValueError(f"{x} is odd")' in ran.stderr
    assert "src/hybrid_compute" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("hybrid-compute: task 'refuse_odd' raised")


def test_a_module_that_fails_to_import_is_named_with_its_reason(tmp_path: Path) -> None:
    """A typo in the user's module reads as one, not as an error of ours."""
    (tmp_path / "broken.py").write_text("def f(:\n")
    ran = hybrid_compute("run", "broken:f", cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.startswith("hybrid-compute: cannot import broken: SyntaxError: ")


def test_a_file_named_like_a_module_in_use_is_not_taken_for_it(tmp_path: Path) -> None:
    """A user's `os.py` given by its path never runs the standard library's function of the same name."""
    (tmp_path / "os.py").write_text("def getpgid(pid: int) -> int:\n    return pid\n")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    ran = hybrid_compute("run", f"{tmp_path / 'os.py'}:getpgid", "--input", "1", cwd=folder)
    assert ran.returncode == 2
    assert "another module is named 'os'" in ran.stderr


def test_two_tasks_of_one_name_are_an_error_that_names_both(tmp_path: Path) -> None:
    """A module whose names clash is refused before anything of it runs."""
    source = "from hybrid_compute import task\n@task(name='x')\ndef a(): ...\n@task(name='x')\ndef b(): ...\n"
    (tmp_path / "twins.py").write_text(source)
    ran = hybrid_compute("tasks", "twins", cwd=tmp_path)
    assert ran.returncode == 2
    assert "twins.py:2" in ran.stderr
    assert "twins.py:4" in ran.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk here that is always full")
def test_a_full_disk_is_told() -> None:
    """An answer that could not be written never passes for one that was."""
    line = [*COMMAND, "run", "shop:double", "--input", "1"]
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, cwd=HERE, check=False)
    assert (ran.returncode, ran.stderr) == (74, "hybrid-compute: reading or writing failed: No space left on device\n")


def test_help_lists_every_exit_code() -> None:
    """What a script may rely on stands where it is looked for."""
    ran = hybrid_compute("--help")
    assert ran.returncode == 0
    assert MEANING.keys() == set(Exit)
    for code, meaning in MEANING.items():
        assert f"{code.value}  {meaning}" in ran.stdout


def test_nothing_typed_is_answered_with_help() -> None:
    """Whoever tries the bare command learns what there is."""
    assert hybrid_compute().stdout == hybrid_compute("--help").stdout


def test_the_version_is_told() -> None:
    """A bug report can say which version it was."""
    assert hybrid_compute("--version").stdout == f"hybrid-compute {version('hybrid-compute')}\n"


@pytest.mark.skipif(os.name == "nt", reason="the command has another name there")
@pytest.mark.parametrize("line", [["--version"], ["tasks", "shop"], ["fly"]], ids=" ".join)
def test_the_installed_command_and_the_module_are_the_same(line: list[str]) -> None:
    """`python -m hybrid_compute` is for where the command is not on the path."""
    installed = [sysconfig.get_path("scripts") + "/hybrid-compute", *line]
    ran = subprocess.run(installed, capture_output=True, text=True, cwd=HERE, check=False)
    module = hybrid_compute(*line)
    assert (module.returncode, module.stdout, module.stderr) == (ran.returncode, ran.stdout, ran.stderr)


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(missing: str) -> None:
    """The command is installed with the library, its own libraries are not."""
    script = (
        f"import sys; sys.modules[{missing!r}] = None; from hybrid_compute.cli import main; sys.exit(main(['demo']))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    [told] = ran.stderr.splitlines()
    assert told == f"hybrid-compute: the command line needs {missing}: install hybrid-compute[cli]"
