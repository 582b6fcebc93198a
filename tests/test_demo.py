"""The main job on real input: what is counted, and that every place counts the same."""

import ast
import asyncio
import gc
import os
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_compute.demo import (
    HARDEST,
    STRATEGIES,
    Function,
    Report,
    Totals,
    difference,
    hardest,
    read_once,
    sources,
    standard_library,
    survey,
    survey_all,
)

COMPLEXITY = {
    "nothing to decide": ("return x", 1),
    "if": ("if x: pass", 2),
    "if, else": ("if x: pass\nelse: pass", 2),
    "if, elif, else": ("if x: pass\nelif y: pass\nelse: pass", 3),
    "a conditional expression": ("return 1 if x else 2", 2),
    "and": ("return x and y and z", 3),
    "a condition of three parts": ("if x and (y or z): pass", 4),
    "not": ("return not x", 1),
    "for": ("for x in y: pass", 2),
    "for, else": ("for x in y: pass\nelse: pass", 2),
    "while": ("while x: pass", 2),
    "async for": ("async for x in y: pass", 2),
    "with": ("with x: pass", 1),
    "try, two excepts, else, finally": (
        "try: pass\nexcept A: pass\nexcept B: pass\nelse: pass\nfinally: pass",
        3,
    ),
    "except*": ("try: pass\nexcept* A: pass", 2),
    "a comprehension": ("return [x for x in y]", 2),
    "a comprehension with conditions": ("return {x for x in y if x if not y for z in x}", 5),
    "match": ("match x:\n  case 1: pass\n  case [2, _]: pass\n  case _: pass", 3),
    "match with a guard": ("match x:\n  case 1 if y: pass\n  case z if z > 1: pass", 4),
    "match by a name": ("match x:\n  case anything: pass", 1),
    "match of either": ("match x:\n  case 1 | 2: pass", 2),
    "an assertion": ("assert x", 1),
    "in a lambda": ("return lambda: 1 if x else 2", 2),
    "in a class inside": ("class C:\n  if x: pass", 2),
}


@pytest.mark.parametrize(("body", "complexity"), COMPLEXITY.values(), ids=COMPLEXITY)
def test_complexity_is_one_more_than_the_decision_points(body: str, complexity: int, tmp_path: Path) -> None:
    """McCabe's number: of the ways through a function, how many are independent."""
    file = tmp_path / "f.py"
    file.write_text("async def f(x, y, z):\n" + textwrap.indent(body, "  "))
    report = survey(str(file))
    assert report.hardest == (Function(complexity, "f", str(file), 1),)
    assert report.branches == complexity - 1


def test_a_function_inside_another_counts_for_itself(tmp_path: Path) -> None:
    """Each function is as complex as what stands in it, without what it defines; methods go by their class."""
    file = tmp_path / "nested.py"
    file.write_text(
        textwrap.dedent("""\
            if True:
                class Outer:
                    def method(self, x):
                        def inner(y):
                            return y and y or y
                        if x:
                            return inner
            """)
    )
    report = survey(str(file))
    assert [(each.name, each.complexity) for each in report.hardest] == [
        ("Outer.method.inner", 3),
        ("Outer.method", 2),
    ]
    assert (report.functions, report.classes, report.complexity) == (2, 1, 5)
    assert report.branches == 4  # and the one outside of all functions


def test_imports_are_the_top_level_modules_from_outside(tmp_path: Path) -> None:
    """What a file asks of others, wherever in it the import stands; its own package is no other."""
    file = tmp_path / "imports.py"
    file.write_text(
        "import os.path, sys as s\nfrom a.b import c\nfrom . import d\nfrom .e import f\ndef g(): import h\n"
    )
    assert survey(str(file)).imports == ("a", "h", "os", "sys")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"def f(:\n", "SyntaxError"),
        (b"x = '\0'\n", "null bytes"),
        (b"# coding: klingon\n", "unknown encoding"),
        (b"x = '\xff'\n", "codec can't decode"),
        (b"(" * 1000 + b")" * 1000, "too many nested parentheses"),
        (b"-" * 100_000 + b"1", "Error"),
    ],
)
def test_a_file_that_does_not_parse_is_reported_as_such(content: bytes, fault: str, tmp_path: Path) -> None:
    """Test data that is broken on purpose is counted, and stops nothing."""
    file = tmp_path / "broken.py"
    file.write_bytes(content)
    report = survey(str(file))
    assert fault in report.fault
    assert report == Report(str(file), fault=report.fault)


