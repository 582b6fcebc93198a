"""Names for those who share a file, and whether the bearer of a name still lives.

All who have a database of ours open share its memory, so they run under one kernel: a process is known by its id, the
time of its start and the namespace that its id belongs to.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

_numbers = itertools.count(1)


def new_name() -> str:
    """A name for somebody in this process, unlike any other."""
    return f"{_here()} {os.getpid()} {_started(os.getpid())} {next(_numbers)} {os.urandom(4).hex()}"


def alive(name: str) -> bool | None:
    """Whether the process with this name runs. None where that cannot be known from here."""
    here, pid, started, *_ = name.split(" ")
    if here == "unknown" or here.partition("/")[0] != _here().partition("/")[0]:
        return None if here == "unknown" else False  # the machine was started anew
    if here != _here() or pid == str(os.getpid()):  # in a container of its own; or here, where one of many may be gone
        return None
    return _started(int(pid)) == started


def _here() -> str:
    """This start of the machine, and the processes that this one can see."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "unknown"


def _started(pid: int) -> str:
    """When a process was started, as its system counts; nothing if it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
