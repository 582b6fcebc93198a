"""A module that a worker cannot import: it asks who its parent is."""

import os
from pathlib import Path

if "hybrid_compute.links" in Path(f"/proc/{os.getppid()}/cmdline").read_text().replace("\0", " "):
    raise RuntimeError("not in a worker")


def function() -> None:
    return None
