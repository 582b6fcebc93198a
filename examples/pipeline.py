"""One call, several places: numbers are read in one, worked out in another, and added up here, all at the same time.

The first stage reads a log that might as well lie on another machine; here a second pool of workers stands for that.
The second stage computes in workers, at most four lines at a time. The third runs in this process, which has the
totals. Each line goes on as soon as it is there, and since nobody runs far ahead, the log may be as long as it likes.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator

from hybrid_compute import LocalBackend, Runtime, WorkerBackend, pipeline, task
from hybrid_compute.errors import TaskFailed


class ElsewhereBackend(WorkerBackend):
    """Workers that answer to another name, as those of another machine would."""

    name = "elsewhere"


totals: Counter[str] = Counter()


@task
def read_log(lines: int) -> Iterator[str]:
    """A service and its seconds, line by line."""
    for number in range(lines):
        yield f"{('search', 'upload', 'backup')[number % 3]} {number % 50} read in {os.getpid()}"


@task(pure=True)
def price(line: str) -> tuple[str, int, str]:
    """What the line costs: as many primes as there are below a hundred times its seconds."""
    service, seconds, *rest = line.split()
    limit = 100 * int(seconds)
    primes = sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))
    return service, primes, f"{' '.join(rest)}, priced in {os.getpid()}"


@task(cost="trivial")  # it runs in the event loop, one call after the other, so that the totals are right
def add_up(priced: tuple[str, int, str]) -> str:
    service, cents, how = priced
    totals[service] += cents
    return f"{how}, added up in {os.getpid()}"


async def main() -> None:
    pipe = pipeline(read_log.on("elsewhere"), price.on("worker", limit=4), add_up.on("local"))
    print(repr(pipe))
    async with Runtime([WorkerBackend(), ElsewhereBackend(1), LocalBackend()]) as rt:
        ways = await pipe.run(rt, 300)
        print(f"{len(ways)} lines, the first {ways[0]}")
        print(f"totals: {dict(totals.most_common())}")

        # Leaving the block stops all stages, so the first one need not have an end.
        async with pipe.stream(rt, 10**12) as items:
            async for _ in items:
                if totals["backup"] > 50_000:
                    break
        print(f"left with {totals['backup']} for backups")

        # An error comes out as it is, in its turn, and says where it was.
        try:
            await pipeline(price.on("worker"), add_up.on("local")).over(["search 1 x", "upload soon y"]).run(rt)
        except TaskFailed as error:
            print(f"{error.__cause__!r} {error.__notes__[-1]}")

    pids = {word.strip(",") for way in ways for word in way.split() if word.strip(",").isdigit()}
    assert len(pids) >= 3, pids  # a reader, a worker or more, and this process
    assert str(os.getpid()) in pids


if __name__ == "__main__":
    asyncio.run(main())
