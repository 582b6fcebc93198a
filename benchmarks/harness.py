"""Groups of contenders, and the loop that runs them all in turn, each in a process of its own.

    Group ── has ──> Contender ── one for each placement ──> Job ── python -m benchmarks.child ──> Outcome
                                                              └──────── round after round ───────> Results

The parent never runs a contender and never imports what one uses.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from benchmarks.machine import Placement
from benchmarks.measure import Effort, Figures, Series, median_of

Role: TypeAlias = Literal["limit", "ours", "peer"]
ROLES: tuple[Role, ...] = ("limit", "ours", "peer")
Key: TypeAlias = tuple[str, int, Placement]
Run: TypeAlias = Callable[[Effort], Figures]
RunT = TypeVar("RunT", bound=Run)

PATIENCE = 60.0  # seconds that one contender may take


class NotMeasured(LookupError):
    """Asked for a figure that this run was to have, but does not."""


class NotAsked(LookupError):
    """Asked for a figure of a group, or at a placement, that this run left out."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to get the things named in `measures` done. A `slow` one is left out of a quick run."""

    name: str
    role: Role
    measures: tuple[str, ...]
    run: Run
    slow: bool = False


@dataclass
class Group:
    """Contenders for the same work. Each measure becomes a table.

    With `shares` that tells how much of the limit each of them has.

    >>> sync = Group("sync", "One call and its answer")
    >>> @sync.peer("ProcessPoolExecutor", "call")
    ... def process_pool(effort: Effort) -> Figures: ...
    """

    name: str
    title: str
    placements: tuple[Placement, ...] = ("free",)
    shares: bool = False
    contenders: list[Contender] = field(default_factory=list)

    def limit(self, name: str, *measures: str) -> Callable[[RunT], RunT]:
        return self._enter(name, "limit", measures)

    def ours(self, name: str, *measures: str) -> Callable[[RunT], RunT]:
        return self._enter(name, "ours", measures)

    def peer(self, name: str, *measures: str, slow: bool = False) -> Callable[[RunT], RunT]:
        return self._enter(name, "peer", measures, slow)

    def _enter(self, name: str, role: Role, measures: tuple[str, ...], slow: bool = False) -> Callable[[RunT], RunT]:
        def enter(run: RunT) -> RunT:
            self.contenders.append(Contender(name, role, measures, run, slow))
            return run

        return enter


@dataclass(frozen=True, slots=True)
class Job:
    """A contender at a placement. `number` is its place in the group: names repeat between measures."""

    group: Group
    number: int
    placement: Placement

    @property
    def contender(self) -> Contender:
        return self.group.contenders[self.number]

    @property
    def key(self) -> Key:
        return self.group.name, self.number, self.placement


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a job gave: figures, or the reason why there are none."""

    figures: Figures = field(default_factory=dict)
    unavailable: str = ""

    @classmethod
    def parse(cls, line: str) -> Outcome:
        told = json.loads(line)
        return cls({measure: Series(**series) for measure, series in told["figures"].items()}, told["unavailable"])


@dataclass(frozen=True, slots=True)
class Row:
    """One line of one table: a contender's series in every round, and what stopped it, if anything did."""

    contender: Contender
    rounds: tuple[Series, ...]
    unavailable: str

    @property
    def series(self) -> Series | None:
        return median_of(self.rounds) if self.rounds else None


@dataclass(frozen=True, slots=True)
class Table:
    """All contenders for one measure at one placement: the limit first, then ours, then the peers."""

    group: Group
    measure: str
    placement: Placement
    rows: list[Row] = field(default_factory=list)


