"""`hybrid-compute demo`: the main job, three ways, in front of the user."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from hybrid_compute.cli import screen
from hybrid_compute.cli.exits import Disagreement, Misuse
from hybrid_compute.demo import (
    STRATEGIES,
    Outcome,
    Totals,
    difference,
    read_once,
    sources,
    standard_library,
    survey_all,
)
from hybrid_compute.timings import duration


def demo(folder: Path | None) -> None:
    """Survey the folder, or the standard library, by each strategy, and show what came of it.

    Raises `Disagreement` if the strategies do not agree on what they found.
    """
    console = screen.console()
    where = folder if folder is not None else standard_library()
    paths = sources(where)
    if not paths:
        raise Misuse(f"there is no *.py file below {where}")
    console.print(f"{len(paths):,} Python files, {screen.size(read_once(paths))}, below {where}")

    with screen.bar(console, MofNCompleteColumn()) as progress:
        outcomes = [_survey(paths, strategy, console, progress) for strategy in STRATEGIES]

    disagreement = difference(outcomes)
    if disagreement:
        raise Disagreement(f"{disagreement}: either a file has changed meanwhile, or this is a bug in hybrid-compute")
    console.print(_runs(outcomes))
    console.print(_why(outcomes[-1]))
    console.print(_totals(outcomes[0].totals))
    console.print(_hardest(outcomes[0].totals, where))


def _survey(paths: Sequence[str], strategy: str, console: Console, progress: Progress) -> Outcome:
    shown = progress.add_task(f"{strategy:<6}", total=len(paths))
    outcome = asyncio.run(survey_all(paths, strategy, lambda: progress.advance(shown)))
    if not console.is_terminal:
        console.print(f"{strategy:<6} done in {duration(outcome.seconds)}")
    return outcome


def _runs(outcomes: Sequence[Outcome]) -> Table:
    shown = screen.table(
        "strategy", "wall time", "files/s", "calls per place", "bytes moved", title="\nThe same job, three ways"
    )
    for each in outcomes:
        places = ", ".join(f"{place} {tally.calls:,}" for place, tally in each.places.items())
        speed = f"{each.totals.files / each.seconds:,.0f}"
        shown.add_row(each.strategy, duration(each.seconds), speed, places, screen.size(each.moved))
    return shown


def _why(outcome: Outcome) -> str:
    """What `auto` decided, and why, in the runtime's own words."""
    return indent(f"What {outcome.strategy} decided\n{outcome.explanation}", "  ").lstrip()


def _totals(totals: Totals) -> Table:
    shown = screen.table("found", "", title="\nWhat was found, the same all three times")
    most = ", ".join(f"{name} {count}" for name, count in list(totals.imports.items())[:6])
    for what, amount in {
        "files": f"{totals.files:,}",
        "that do not parse (broken on purpose, mostly)": f"{totals.unparsed:,}",
        "lines": f"{totals.lines:,}",
        "functions": f"{totals.functions:,}",
        "classes": f"{totals.classes:,}",
        "branches": f"{totals.branches:,}",
        "cyclomatic complexity (McCabe 1976), sum": f"{totals.complexity:,}",
        "mean of a function": f"{totals.complexity / max(1, totals.functions):.2f}",
        "imported top-level modules": f"{len(totals.imports):,}",
        "files that import the most used": most,
    }.items():
        shown.add_row(what, amount)
    return shown


def _hardest(totals: Totals, where: Path) -> Table:
    shown = screen.table("function", "complexity", title="\nThe most complex functions")
    shown.add_column("where")
    for each in totals.hardest:
        shown.add_row(each.name, f"{each.complexity}", f"{Path(each.path).relative_to(where)}:{each.line}")
    return shown
