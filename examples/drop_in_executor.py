"""`WorkerExecutor` in place of `ProcessPoolExecutor`: the standard contract, over the same workers.

Change one import and keep the rest: `submit`, `map`, futures, `run_in_executor`, initializers. One thing differs. A
worker that dies takes only its own call with it; the pool stays in use.
"""

import asyncio
import os
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool

from hybrid_compute import WorkerExecutor


def cube(number: int) -> int:
    return number**3


def crash() -> None:
    os._exit(1)


async def from_asyncio(pool: WorkerExecutor) -> int:
    return await asyncio.get_running_loop().run_in_executor(pool, cube, 5)


def main() -> None:
    with WorkerExecutor(2) as pool:
        cubes = list(pool.map(cube, range(10), chunksize=5))
        print(f"map: {cubes}")

        futures = [pool.submit(cube, number) for number in range(4)]
        print(f"as_completed: {sorted(done.result() for done in as_completed(futures))}")

        print(f"run_in_executor: {asyncio.run(from_asyncio(pool))}")

        crashed = pool.submit(crash)
        try:
            crashed.result()
        except BrokenProcessPool as error:
            print(f"a crash: {error}")
        still_there = pool.submit(cube, 3).result()
        print(f"after it: {still_there}")

    assert cubes == [number**3 for number in range(10)]
    assert still_there == 27


if __name__ == "__main__":
    main()
