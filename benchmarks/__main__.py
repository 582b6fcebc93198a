"""`python -m benchmarks`: parse the command line, run, report."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import __doc__ as purpose
from benchmarks import machine, report
from benchmarks.contenders import GROUPS
from benchmarks.harness import jobs_of, run_all
from benchmarks.machine import Placement
from benchmarks.measure import EFFORTS
from benchmarks.targets import judge


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    effort = EFFORTS["quick" if options.quick else "full"]
    rounds = options.rounds or effort.rounds
    names = options.only or list(GROUPS)
    placements: tuple[Placement, ...] = ("free", "pinned") if machine.can_pin() else ("free",)

    facts = machine.facts()
    print(*report.facts(facts), sep="\n", flush=True)
    start = time.monotonic()
    jobs = jobs_of((GROUPS[name] for name in names), placements, quick=options.quick)
    results = run_all(jobs, effort, rounds, _progress)
    took = time.monotonic() - start
    _progress("")

    verdicts = list(judge(results))
    print(*report.tables(results), *report.verdicts(verdicts), sep="\n")
    settings = {"effort": effort.name, "rounds": rounds, "groups": names, "seconds": round(took, 1)}
    facts["load average at the end"] = machine.load_average()
    options.json.write_text(json.dumps(report.as_json(facts, settings, results, verdicts), indent=1) + "\n")
    load = machine.load_average()
    print(f"\nrounds: {rounds}, seconds: {took:.0f}, load average at the end: {load}, figures: {options.json}")
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="one short round without the slowest peers")
    made.add_argument("--only", nargs="+", choices=GROUPS, metavar="GROUP", help=f"some of: {', '.join(GROUPS)}")
    made.add_argument("--rounds", type=_positive, help="rounds to take the medians over")
    made.add_argument("--json", type=Path, default=Path("benchmark-results.json"), help="where the figures go")
    return made


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"at least one round is needed, not {number}")
    return number


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nstopped: nothing written")
