"""Bare Node worker_threads, measured by Node itself with `node.mjs`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.measure import Effort, Series


def node_calls(effort: Effort, *, workers: int = 1, together: int = 1) -> Series:
    """The time per call when `together` calls are sent at once to `workers` threads in turn."""
    node = shutil.which("node")
    if node is None:
        raise ModuleNotFoundError("node is not installed", name="node")
    script = Path(__file__).with_suffix(".mjs")
    settings = (workers, together, effort.calls, effort.seconds)
    command = [node, str(script), *map(str, settings)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Series.of(json.loads(told), "us")
