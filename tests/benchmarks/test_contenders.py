"""Everything of ours that is measured still runs, and gives the figures it names: a call of each.

Of the groups about gpus all the others do, too: they are seldom run where what they measure is at hand.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.contenders import GROUPS
from benchmarks.harness import Outcome

GPU = ("gpu", "tensors")
MISSING = ("is not installed", "finds no gpu")
ALL = [
    pytest.param(group.name, number, id=f"{group.name}: {contender.name} ({contender.measures[0]})")
    for group in GROUPS.values()
    for number, contender in enumerate(group.contenders)
    if contender.role == "ours" or group.name in GPU
]


@pytest.mark.timeout(180)  # the first of the sandbox makes its interpreter
@pytest.mark.parametrize(("group", "number"), ALL)
def test_it_runs(group: str, number: int) -> None:
    contender = GROUPS[group].contenders[number]
    command = [sys.executable, "-m", "benchmarks.child", group, str(number), "free", "once"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    outcome = Outcome.parse(said.stdout.splitlines()[-1])
    is_peer = contender.role == "peer"
    if "no gpu adapter" in outcome.unavailable or (is_peer and outcome.unavailable.endswith(MISSING)):
        pytest.skip(outcome.unavailable)
    assert outcome.unavailable == "", said.stderr
    assert set(outcome.figures) >= set(contender.measures)
