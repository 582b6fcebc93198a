"""The same call at a server, and here while the server is away.

This program is both: it starts itself once more as a server, `hybrid-compute serve remote.py`, and calls it. Then it
kills the server. Calls go on in this process, and to the server again as soon as it is back.
"""

import asyncio
import os
import subprocess
import sys

from hybrid_compute import LocalBackend, RemoteBackend, Runtime, task
from hybrid_compute.strategies import prefer


@task(pure=True)
def count_primes(limit: int) -> tuple[int, int]:
    """How many primes there are below `limit`, and the process that counted them."""
    primes = sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))
    return primes, os.getpid()


def serve(port: int = 0) -> tuple[subprocess.Popen[str], int]:
    """A server of the tasks in this file, and its port."""
    command = [sys.executable, "-m", "hybrid_compute", "serve", __file__, "--port", f"{port}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    said = server.stdout.readline()  # 1 task at http://127.0.0.1:40123/compute, described at ...
    return server, int(said.partition("127.0.0.1:")[2].partition("/")[0])


def stop(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.communicate()


async def show(rt: Runtime, when: str) -> bool:
    primes, process = await rt.run(count_primes, 8_000)
    there = process != os.getpid()
    print(f"{when}: {primes:,} primes, counted {'at the server' if there else 'in this process'}")
    return there


async def main() -> None:
    server, port = serve()
    remote = RemoteBackend(f"ws://127.0.0.1:{port}")
    async with Runtime([LocalBackend(), remote], strategy=prefer("remote")) as rt:
        assert await show(rt, "the server is there")

        stop(server)
        assert not await show(rt, "the server is gone")
        print(f"not remote: {rt.explain(count_primes, 8_000).refusals['remote']}")

        server, _ = serve(port)
        await remote.reached()  # nobody need wait: it is tried again in the background, after growing pauses
        assert await show(rt, "the server is back")
    stop(server)


if __name__ == "__main__":
    asyncio.run(main())
