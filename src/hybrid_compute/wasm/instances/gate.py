"""The one way into a sandbox that is kept: for one thread at a time, and only while it is fit to be entered."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from threading import get_ident

from hybrid_compute.wasm.instances.arrays import closed
from hybrid_compute.wasm.instances.live import LiveGuest
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.stack import Stack, here
from hybrid_compute.wasm.trap import Trap
from hybrid_compute.wasm.watch import leashes


class Gate:
    """A lock that threads wait for, before a guest.

    It refuses the thread that holds it already, which would wait for ever.
    """

    def __init__(self, guest: LiveGuest) -> None:
        self.guest = guest
        self.name = guest.name
        self.closed = False
        self.lock = threading.RLock()  # a handler may call this between the lock and what says whose it is
        self.owner: Stack | None = None
        """The thread that has passed, by its stack."""
        self.quick: Stack | None = None
        """The thread that may go the shortest way: nothing out of the ordinary has happened since it went the long."""
        self.safe = 0
        """Up to which recursion limit of Python its stack is large enough in any case."""
        self.leash = Leash()
        """What holds the calls that go the shortest way."""
        self.leash.tick, self.leash.late = guest.engine.tick, guest.late

    @contextmanager
    def turn(self) -> Generator[None]:
        """Its turn to use the guest has come for this thread. Raises `RuntimeError` if it was that already."""
        me = here.stack
        if self.owner == me:
            raise RuntimeError(f"{self.name} is used in the middle of its own call, by a host function or a handler")
        with self.lock:  # `with`, for an interrupt between `acquire` and what follows would leave it locked for ever
            self.owner = me
            try:
                yield
            finally:
                self.owner = None

    @contextmanager
    def calling(self, leash: Leash | None = None) -> Generator[LiveGuest]:
        """The guest, with a call under way. After it, this thread may go the shortest way."""
        with self.turn():
            guest = self.unspoiled()
            self.quick = None
            guest.begin(leash or Leash())
            try:
                yield guest
            finally:
                guest.end()
            if not guest.yielding:
                stack = here.stack
                self.safe, self.leash.thread = stack.safe_limit(guest.limits.stack), get_ident()
                self.quick = stack
                guest.leash = leashes[guest.number] = self.leash

    def close(self) -> None:
        with self.turn():
            self.closed, self.quick = True, None
            self.guest.finish()

    # The guest, for those who have passed.

    def alive(self) -> LiveGuest:
        """It may be in the middle of a call that was begun. Raises `BackendClosed` if it is no more."""
        if self.closed:
            raise closed(self.name)
        return self.guest

    def idle(self) -> LiveGuest:
        """It is in the middle of no call, but may be spoiled."""
        guest = self.alive()
        if guest.suspended is not None:
            raise RuntimeError(f"{self.name}: a call that was begun in it is not over: step() or cancel() it first")
        return guest

    def unspoiled(self) -> LiveGuest:
        """It takes calls."""
        guest = self.idle()
        if guest.spoiled:
            raise Trap(
                f"{self.name} was stopped in the middle of an earlier call, and its memory may be half written: "
                f"restore a snapshot, or open another instance"
            )
        return guest
