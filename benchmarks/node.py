"""Bare Node worker_threads, measured by Node itself with the scripts of this folder."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.measure import Effort, Series


def node_calls(effort: Effort, *, workers: int = 1, together: int = 1) -> Series:
    """The time per call when `together` calls are sent at once to `workers` threads in turn."""
    return _measured("node.mjs", effort, workers, together)


def node_actions(effort: Effort, verb: str, *, cards: int, together: int = 1) -> Series:
    """The time per action when `together` are sent at once to the thread that has a stack of so many cards."""
    return _measured("engine.mjs", effort, verb, cards, together)


def _measured(script: str, effort: Effort, *settings: str | int) -> Series:
    node = shutil.which("node")
    if node is None:
        raise ModuleNotFoundError("node is not installed", name="node")
    command = [node, str(Path(__file__).with_name(script)), *map(str, (*settings, effort.calls, effort.seconds))]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Series.of(json.loads(told), "us")
