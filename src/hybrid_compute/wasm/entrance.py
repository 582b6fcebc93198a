"""The door of a guest that a thread keeps. Here is only where it is kept; `quick.py` makes the short way through it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

NOT_HERE = object()
"""In place of a result: go the long way."""


class Entrance(threading.local):
    """A function from arguments to the result of the guest that this thread keeps, or to `NOT_HERE`; None without."""

    enter: Callable[..., Any] | None = None
