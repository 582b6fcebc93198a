"""Crunch a large CSV and a large NDJSON file in worker processes, with progress.

A file is cut into byte ranges that end at line ends, and each range is one call: only a path and two numbers cross to
a worker. What a task says with `progress` reaches the hook here, in whichever process it runs. (A CSV file with line
breaks inside quoted fields cannot be cut like this.)
"""

import csv
import itertools
import json
import random
import tempfile
from collections import Counter
from pathlib import Path

from hybrid_compute import BlockingRuntime, progress, task
from hybrid_compute.events import Event, Progress

ROWS = 50_000
PARTS = 8


@task(pure=True)
def total_csv(path: str, start: int, stop: int) -> Counter[str]:
    """The sum of the amounts for each city in one byte range."""
    totals: Counter[str] = Counter()
    lines = read_lines(path, start, stop)
    for done, (city, amount) in enumerate(csv.reader(lines), 1):
        totals[city] += int(amount)
        if done % 500 == 0 or done == len(lines):
            progress(done, len(lines))
    return totals


@task(pure=True)
def total_ndjson(path: str, start: int, stop: int) -> Counter[str]:
    """The same for a file with one JSON object on each line."""
    totals: Counter[str] = Counter()
    lines = read_lines(path, start, stop)
    for done, line in enumerate(lines, 1):
        row = json.loads(line)
        totals[row["city"]] += row["amount"]
        if done % 500 == 0 or done == len(lines):
            progress(done, len(lines))
    return totals


def read_lines(path: str, start: int, stop: int) -> list[str]:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(stop - start).decode().splitlines()


def cut(path: Path, parts: int) -> list[tuple[str, int, int]]:
    """`(path, start, stop)` of about equal parts, each ending at the end of a line."""
    ends = [0]
    with path.open("rb") as file:
        for part in range(1, parts + 1):
            file.seek(path.stat().st_size * part // parts)
            file.readline()
            ends.append(file.tell())
    return [(str(path), start, stop) for start, stop in itertools.pairwise(ends)]


class Meter:
    """A hook that adds up what all running calls report."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done: dict[int, float] = {}
        self.shown = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.done[event.call] = event.done
            percent = 100 * sum(self.done.values()) / self.total
            if percent >= self.shown + 10:
                self.shown = int(percent // 10) * 10
                print(f"  {self.shown} % of {self.total:,} rows")


def main() -> None:
    rows = [(random.choice(("Bergen", "Lima", "Osaka", "Tunis")), random.randrange(1000)) for _ in range(ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        sales_csv, sales_ndjson = Path(folder, "sales.csv"), Path(folder, "sales.ndjson")
        sales_csv.write_text("".join(f"{city},{amount}\n" for city, amount in rows))
        sales_ndjson.write_text("".join(json.dumps({"city": city, "amount": amount}) + "\n" for city, amount in rows))
        with BlockingRuntime(hooks=[Meter(2 * ROWS)]) as rt:
            from_csv: Counter[str] = sum(rt.starmap(total_csv, cut(sales_csv, PARTS)), Counter())
            from_ndjson: Counter[str] = sum(rt.starmap(total_ndjson, cut(sales_ndjson, PARTS)), Counter())
            calls = Counter[str]()
            for tallies in rt.stats().values():
                calls.update({place: tally.calls for place, tally in tallies.items()})
    assert from_csv == from_ndjson
    assert from_csv.total() == sum(amount for _, amount in rows)
    for city, amount in sorted(from_csv.items()):
        print(f"{city:8}{amount:12,}")
    print(f"{2 * ROWS:,} rows in {calls.total()} calls: {dict(calls)}")


if __name__ == "__main__":
    main()