class Results:
    """All outcomes so far, by job."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = tuple(jobs)
        self._outcomes: dict[Key, list[Outcome]] = {job.key: [] for job in self._jobs}

    def add(self, job: Job, outcome: Outcome) -> None:
        self._outcomes[job.key].append(outcome)

    def failed(self, job: Job) -> bool:
        return any(outcome.unavailable for outcome in self._outcomes[job.key])

    def tables(self) -> list[Table]:
        """A table for every group, placement and measure that was run."""
        tables: dict[tuple[str, Placement, str], Table] = {}
        for job in self._jobs:
            for measure in job.contender.measures:
                key = (job.group.name, job.placement, measure)
                table = tables.setdefault(key, Table(job.group, measure, job.placement))
                table.rows.append(self._row(job, measure))
        for table in tables.values():
            table.rows.sort(key=lambda row: ROLES.index(row.contender.role))
        return list(tables.values())

    def find(self, group: str, measure: str, contender: str, placement: Placement) -> Series:
        """The median of one contender's figure. Raises `NotMeasured` or `NotAsked` if there is none."""
        jobs = [job for job in self._jobs if (job.group.name, job.placement) == (group, placement)]
        if not jobs:
            raise NotAsked(f"{group}, {placement}")
        for job in jobs:
            if job.contender.name == contender and measure in job.contender.measures:
                row = self._row(job, measure)
                if row.series is None:
                    raise NotMeasured(f"{contender}: {row.unavailable}")
                return row.series
        raise NotMeasured(f"{group} has no contender {contender!r} for {measure!r}")

    def _row(self, job: Job, measure: str) -> Row:
        outcomes = self._outcomes[job.key]
        rounds = tuple(outcome.figures[measure] for outcome in outcomes if measure in outcome.figures)
        reasons = [outcome.unavailable for outcome in outcomes if outcome.unavailable]
        if outcomes and not rounds and not reasons:
            reasons = ["it gave no such figure"]
        return Row(job.contender, rounds, reasons[0] if reasons else "")


def jobs_of(groups: Iterable[Group], placements: Collection[Placement], *, quick: bool) -> list[Job]:
    return [
        Job(group, number, placement)
        for group in groups
        for placement in group.placements
        if placement in placements
        for number, contender in enumerate(group.contenders)
        if not (quick and contender.slow)
    ]


def run_all(jobs: list[Job], effort: Effort, rounds: int, tell: Callable[[str], None]) -> Results:
    """Run every job once a round. A job that failed is not tried again."""
    results = Results(jobs)
    for turn in range(rounds):
        # Every other round goes backwards, so that a steady drift favours nobody.
        for job in jobs if turn % 2 == 0 else reversed(jobs):
            if not results.failed(job):
                tell(f"round {turn + 1} of {rounds}: {job.group.name}, {job.placement}: {job.contender.name}")
                results.add(job, run_job(job, effort))
    return results


def run_job(job: Job, effort: Effort) -> Outcome:
    """Run one contender in a fresh process. Whatever it does there, the answer is an outcome."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.child",
        job.group.name,
        str(job.number),
        job.placement,
        effort.name,
    ]
    # Files, not pipes: a child that the contender leaves behind would keep a pipe open, and us waiting.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=_environment(),
            start_new_session=True,
        )
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return Outcome(unavailable=f"no answer within {PATIENCE:.0f} s")
        finally:
            _end_session(process)
        return _outcome(_last_line(out), _last_line(err), process.returncode)


def _outcome(said: str, complaint: str, code: int) -> Outcome:
    try:
        return Outcome.parse(said)
    except (ValueError, KeyError, TypeError):  # it died before it could tell
        return Outcome(unavailable=f"exit code {code}: {complaint or 'no message'}")


def _end_session(process: subprocess.Popen[Any]) -> None:
    # The contender and whatever it left running: a forgotten worker would spoil every figure after it.
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # nobody is left; macOS puts it the second way
            pass
    else:
        process.kill()
    process.wait()


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, inherited] if inherited else [root])}


def _last_line(file: Any) -> str:
    file.seek(0)
    lines = [line for line in file.read().splitlines() if line.strip()]
    return str(lines[-1]).strip() if lines else ""
