"""What happens to the servers: who dies when, and comes back. By chance, but the same for the same seed."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from pathlib import Path
from random import Random

from benchmarks.lazy import psutil
from benchmarks.serving import Server

BETWEEN = (0.5, 3.0)  # seconds between two faults
AWAY = (0.0, 1.0)  # seconds until a dead server is started again
LEAVING = 10.0  # seconds that what a dead server has started may live on


class House:
    """A server at one port, with one file for its keys, through all its lives."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.left_behind = 0
        self._file = folder / f"{name}.keys"
        # Held, but never listened on: so nobody else gets it while the server is away, not even by connecting.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port: int = self._held.getsockname()[1]
        self._server: Server | None = None

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.pid

    async def open(self) -> None:
        self._server = await asyncio.to_thread(Server, "benchmarks.soak.server", str(self.port), str(self._file))

    async def end(self, *, killed: bool) -> None:
        """End the server, at once or with notice, and count the processes that it leaves behind."""
        assert self._server is not None
        if (code := self._server.ended()) is not None:
            raise RuntimeError(f"the {self.name} server died by itself, with code {code}")
        family = psutil.Process(self.pid).children(recursive=True)
        await asyncio.to_thread(self._server.kill if killed else self._server.stop)
        _, left = await asyncio.to_thread(psutil.wait_procs, family, LEAVING)
        self.left_behind += len(left)
        for process in left:
            process.kill()

    def close(self) -> None:
        self._held.close()

    def kill_one(self, fault: str, chance: Random) -> bool:
        """Kill a worker of the server, or the template that it forks workers from; whether there was one."""
        try:
            templates = psutil.Process(self.pid).children()
            victims = templates if fault == TEMPLATE else [each for one in templates for each in one.children()]
            if victims:
                chance.choice(victims).send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:  # it was quicker
            return False
        return bool(victims)


WORKER, TEMPLATE, KILLED, STOPPED = "worker killed", "template killed", "server killed", "server stopped"
FAULTS = (WORKER, WORKER, TEMPLATE, KILLED, STOPPED)


async def strike(steady: House, mortal: House, chance: Random, seconds: float) -> Counter[str]:
    """One fault after another, for so many seconds; how many there were of each. The servers are up at the end."""
    struck: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (pause := chance.uniform(*BETWEEN)) < end - loop.time():
        await asyncio.sleep(pause)
        fault = chance.choice(FAULTS)
        if fault in (WORKER, TEMPLATE):
            struck[fault] += chance.choice((steady, mortal)).kill_one(fault, chance)
            continue
        await mortal.end(killed=fault == KILLED)
        await asyncio.sleep(chance.uniform(*AWAY))
        await mortal.open()
        struck[fault] += 1
    await asyncio.sleep(max(0.0, end - loop.time()))
    return struck
