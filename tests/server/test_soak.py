"""The soak itself, for a short while; and that it would notice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.soak.growth import growth
from benchmarks.soak.ledger import Ledger
from hybrid_compute.errors import ConnectionLost, NoBackendAvailable, TaskFailed


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_twenty_seconds_of_faults_break_no_promise() -> None:
    """Servers and workers die under calls, and nothing is lost, done twice, left behind or kept."""
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0.34", "--seed", "4", "--callers", "8"]
    soaked = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert soaked.returncode == 0, soaked.stdout + soaked.stderr
    assert "every promise was kept" in soaked.stdout
    assert "killed" in soaked.stdout


@pytest.fixture
def ledger() -> Ledger:
    """Three calls: one with a result, one that was refused, one that failed on its way."""
    made = Ledger()
    for _ in range(3):
        made.begin()
    made.answered(0, "call")
    made.failed(1, "call", NoBackendAvailable("away"))
    made.failed(2, "call", ConnectionLost("cut", started=True))
    return made


@pytest.mark.parametrize("marks", [{0: 1}, {0: 1, 2: 1}])
def test_a_call_that_failed_on_its_way_may_have_begun_or_not(ledger: Ledger, marks: dict[int, int]) -> None:
    """An error after the start leaves both open, and breaks no promise."""
    assert list(ledger.broken(marks)) == []
    assert ledger.outcomes == Counter(
        {("call", "result"): 1, ("call", "NoBackendAvailable"): 1, ("call", "ConnectionLost"): 1}
    )


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        ({0: 2}, "1 of 3 calls ran more than once: 0"),
        ({0: 1, 2: 2}, "1 of 3 calls ran more than once: 2"),
        ({}, "1 of 3 calls got a result but never began: 0"),
        ({0: 1, 1: 1}, "1 of 3 calls got a refusal but began: 1"),
        ({0: 1, 7: 1}, "calls ran that nobody made: 7"),
    ],
)
def test_marks_that_do_not_fit_what_was_told_are_found(ledger: Ledger, marks: dict[int, int], told: str) -> None:
    """Each way in which the marks can disagree with the outcomes is named, with the number of a call."""
    assert list(ledger.broken(marks)) == [told]


def test_a_call_without_an_outcome_is_found(ledger: Ledger) -> None:
    """A call that hangs is one that never ended."""
    for _ in range(7):
        ledger.begin()
    assert list(ledger.broken({0: 1})) == ["7 of 10 calls never ended: 3, 4, 5, 6, 7 ..."]


def test_a_call_that_ends_twice_is_found(ledger: Ledger) -> None:
    """One call has one outcome."""
    ledger.answered(2, "call")
    assert list(ledger.broken({0: 1, 2: 1})) == ["1 times: a call ended twice"]


def test_an_error_that_no_fault_explains_is_found(ledger: Ledger) -> None:
    """The tasks of the soak never raise: whoever says so is wrong."""
    ledger.failed(ledger.begin(), "stream", TaskFailed("it raised"))
    assert list(ledger.broken({0: 1})) == ["1 times: a stream ended with TaskFailed: it raised"]


def test_the_calls_of_a_failed_batch_may_have_begun() -> None:
    """The one error of a batch says of none of its calls that it never began."""
    ledger = Ledger()
    ledger.failed(ledger.begin(), "call of a batch", NoBackendAvailable("away"), alone=False)
    assert list(ledger.broken({0: 1})) == []


def test_growth_compares_the_last_third_with_the_first() -> None:
    """One sample out of line moves no third, and a little more is no growth."""
    steady = growth("a server", "MB", [30, 900, 30, 31, 31, 31, 32, 32, 5])
    assert (steady.first, steady.last, steady.flat) == (30, 32, True)
    assert not growth("a server", "MB", [30.0] * 6 + [60.0] * 3).flat
    assert not growth("a server", "open files", [20.0] * 3 + [100.0] * 3).flat
