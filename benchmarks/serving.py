"""Servers in processes of their own, which end with the block that started them.

with serving("ours") as server:     `python -m benchmarks.serve ours`, once it can be reached
    ...                             server.port, server.pid
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

PATIENCE = 20.0  # seconds that a server may take to finish what it was doing


class Server:
    """A server that runs. Raises `ModuleNotFoundError` for what it lacks, `RuntimeError` if it does not come up."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        said = self._first_line()
        if not said.isdigit():
            self.kill()
            if said:
                raise ModuleNotFoundError(f"No module named {said!r}", name=said)
            raise RuntimeError(f"{' '.join(command[1:])} did not come up: it ended with {self._process.returncode}")
        self.port = int(said)

    def ended(self) -> int | None:
        """The code with which it ended, if it has."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask it to finish; the code with which it ended. One that does not finish in time is killed."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def _first_line(self) -> str:
        assert self._process.stdout is not None
        with self._process.stdout as said:
            return said.readline().strip()


@contextmanager
def serving(name: str) -> Generator[Server]:
    """The server of this name in `apps.py`, until the block is left."""
    server = Server("benchmarks.serve", name)
    try:
        yield server
    finally:
        server.kill()
