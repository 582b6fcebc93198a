"""Where this program runs, and what can hold an engine's state there besides the program itself."""

from __future__ import annotations

import sys
from typing import Literal, TypeAlias

Environment: TypeAlias = Literal["process", "browser"]
Mechanism: TypeAlias = Literal["process", "thread"]
"""What a worker is made of."""


def get_environment() -> Environment:
    """`"browser"` under Pyodide, else `"process"`: a program of an operating system."""
    return "browser" if sys.platform == "emscripten" else "process"


def supports_workers() -> bool:
    """Whether an engine can live in a worker here. In a browser that is yet to come."""
    return get_environment() == "process"
