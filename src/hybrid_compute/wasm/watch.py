"""Stopping guests: when their time is up, when their caller gives up, and at Ctrl-C.

A guest asks, at each turn of a loop and at each call, whether the epoch of its engine has gone on. If so, it calls
`_asked` here, which lets it continue or stops it. So nothing needs to be set before a call, and any thread can stop a
guest: it says why on the guest's `Leash`, and moves the epoch.

One thread watches the time of all guests. It looks each few milliseconds while any guest runs, and sleeps otherwise.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from hybrid_compute.wasm import capi

TICK = 0.005
"""Seconds between two looks: so late a guest may be stopped."""
_NEVER = float("inf")


class Leash:
    """What holds one call: why it is to stop, if it is; until when it may run; and how to make it look.

    Any thread may `stop` it, before it begins, while it runs, or after: then nothing happens.
    """

    __slots__ = ("error", "late", "main", "tick", "until")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.until = _NEVER
        self.late: Callable[[], BaseException] | None = None
        self.tick: Callable[[], object] | None = None
        self.main = False

    def stop(self, error: BaseException) -> None:
        """Have the guest end with this error, if it has not ended yet."""
        if self.error is None:
            self.error = error
        if self.tick is not None:
            self.tick()

    def taken(self) -> BaseException | None:
        """The error, which is raised now and never again."""
        error, self.error = self.error, None
        return error

    def may_go_on(self) -> bool:
        """Whether the guest that asks may continue; if not, `error` says why."""
        if self.error is None and monotonic() >= self.until and self.late is not None:
            self.error = self.late()
        return self.error is None


class Watch:
    """The thread that looks at the time of all guests of this process."""

    def __init__(self) -> None:
        self.running: dict[int, Leash] = {}
        self.asleep = True
        self._due = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def wake(self) -> None:
        """There is a guest to watch. Called when `asleep`."""
        with self._lock:
            self.asleep = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="hybrid-compute-wasm-watch", daemon=True)
                self._thread.start()
            self._due.set()

    def _look(self) -> None:
        turn = 0
        while True:
            while self.running:
                turn += 1
                for tick in overdue(self.running.copy().values(), monotonic(), for_signals=turn % 4 == 0):
                    tick()
                sleep(TICK)
            with self._lock:
                self._due.clear()
                self.asleep = True
            if not self.running:  # else one has come since, and may have seen us awake
                self._due.wait()
            self.asleep = False


def overdue(leashes: Any, now: float, *, for_signals: bool) -> set[Callable[[], object]]:
    """The engines to move: of guests whose time is up, and of one in the main thread, where signals are handled."""
    found: set[Callable[[], object]] = set()
    for leash in leashes:
        if leash.tick is not None and (now >= leash.until or leash.error is not None or (for_signals and leash.main)):
            found.add(leash.tick)
    return found


watch = Watch()
leashes: dict[int, Leash] = {}
"""Of all guests that are alive, by their number."""


@capi.EpochCallback
def asked(_context: Any, number: Any, delta: Any, kind: Any) -> int:
    """In the guest's thread: the epoch has gone on. A signal that waits is handled here, for this is Python."""
    try:
        leash = leashes[number]
        if leash.may_go_on():
            delta[0], kind[0] = 1, 0
            return 0
    except BaseException as error:  # the handler of a signal has raised it
        leashes[number].stop(error)
    return capi.error_new(b"stopped") or 0


def _forget() -> None:
    """In a forked child there is no thread that watches, and no guest that runs."""
    watch.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
