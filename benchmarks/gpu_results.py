"""`make gpu-results`: the tests and the figures of this machine's gpu, kept in `benchmarks/results/`.

    python -m benchmarks.gpu_results [--quick] [--software]

The tests that use a gpu run first, one after the other; then the groups `gpu` and `tensors`. What fails is kept too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.gpu.adapters import Adapter, choose

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
TESTS = (
    "tests/gpu",
    "tests/shared",
    *(str(each.relative_to(ROOT)) for each in ROOT.glob("tests/backends/test_gpu*.py")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        adapter = choose()
    except BackendUnavailable as error:
        return _refuse(str(error))
    if reason := why_not(adapter, software=options.software):
        return _refuse(reason)
    with tempfile.TemporaryDirectory() as folder:
        tested, measured = Path(folder, "tests.xml"), Path(folder, "figures.json")
        _run("pytest", *TESTS, "--quiet", f"--junit-xml={tested}")
        _run("benchmarks", "--only", "gpu", "tensors", "--json", measured, *(["--quick"] if options.quick else []))
        tests, figures = counts(tested.read_text()), json.loads(measured.read_text())
    found = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "adapter": described(adapter), "tests": tests, **figures}
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / file_name(adapter.name)
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{adapter}: {tests['passed']} tests passed, {len(tests['failed'])} failed; kept in {file.relative_to(ROOT)}")
    return 1 if tests["failed"] else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="one short round of figures")
    made.add_argument("--software", action="store_true", help="also of an adapter that computes on the processor")
    return made


def why_not(adapter: Adapter, *, software: bool) -> str:
    """Why there would be nothing worth keeping; empty if there is."""
    if not adapter.is_software or software:
        return ""
    return (
        f"the only adapter is {adapter}, which computes on the processor: its figures say nothing about a gpu. "
        f"Run it where there is one, or with --software if that is what you want to know"
    )


def counts(xml: str) -> dict[str, Any]:
    """How many tests passed and were skipped, and the names of those that failed, from what pytest wrote."""
    cases = list(ElementTree.fromstring(xml).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "skipped": len(skipped),
        "failed": [f"{case.get('classname')}.{case.get('name')}" for case in failed],
    }


def described(adapter: Adapter) -> dict[str, Any]:
    told = {field.name: getattr(adapter, field.name) for field in dataclasses.fields(adapter) if field.repr}
    return {**told, "features": sorted(adapter.features)}


def file_name(name: str) -> str:
    """Of a device, in letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".json"


def _run(module: str, *arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, check=False)


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
