"""Type checkers see what a program may do and what it may not: wrong calls are refused, right ones inferred."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).parent.parent
FOLDER = Path(__file__).parent / "typing"
MARK = re.compile(r"#\s*E: \w")

Places = dict[tuple[str, int], str]


def expected() -> set[tuple[str, int]]:
    """File and line of every mark."""
    return {
        (path.name, number)
        for path in FOLDER.glob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if MARK.search(line)
    }


def run(*command: str) -> str:
    """What a checker prints; it fails by design, so its exit code says nothing."""
    ran = subprocess.run(
        [sys.executable, "-m", *command, str(FOLDER)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ran.stdout, ran.stderr
    return ran.stdout


def mypy() -> Places:
    found = [json.loads(line) for line in run("mypy", "--strict", "--output=json").splitlines()]
    return {(Path(each["file"]).name, each["line"]): each["message"] for each in found if each["severity"] == "error"}


def pyright() -> Places:
    found = json.loads(run("basedpyright", "--outputjson"))["generalDiagnostics"]
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
        for each in found
        if each["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_checker_refuses_exactly_the_marked_lines(checker: Callable[[], Places]) -> None:
    """A wrong call is an error before the program runs, and every `assert_type` holds."""
    marked, found = expected(), checker()
    assert len(marked) > 50
    missed = [f"{file}:{line} is not refused" for file, line in sorted(marked - found.keys())]
    unexpected = [f"{file}:{line} {found[file, line]}" for file, line in sorted(found.keys() - marked)]
    assert "\n".join(missed + unexpected) == ""
