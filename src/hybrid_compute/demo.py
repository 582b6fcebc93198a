"""The main job on real input: survey a tree of Python sources, wherever each file is best surveyed.

    sources(folder) --paths--> survey, once per file, at any place --Report--> Totals

`survey` is an ordinary pure task; `survey_all` runs it on many files by one strategy and keeps the account. Complexity
is cyclomatic: T. J. McCabe, "A Complexity Measure", IEEE Transactions on Software Engineering SE-2(4), 1976. For
structured code it is 1 + the number of decision points, where a condition of several parts counts each of them.
"""

from __future__ import annotations

import ast
import gc
import os
import sysconfig
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from time import perf_counter

from hybrid_compute.routing import Explanation
from hybrid_compute.runtime import Runtime
from hybrid_compute.tasks import task
from hybrid_compute.timings import Tally

STRATEGIES = ("local", "worker", "auto")
HARDEST = 10
"""Functions that a report, and the summary, names."""
OTHERS = frozenset({"site-packages", "dist-packages"})
"""Folders of what was installed into a tree of sources, and is no part of it."""


@dataclass(frozen=True, slots=True)
class Function:
    """One function and its cyclomatic complexity."""

    complexity: int
    name: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Report:
    """What one file holds. `fault` says why it could not be parsed, and is empty when it was."""

    path: str
    size: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    branches: int = 0
    complexity: int = 0
    imports: tuple[str, ...] = ()
    hardest: tuple[Function, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """What all files hold together. Equal reports make equal totals, in whatever order they come."""

    files: int
    unparsed: int
    size: int
    lines: int
    functions: int
    classes: int
    branches: int
    complexity: int
    imports: Mapping[str, int]
    hardest: tuple[Function, ...]

    @classmethod
    def of(cls, reports: Sequence[Report]) -> Totals:
        imported = Counter(name for each in reports for name in each.imports)
        return cls(
            files=len(reports),
            unparsed=sum(bool(each.fault) for each in reports),
            size=sum(each.size for each in reports),
            lines=sum(each.lines for each in reports),
            functions=sum(each.functions for each in reports),
            classes=sum(each.classes for each in reports),
            branches=sum(each.branches for each in reports),
            complexity=sum(each.complexity for each in reports),
            imports=dict(sorted(imported.items(), key=lambda item: (-item[1], item[0]))),
            hardest=hardest(function for each in reports for function in each.hardest),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run over all files: what was found, how long it took, and what it used of each place."""

    strategy: str
    totals: Totals
    seconds: float
    places: Mapping[str, Tally]
    explanation: Explanation

    @property
    def moved(self) -> int:
        return sum(tally.sent + tally.received for tally in self.places.values())


def standard_library() -> Path:
    """The sources that every interpreter brings with it."""
    return Path(sysconfig.get_path("stdlib"))


def sources(folder: Path) -> list[str]:
    """The Python files below a folder, in a fixed order, without what was installed into it."""
    return sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in OTHERS]
        yield from (
            path for name in files if name.endswith(".py") and os.path.isfile(path := os.path.join(parent, name))
        )


def read_once(paths: Iterable[str]) -> int:
    """The bytes of all files, read once so that no strategy has to wait for the disk on behalf of the next."""
    return sum(map(_size, paths))


def _size(path: str) -> int:
    try:
        return len(Path(path).read_bytes())
    except OSError:  # `survey` reports it
        return 0


async def survey_all(paths: Sequence[str], strategy: str, surveyed: Callable[[], object]) -> Outcome:
    """Survey every file by one strategy, in a runtime that has learned nothing yet; `surveyed` is called for each."""
    reports: list[Report] = []
    async with Runtime(strategy=strategy) as rt:
        began = perf_counter()
        async with rt.as_completed(survey, paths) as results:
            async for _, report in results:
                reports.append(report)
                surveyed()
        seconds = perf_counter() - began
        tallies = rt.stats().get(survey.name, {})
        return Outcome(strategy, Totals.of(reports), seconds, tallies, rt.explain(survey, paths[-1]))


def difference(outcomes: Sequence[Outcome]) -> str:
    """What the runs disagree on, in one line; empty when all found the same."""
    first, *others = outcomes
    for other in others:
        for name in Totals.__slots__:
            one, two = getattr(first.totals, name), getattr(other.totals, name)
            if one != two:
                return f"{first.strategy} and {other.strategy} disagree on {name}: {one!r} and {two!r}"
    return ""


@task(name="demo.survey", pure=True)
def survey(path: str) -> Report:
    """Parse one file; count definitions, branches and complexity; collect imports.

    A file that cannot be read or parsed gets a report too: some of the standard library's tests are broken on purpose.
    """
    try:
        source = Path(path).read_bytes()
        tree = _parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
        return Report(path, fault=f"{type(error).__name__}: {error}")

    found = _Findings()
    found.look_through(tree)
    functions = [Function(1 + each.decisions, each.name, path, each.line) for each in found.functions]
    return Report(
        path,
        size=len(source),
        lines=source.count(b"\n"),
        functions=len(functions),
        classes=found.classes,
        branches=found.outside.decisions + sum(each.decisions for each in found.functions),
        complexity=sum(each.complexity for each in functions),
        imports=tuple(sorted(found.imports)),
        hardest=hardest(functions),
    )


def hardest(functions: Iterable[Function]) -> tuple[Function, ...]:
    """The most complex functions first; equals by file and line."""
    return tuple(nsmallest(HARDEST, functions, key=lambda each: (-each.complexity, each.path, each.line)))


def decisions(node: ast.AST) -> int:
    """How many ways there are through this node alone, beyond the first."""
    match node:
        case ast.If() | ast.IfExp() | ast.For() | ast.AsyncFor() | ast.While() | ast.ExceptHandler():
            return 1
        case ast.BoolOp(values=values):
            return len(values) - 1
        case ast.comprehension(ifs=conditions):
            return 1 + len(conditions)
        case ast.match_case(pattern=ast.MatchAs(pattern=None), guard=guard):  # `case _` and `case name` always match
            return int(guard is not None)
        case ast.match_case(guard=guard):
            return 1 + int(guard is not None)
        case _:
            return 0


_DECIDING = frozenset(
    {
        *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler),
        *(ast.BoolOp, ast.comprehension, ast.match_case),
    }
)
_LEAVES = frozenset(
    {ast.Name, ast.Constant, ast.Load, ast.Store, ast.Del, ast.alias, ast.Pass, ast.Break, ast.Continue}
)

_alone = threading.Lock()


def _parse(source: bytes) -> ast.Module:
    # A file may warn about its own escapes, which is no concern of ours. And 3.11 takes it for an error of its own if a
    # parse comes in the middle of another, as it does where the collector finds an object that logs a traceback when it
    # goes. Filters and collector belong to the whole process, hence the lock; the parser holds the interpreter anyway.
    with _alone, warnings.catch_warnings(), _uncollected():
        warnings.simplefilter("ignore")
        return ast.parse(source)


@contextmanager
def _uncollected() -> Generator[None]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Scope:
    """A function while it is being counted; what stands outside of all functions has a scope too."""

    __slots__ = ("decisions", "line", "name")

    def __init__(self, name: str, line: int) -> None:
        self.name = name
        self.line = line
        self.decisions = 0


class _Findings:
    """What one module holds. A function's own decisions are its own: those of functions inside it are theirs."""

    def __init__(self) -> None:
        self.outside = _Scope("", 0)
        self.functions: list[_Scope] = []
        self.classes = 0
        self.imports: set[str] = set()

    def look_through(self, tree: ast.Module) -> None:
        # A stack of our own: sources are nested deeper than Python's stack allows.
        todo: list[tuple[ast.AST, str, _Scope]] = [(tree, "", self.outside)]
        while todo:
            node, prefix, scope = todo.pop()
            kind = type(node)
            if kind in _DECIDING:
                scope.decisions += decisions(node)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                scope = _Scope(prefix + node.name, node.lineno)
                self.functions.append(scope)
                prefix = f"{scope.name}."
            elif isinstance(node, ast.ClassDef):
                self.classes += 1
                prefix = f"{prefix}{node.name}."
            elif isinstance(node, ast.Import):
                self.imports.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                self.imports.add(node.module.partition(".")[0])
            for field in node._fields:
                value = getattr(node, field, None)
                if type(value) is list:
                    todo += [(each, prefix, scope) for each in value if isinstance(each, ast.AST)]
                elif isinstance(value, ast.AST) and type(value) not in _LEAVES:
                    todo.append((value, prefix, scope))
