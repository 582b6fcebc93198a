"""The command `hybrid-compute`: it turns strings into objects, calls the floors below, and turns errors into one line.

    app.py       what is typed, and what becomes of an error
    exits.py     the exit codes
    targets.py   MODULE:TASK -> a task
    streams.py   lines in, answers out
    screen.py    what a person sees

and one file for each command: `demo`, `run`, `map`, `serve`, `mcp`, `tasks`, `doctor`, `bench`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of this process; the exit code. See `exits.py` for what it means."""
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        needed = " and ".join(missing)
        print(f"hybrid-compute: the command line needs {needed}: install hybrid-compute[cli]", file=sys.stderr)
        return 2
    try:
        from hybrid_compute.cli.app import perform

        code = perform(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # before, or after, anything that could be interrupted in order
        print("hybrid-compute: interrupted", file=sys.stderr)
        code = 130
    _leave(code)
    return code


def _leave(code: int) -> None:
    """Leave at once if a task still runs in a thread: it cannot be stopped, and Python would wait for it."""
    others = [each for each in threading.enumerate() if each is not threading.current_thread() and not each.daemon]
    if others:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
