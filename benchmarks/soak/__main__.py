"""`python -m benchmarks.soak`: parse the command line, soak, report."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.soak import __doc__ as purpose
from benchmarks.soak.calls import Caller
from benchmarks.soak.faults import House, strike
from benchmarks.soak.growth import Growth, Watch
from benchmarks.soak.ledger import Ledger
from hybrid_compute import RemoteBackend, Runtime
from hybrid_compute.backends.remote.upkeep import Upkeep

UPKEEP = Upkeep(first_pause=0.05, longest_pause=0.5, patience=30.0)
WAITING = 60.0  # seconds that the last calls may take


@dataclass(frozen=True, slots=True)
class Found:
    """What a soak has found out."""

    ledger: Ledger
    marks: Counter[int]
    faults: Counter[str]
    growths: list[Growth]
    left_behind: int

    def broken(self) -> Iterator[str]:
        """Every promise that was broken, in words."""
        yield from self.ledger.broken(self.marks)
        if self.left_behind:
            yield f"{self.left_behind} processes outlived the server that had started them"
        for each in self.growths:
            if not each.flat:
                yield f"{each.what} grew from {each.first:.1f} to {each.last:.1f} {each.unit}"


async def soak(seconds: float, seed: int, callers: int, folder: Path) -> Found:
    ledger, marks = Ledger(), folder / "marks"
    async with _house("steady", folder) as steady, _house("mortal", folder) as mortal:
        places = {f"{house.name} {scheme}": house for house in (steady, mortal) for scheme in ("http", "ws")}
        backends = [
            RemoteBackend(f"{name.split()[1]}://127.0.0.1:{house.port}", name=name, upkeep=UPKEEP)
            for name, house in places.items()
        ]
        async with Runtime(backends) as rt:
            made = [
                Caller(rt, list(places), ledger, str(marks), Random(f"{seed} {number}")) for number in range(callers)
            ]
            calling = [asyncio.create_task(each.run()) for each in made]
            watch = Watch({"the steady server": steady.pid, "the client": os.getpid()})
            watching = asyncio.create_task(watch.look())
            faults = await strike(steady, mortal, Random(seed), seconds)
            await _leave(watching)
            for each in made:
                each.stop()
            await _finish(calling)
    left_behind = steady.left_behind + mortal.left_behind
    return Found(ledger, _read(marks), faults, watch.growths(), left_behind)


@asynccontextmanager
async def _house(name: str, folder: Path) -> AsyncGenerator[House]:
    house = House(name, folder)
    await house.open()
    try:
        yield house
    finally:
        await house.end(killed=False)
        house.close()


async def _leave(watching: asyncio.Task[None]) -> None:
    watching.cancel()
    await asyncio.wait([watching])
    if not watching.cancelled():
        watching.result()  # it had ended before, and says why


async def _finish(calling: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the last calls. Those that do not end stay without an outcome, which the ledger tells."""
    done, late = await asyncio.wait(calling, timeout=WAITING)
    for each in late:
        each.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for each in done:
        each.result()


def _read(marks: Path) -> Counter[int]:
    return Counter(map(int, marks.read_text().split())) if marks.exists() else Counter()


def report(found: Found) -> Iterator[str]:
    yield f"\n{len(found.ledger):,} calls"
    for (kind, outcome), count in sorted(found.ledger.outcomes.items()):
        yield f"  {kind:20} {outcome:24} {count:>9,}"
    yield f"\n{sum(found.faults.values())} faults"
    for fault, count in sorted(found.faults.items()):
        yield f"  {fault:45} {count:>9,}"
    yield f"\n{'held':20} {'':12} {'first third':>12} {'last third':>12}"
    for each in found.growths:
        yield f"  {each.what:18} {each.unit:12} {each.first:>12.1f} {each.last:>12.1f}"
    broken = list(found.broken())
    yield "\nevery promise was kept" if not broken else "\nBROKEN"
    yield from (f"  {each}" for each in broken)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(soak(options.minutes * 60, options.seed, options.callers, Path(folder)))
    print(*report(found), sep="\n")
    return 1 if any(found.broken()) else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--minutes", type=float, default=10.0, help="how long to go on")
    made.add_argument("--seed", type=int, default=0, help="of all that happens by chance")
    made.add_argument("--callers", type=int, default=16, help="how many calls are under way at once")
    return made


if __name__ == "__main__":
    sys.exit(main())