def test_a_file_that_cannot_be_read_is_reported_as_such(tmp_path: Path) -> None:
    """A file that vanishes between the listing and the reading stops nothing."""
    assert survey(str(tmp_path / "gone.py")).fault.startswith("FileNotFoundError: ")
    assert read_once([str(tmp_path / "gone.py")]) == 0


def test_a_file_that_warns_is_surveyed_in_silence(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Warnings about other people's sources are not ours to give."""
    file = tmp_path / "escapes.py"
    file.write_text("x = '\\d'\n")
    assert survey(str(file)).fault == ""
    assert not recwarn.list


def test_code_nested_deeper_than_the_stack_is_counted(tmp_path: Path) -> None:
    """Generated code does not end in a RecursionError of ours."""
    file = tmp_path / "deep.py"
    file.write_text("def f(x):\n    return x" + ".a" * 3000 + "\n")
    report = survey(str(file))
    assert report.functions == 1 or report.fault  # some parsers refuse it, and then that is what is reported


def test_garbage_that_parses_when_it_is_collected_disturbs_no_survey() -> None:
    """What fails nearby may be logged while a file is parsed, and a traceback is formatted with a parser's help."""

    class Noisy:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            ast.parse("x = 1")

    assert gc.isenabled()
    for _ in range(20):
        for _ in range(5):
            Noisy()
        assert survey(ast.__file__).fault == ""
    assert gc.isenabled()


def test_sources_are_listed_in_order_without_what_was_installed(tmp_path: Path) -> None:
    """The list is the same on every run, and leaves out the packages that an environment brings."""
    for name in ("b.py", "a/z.py", "a/readme.txt", "site-packages/x.py", "a/dist-packages/y.py", "a.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "dangling.py").symlink_to("nowhere")
    assert sources(tmp_path) == [str(tmp_path / name) for name in ("a.py", "a/z.py", "b.py")]


def test_the_standard_library_is_there_to_be_surveyed() -> None:
    """The demo's default input exists on every machine."""
    assert len(sources(standard_library())) > 500


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_every_strategy_finds_the_same(strategy: str) -> None:
    """Where a file is surveyed makes no difference to what is found."""
    folder = Path(ast.__file__).parent / "json"
    paths = sources(folder)
    ticks: list[None] = []
    outcome = await survey_all(paths, strategy, lambda: ticks.append(None))
    assert outcome.totals == Totals.of([survey(path) for path in paths])
    assert len(ticks) == len(paths) == sum(tally.calls for tally in outcome.places.values())
    assert (outcome.moved > 0) == ("worker" in outcome.places)


def test_totals_do_not_depend_on_the_order_of_the_reports() -> None:
    """Files finish in another order each time, and that is nobody's concern."""
    reports = [survey(path) for path in sources(Path(ast.__file__).parent / "email")]
    assert len(reports) > 10
    assert Totals.of(reports) == Totals.of(reports[::-1])


def test_a_difference_between_runs_is_named() -> None:
    """If two places ever disagree, the demo says on what."""
    paths = [os.__file__]
    one = asyncio.run(survey_all(paths, "local", lambda: None))
    other = replace(one, strategy="worker", totals=replace(one.totals, lines=7))
    assert difference([one, one]) == ""
    assert difference([one, one, other]) == f"local and worker disagree on lines: {one.totals.lines} and 7"


def test_only_the_hardest_functions_are_named() -> None:
    """A report stays small however many functions a file has; equals stand in the order of the file."""
    many = [Function(each % 7, f"f{each}", "p.py", each) for each in range(100)]
    named = hardest(many)
    assert len(named) == HARDEST
    assert [each.line for each in named] == [6, 13, 20, 27, 34, 41, 48, 55, 62, 69]
