"""One contender, once, in this process: `python -m benchmarks.child GROUP NUMBER PLACEMENT EFFORT`.

The last line printed is the outcome as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback

from benchmarks.contenders import GROUPS
from benchmarks.harness import Contender, Outcome
from benchmarks.machine import pin_to_one_core
from benchmarks.measure import EFFORTS, Effort


def main(group: str, number: str, placement: str, effort: str) -> None:
    if placement == "pinned":
        pin_to_one_core()
    outcome = measured(GROUPS[group].contenders[int(number)], EFFORTS[effort])
    print("\n" + json.dumps(dataclasses.asdict(outcome)), flush=True)


def measured(contender: Contender, effort: Effort) -> Outcome:
    try:
        return Outcome(figures=contender.run(effort))
    except ModuleNotFoundError as error:
        return Outcome(unavailable=f"{error.name} is not installed")
    except Exception as error:  # any failure is a result here: the run must go on
        traceback.print_exc()
        return Outcome(unavailable=f"{type(error).__name__}: {error}".splitlines()[0][:200])


if __name__ == "__main__":
    main(*sys.argv[1:])
