"""Offline first: calls for a server that is away are kept in a file, and sent when it is back.

A meter sends its readings to a server over a link that comes and goes. What it puts into the outbox outlives a restart
of the meter, and each reading is stored once, in order. This program is the meter; the server is the same file, started
as `hybrid-compute serve offline.py --remember keys.db`.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from hybrid_compute import Outbox, RemoteBackend, Runtime, task
from hybrid_compute.backends.remote.upkeep import Upkeep
from hybrid_compute.outbox.deciding import Backoff

SOON = Upkeep(longest_pause=0.2)  # an example is in a hurry


@task
def store_reading(celsius: float) -> int:
    """Runs at the server: not pure, because a reading that is stored twice is wrong. How many there are."""
    with Path(os.environ["READINGS"]).open("a+") as readings:
        readings.write(f"{celsius}\n")
        readings.seek(0)
        return len(readings.readlines())


def outbox(folder: Path, port: int) -> Outbox:
    server = RemoteBackend(f"http://127.0.0.1:{port}", upkeep=SOON)
    quick = Backoff(first=0.1, most=0.2)
    return Outbox(folder / "calls.db", to=server, tasks=[store_reading], order="strict", backoff=quick)


async def measure(folder: Path, port: int) -> None:
    """Nobody is at the other end: the readings are kept, and the meter goes on."""
    async with outbox(folder, port) as kept:
        for number, celsius in enumerate([17.5, 18.0, 18.5]):
            await kept.options(key=f"reading-{number}", expires=86_400.0).put(store_reading, celsius)
        print("kept:", *(call.key for call in await kept.calls()))


async def catch_up(folder: Path, port: int) -> None:
    """After a restart, and now there is a server."""
    async with outbox(folder, port) as kept:
        last = await kept.ticket("reading-2")
        print("stored:", await last.result())
        async with Runtime([kept.place()]) as rt:  # the same for code that knows nothing of an outbox
            print("stored:", await rt.run(store_reading, 19.0))


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hybrid_compute", "serve", __file__, "--port", str(port), "--remember", "keys.db"]
    environment = {**os.environ, "READINGS": "readings"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def main(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    asyncio.run(measure(folder, port))
    server = serve(folder, port)
    try:
        asyncio.run(catch_up(folder, port))
    finally:
        server.kill()
        server.wait()
    readings = (folder / "readings").read_text().split()
    print("at the server:", *readings)
    assert readings == ["17.5", "18.0", "18.5", "19.0"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
