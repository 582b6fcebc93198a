"""Servers in processes of their own, which a test may kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.server.talking import PATIENCE


@dataclass(frozen=True, slots=True)
class Started:
    """A server in a process, and where it listens."""

    process: subprocess.Popen[str]
    port: int

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE)


@contextmanager
def started(notebook: Path | str = "") -> Generator[Started]:
    """A server of `tasks` in a process, until the block is left."""
    command = [sys.executable, "-m", "tests.server.programs", str(notebook)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Started(process, int(process.stdout.readline()))
        finally:
            process.kill()
