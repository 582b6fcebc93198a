"""Looks after something from time to time, as long as there is anything to look after.

In a thread of its own: an event loop may be held up by the very thing that is watched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Watch:
    """Calls `look`, which says after how many seconds to look again; None if that needs not be."""

    def __init__(self, look: Callable[[], float | None], name: str) -> None:
        self._look = look
        self._name = name
        self._lock = threading.RLock()  # what is found may itself be a reason to look again
        self._is_on = False
        self._ended = threading.Event()

    def begin(self, seconds: float) -> None:
        """There is something: look after so many seconds, unless that is going to be done anyway."""
        with self._lock:
            if self._is_on or self._ended.is_set():
                return
            try:
                threading.Thread(target=self._go_on, args=(seconds,), name=self._name, daemon=True).start()
            except RuntimeError:  # there are no more threads just now: the next one who asks tries again
                return
            self._is_on = True

    def end(self) -> None:
        """Never look again."""
        self._ended.set()

    def _go_on(self, seconds: float) -> None:
        left: float | None = seconds
        while left is not None and not self._ended.wait(left):
            with self._lock:  # between the look and the end of it nobody may rely on another
                left = None
                try:
                    left = self._look()
                finally:
                    self._is_on = left is not None
