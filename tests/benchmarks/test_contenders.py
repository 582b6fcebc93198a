"""Everything of ours that is measured still runs, and gives the figures it names: a call of each."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.contenders import GROUPS
from benchmarks.harness import Outcome

OURS = [
    pytest.param(group.name, number, id=f"{group.name}: {contender.name} ({contender.measures[0]})")
    for group in GROUPS.values()
    for number, contender in enumerate(group.contenders)
    if contender.role == "ours"
]


@pytest.mark.timeout(180)  # the first of the sandbox makes its interpreter
@pytest.mark.parametrize(("group", "number"), OURS)
def test_it_runs(group: str, number: int) -> None:
    contender = GROUPS[group].contenders[number]
    command = [sys.executable, "-m", "benchmarks.child", group, str(number), "free", "once"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    outcome = Outcome.parse(said.stdout.splitlines()[-1])
    if "no gpu adapter" in outcome.unavailable:
        pytest.skip(outcome.unavailable)
    assert outcome.unavailable == "", said.stderr
    assert set(outcome.figures) >= set(contender.measures)
