"""Where the figures come from: the machine, its load, the versions; and where on it a process may run."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

Placement: TypeAlias = Literal["free", "pinned"]

PACKAGES = (
    "hybrid-compute",
    "numpy",
    "numba",
    "wasmtime",
    "wgpu",
    "uvloop",
    "anyio",
    "loky",
    "joblib",
    "psutil",
    "msgspec",
    "cloudpickle",
    "uvicorn",
    "starlette",
    "fastapi",
    "aiohttp",
)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if can_pin() else os.cpu_count() or 1


def can_pin() -> bool:
    return hasattr(os, "sched_setaffinity")


def pin_to_one_core() -> None:
    """Keep this process, and all children it will have, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def facts() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": cores(),
        "load average": load_average(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "node": _node_version(),
        "packages": {package: _version(package) for package in PACKAGES},
        "gpus": _gpus(),
        "placements": "free and pinned to one core" if can_pin() else "free (this system cannot pin a process)",
    }


def load_average() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else []


def pss(process: int) -> float:
    """Megabytes that a process has to itself, and its share of those it shares with others."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"the kernel tells no PSS of process {process}")


def cpu_seconds(process: int) -> float:
    """Seconds that the main thread of a process has run so far, whatever else the machine did meanwhile."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    """Each with its driver; none without wgpu."""
    if _version("wgpu") is None:
        return []
    from hybrid_compute.gpu.adapters import adapters

    return [str(each) for each in adapters()]


def _node_version() -> str | None:
    node = shutil.which("node")
    if node is None:
        return None
    return subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
