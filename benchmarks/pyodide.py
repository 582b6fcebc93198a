"""Pyodide in Node, for comparison: another CPython in WebAssembly, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def command(what: str, program: str, calls: int = 0, seconds: float = 0.0) -> list[str]:
    """The command that runs this program in it. Raises `ModuleNotFoundError` if node or the package is not there.

    `PYODIDE` names the folder of the npm package; else it is looked for among those that npm keeps for all.
    """
    node = shutil.which("node")
    if node is None:
        raise ModuleNotFoundError("node is not installed", name="node")
    script = Path(__file__).with_name("pyodide.mjs")
    return [node, str(script), str(_package()), what, str(calls), str(seconds), program]


def _package() -> Path:
    named = os.environ.get("PYODIDE")
    found = Path(named) if named else _of_all() / "pyodide"
    if not (found / "pyodide.mjs").is_file():
        raise ModuleNotFoundError(f"there is no pyodide at {found}", name="pyodide (npm)")
    return found


def _of_all() -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise ModuleNotFoundError("npm is not installed", name="npm")
    return Path(subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=True).stdout.strip())
