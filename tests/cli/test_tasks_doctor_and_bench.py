"""The commands that tell: `tasks`, `doctor`, `bench`."""

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.worker import has_fast_path
from hybrid_compute.cli import doctor
from hybrid_compute.cli.exits import PlacesFailed
from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.gpu.adapters import adapters
from hybrid_compute.tasks import AnyTask
from tests.cli.command import HERE, answers, hybrid_compute

pytestmark = pytest.mark.timeout(60)


def test_tasks_lists_names_kinds_and_facts() -> None:
    """What a module offers, and what a runtime goes by, at a glance."""
    ran = hybrid_compute("tasks", "shop")
    rows = {row.split()[0]: row for row in ran.stdout.splitlines() if row.strip()}
    assert "pure" in rows["double"]
    assert "Twice as much." in rows["double"]
    assert "generator" in rows["count_to"]
    assert "coroutine" in rows["doze_aside"]
    assert "pure, private, timeout 5 s, needs cpu, cost cpu, retries 2" in rows["text.join"]
    assert "without_mark" not in rows


def test_tasks_takes_the_path_of_a_file(tmp_path: Path) -> None:
    """A file that is not installed can be asked as well."""
    ran = hybrid_compute("tasks", HERE / "shop.py", cwd=tmp_path)
    assert "double" in ran.stdout


def test_tasks_gives_json_schemas() -> None:
    """Another program can learn what to send, and what comes back."""
    schemas = json.loads(hybrid_compute("tasks", "shop", "--schema").stdout)
    assert schemas["double"] == {"input": {"type": "integer"}, "output": {"type": "integer"}}
    assert schemas["text.join"]["input"]["required"] == ["first"]


def test_a_module_without_tasks_says_how_to_make_one() -> None:
    """No table, but a hint."""
    ran = hybrid_compute("tasks", "math")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "mark functions with @task" in ran.stderr


def test_the_doctor_is_heard_where_signs_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a file on Windows: a sign that there is no letter for becomes a question mark."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert any(line.startswith("?") or " ? " in line for line in answers("doctor"))


def test_the_doctor_measures_every_place_with_real_calls() -> None:
    """Where all is well, each place has a time, and the exit code says that all is well."""
    ran = hybrid_compute("doctor", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    places = {place["name"]: place for place in found["places"]}
    assert {"local, in a thread", "worker"} <= places.keys()
    assert ("worker, portable path" in places) is has_fast_path()
    for place in places.values():
        assert place["why_not"] == ""
        assert 0 < place["typical"] <= place["slow"]
    assert {"memfd_create", "pidfd_open"} <= {each["what"] for each in found["fast_path"]}
    assert [(gpu["what"], gpu["text"].partition(",")[0]) for gpu in found["gpus"]] == (gpus() or [("none", ANY)])


def gpus() -> list[tuple[str, str]]:
    """What wgpu itself finds, the best first."""
    try:
        return [(each.api, each.name.partition(",")[0]) for each in adapters()]
    except BackendUnavailable:
        return []


def test_the_doctor_can_be_read() -> None:
    """A person gets tables, with a mark for each thing looked at."""
    told = hybrid_compute("doctor").stdout
    for words in ("This machine", "The fast path", "Optional libraries", "Gpus", "✓ worker", "✓ local, in a thread"):
        assert words in told


class Elsewhere(Backend):
    """Says that it isolates, and runs everything right here."""

    name = "elsewhere"
    isolates = True

    def can_run(self, task: AnyTask, /) -> bool:
        return True

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return task.fn(*args, **kwargs)


class Broken(Backend):
    name = "broken"

    def can_run(self, task: AnyTask, /) -> bool:
        return True

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        raise OSError("no more processes")


async def test_the_doctor_believes_no_place_that_runs_calls_elsewhere_than_it_says() -> None:
    """A worker pool that quietly runs in this process is not healthy."""
    found = await doctor.measure("elsewhere", Elsewhere(), doctor.where)
    assert found.why_not == f"it ran in process {os.getpid()}, and this is process {os.getpid()}"


async def test_the_doctor_says_why_a_place_does_not_work_and_exits_with_4() -> None:
    """The reason stands in the table, and a script is told."""
    found = await doctor.measure("broken", Broken(), doctor.where)
    assert "no more processes" in found.why_not
    with pytest.raises(PlacesFailed, match="these places do not work here: broken"):
        doctor.insist(doctor.Diagnosis([], [], [], [found]))


@pytest.mark.slow
def test_bench_measures_beside_the_standard_pool() -> None:
    """A few seconds give an idea of what the library is good for on this machine."""
    figures = {each["what"]: each for each in json.loads(hybrid_compute("bench", "--json").stdout)}
    assert {"one call, await", "one call, blocking", "10,000 calls, map"} <= figures.keys()
    assert all(each["ours"] > 0 for each in figures.values())
    assert figures["10,000 calls, map"]["peer"] > figures["10,000 calls, map"]["ours"]
