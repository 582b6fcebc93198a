"""Stopping guests: when their time is up, when their caller gives up, and at Ctrl-C.

A guest asks, at each turn of a loop and at each call, whether the epoch of its engine has gone on. If so, it calls
`asked` here, which lets it continue or stops it. So nothing needs to be set before a call, and any thread can stop a
guest: it says why on the guest's `Leash`, and moves the epoch.

One thread watches the time of all guests. It looks each few milliseconds while any guest runs, and sleeps otherwise.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from time import monotonic, sleep
from typing import Any

from hybrid_compute.wasm import capi
from hybrid_compute.wasm.leash import Leash

TICK = 0.005
"""Seconds between two looks: so late a guest may be stopped."""


class Watch:
    """The thread that looks at the time of all guests of this process."""

    def __init__(self) -> None:
        self.running: dict[int, Leash] = {}
        self.asleep = True
        self._due = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # the handler of a signal may call a guest while another one is woken for
        self._ended = False
        self._looking = threading.Lock()

    def wake(self) -> None:
        """There is a guest to watch. Called when `asleep`."""
        with self._lock:
            if self._thread is None:  # and not before it has been started: the system may have no more
                thread = threading.Thread(target=self._look, name="hybrid-compute-wasm-watch", daemon=True)
                thread.start()
                self._thread = thread
            self.asleep = False
            self._due.set()

    def end(self) -> None:
        """No engine is moved from now on: they are about to go. At the end of the program."""
        with self._looking:
            self._ended = True

    def forget(self) -> None:
        """In a forked child: there is no thread that watches, and of those who ran guests there is only this one.

        What is `running` stays what it is: the short ways into guests know it.
        """
        here = {number: leash for number, leash in self.running.items() if leash.thread == threading.get_ident()}
        self.running.clear()
        self.running.update(here)
        self.asleep, self._thread, self._due = True, None, threading.Event()
        self._lock, self._looking = threading.RLock(), threading.Lock()
        if here:  # it was forked by a function that a guest has called
            self.wake()

    def _look(self) -> None:
        turn = 0
        while True:
            while self.running:
                turn += 1
                with self._looking:
                    if self._ended:
                        return
                    for tick in overdue(self.running.copy().values(), monotonic(), for_signals=turn % 4 == 0):
                        tick()
                sleep(TICK)
            with self._lock:
                self._due.clear()
                self.asleep = True
            if not self.running:  # else one has come since, and may have seen us awake
                self._due.wait()
            self.asleep = False


def overdue(leashes: Iterable[Leash], now: float, *, for_signals: bool) -> set[Callable[[], object]]:
    """The engines to move: of guests whose time is up, and of one in the main thread, where signals are handled."""
    found: set[Callable[[], object]] = set()
    main = threading.main_thread().ident if for_signals else None
    for leash in leashes:
        if leash.tick is not None and (now >= leash.until or leash.error is not None or leash.thread == main):
            found.add(leash.tick)
    return found


watch = Watch()
leashes: dict[int, Leash] = {}
"""Of all guests that are alive, by their number."""


@capi.callback(capi.EpochCallback)
def asked(_context: Any, number: Any, delta: Any, kind: Any) -> int:
    """In the guest's thread: the epoch has gone on. A signal that waits is handled here, for this is Python.

    What its handler raises, `KeyboardInterrupt` above all, ends the guest, and is raised where it was called.
    """
    try:
        leash = leashes[number]
        if leash.may_go_on():
            delta[0], kind[0] = 1, 0
            return 0
    except BaseException as error:  # the handler of a signal has raised it
        leashes[number].stop(error)
    return capi.error_new(b"stopped") or 0


def stop_all() -> None:
    """At the end of the program. A guest must not come back to Python when Python is no more.

    One that waits in a function of the host comes back when that does: it is not waited for longer than a second.
    """
    end = monotonic() + 1.0
    while watch.running and monotonic() < end:
        for leash in list(watch.running.values()):
            leash.stop(SystemExit("the program has ended"))
        sleep(0.001)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watch.forget)
