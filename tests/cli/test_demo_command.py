"""`hybrid-compute demo`: the main job, in front of the user."""

import json
import re
from pathlib import Path

import pytest

from hybrid_compute.demo import standard_library
from tests.cli.command import hybrid_compute, on_a_terminal

JSON = Path(json.__file__).parent


@pytest.mark.timeout(60)
def test_the_demo_shows_the_same_job_three_ways() -> None:
    """A table compares the strategies; what was found follows, and what `auto` decided."""
    ran = hybrid_compute("demo", JSON)
    assert ran.returncode == 0, ran.stderr
    for strategy, place in (("local", "local"), ("worker", "worker"), ("auto", "worker")):
        assert re.search(rf"^ {strategy} +[\d.]+ m?s +[\d,]+ +{place} 5 ", ran.stdout, re.MULTILINE)
    assert "What auto decided\n  demo.survey: runs at worker\n    because " in ran.stdout
    assert re.search(r"^ files +5 *$", ran.stdout, re.MULTILINE)
    assert re.search(r"^ _make_iterencode\._iterencode_dict +\d\d +encoder\.py:\d+ *$", ran.stdout, re.MULTILINE)


@pytest.mark.timeout(60)
def test_a_terminal_shows_a_bar_for_each_strategy() -> None:
    """Whoever watches sees all three move."""
    code, seen = on_a_terminal("demo", JSON)
    assert code == 0
    for strategy in ("local ", "worker", "auto  "):
        assert strategy in seen
    assert "5/5" in seen


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_demo_surveys_the_standard_library_by_default() -> None:
    """A thousand real files on every machine, some of them broken on purpose, and all three ways agree."""
    ran = hybrid_compute("demo", timeout=170)
    assert ran.returncode == 0, ran.stderr
    assert str(standard_library()) in ran.stdout
    [files] = re.findall(r"^ files +([\d,]+) *$", ran.stdout, re.MULTILINE)
    assert int(files.replace(",", "")) > 500
