"""How much of the limit each has, in the table and in the file; and a limit that comes from a data sheet."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.harness import Group, Outcome, Results, jobs_of
from benchmarks.measure import Effort, Figures, Series
from benchmarks.peaks import Peak, peak_of


def run(effort: Effort) -> Figures:
    raise AssertionError("nobody measures here")


def results(*, shares: bool) -> Results:
    group = Group("some", "Some work", shares=shares)
    group.limit("the peak", "work")(run)
    group.ours("ours", "work")(run)
    jobs = jobs_of([group], ("free",), quick=False)
    found = Results(jobs)
    for job, taken in zip(jobs, (1.0, 4.0), strict=True):
        found.add(job, Outcome({"work": Series("ms", taken)}))
    return found


def test_a_table_tells_how_much_of_the_limit_each_has() -> None:
    *_, head, limit, ours = report.tables(results(shares=True))
    assert head.endswith("of limit")
    assert limit.endswith("100.0%")
    assert ours.endswith("25.0%")
    assert "of limit" not in "".join(report.tables(results(shares=False)))


def test_so_does_the_file() -> None:
    told = report.as_json({}, {}, results(shares=True), [])["figures"]
    assert [each["of limit"] for each in told] == [1.0, 0.25]
    assert "of limit" not in report.as_json({}, {}, results(shares=False), [])["figures"][0]


def test_what_takes_longer_bounds_the_work() -> None:
    peak = Peak(operations=100, nbytes=10)
    assert peak.seconds(200, 10) == 2
    assert peak.seconds(0, 10) == 1


def test_a_device_that_is_not_in_the_table_has_no_peak() -> None:
    assert peak_of("NVIDIA L4").nbytes == 300e9
    with pytest.raises(LookupError, match="the peak of 'NVIDIA L40S' is unknown"):
        peak_of("NVIDIA L40S")
