"""What is common to all that runs under a leash: a store whose code asks, now and then, whether it may go on."""

from __future__ import annotations

import itertools
import os
import weakref
from ctypes import addressof, c_uint64
from functools import partial
from threading import get_ident
from time import monotonic

from hybrid_compute.errors import LimitExceeded
from hybrid_compute.wasm import capi, memories, signals, stack
from hybrid_compute.wasm.engines import Engine
from hybrid_compute.wasm.leash import NEVER, Leash
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.shield import shielded
from hybrid_compute.wasm.traps import exceeded
from hybrid_compute.wasm.watch import asked, leashes, watch

_numbers = itertools.count(1)
_ALL_FUEL = (1 << 63) - 1


class Held:
    """A store that is held by a leash between `begin` and `end`, in one thread. `store` and `context` are pointers."""

    _store: int | None = None

    def __init__(self, engine: Engine, limits: Limits, name: str) -> None:
        self.engine = engine
        self.limits = limits
        self.name = name
        self.number = next(_numbers)
        self.late = partial(_late, name, limits)
        self.process = os.getpid()
        self.leash = Leash()
        self.context = 0
        self._under_way = False

    def hold(self, store: int, context: int) -> None:
        """Once, before anything runs in the store: from now on it asks."""
        self._store, self.context = store, context
        alive.refs[self.number] = weakref.ref(self)
        leashes[self.number] = self.leash
        capi.epoch_callback(store, asked, self.number, capi.NO_FINALIZER)
        capi.set_epoch_deadline(context, 1)

    def begin(self, leash: Leash) -> None:
        """A call begins, in this thread: from here on the leash holds it, and it may use all that the limits give."""
        self.go_on(leash, self.limits.time)
        if self.engine.metered:
            capi.check(capi.set_fuel(self.context, self.all_fuel))

    @property
    def all_fuel(self) -> int:
        """How much fuel a call has, in an engine that uses any."""
        return _ALL_FUEL if self.limits.fuel is None else self.limits.fuel

    def go_on(self, leash: Leash, seconds: float | None) -> None:
        """A call that has begun goes on, in this thread, with the fuel that it has left and for so long at most."""
        signals.insist_on_handlers()
        stack.take(self.limits.stack)
        self._under_way = True
        leash.begin(NEVER if seconds is None else monotonic() + seconds, self.late)
        leash.thread = get_ident()
        self.leash = leashes[self.number] = leash
        leash.tick = self.engine.tick
        watch.running[self.number] = leash
        if watch.asleep:
            watch.wake()

    def end(self) -> None:
        """The call is over. `begin` and `end` may follow each other many times."""
        watch.running.pop(self.number, None)
        if self._under_way:
            self._under_way = False
            stack.give_back(self.limits.stack)

    def close(self) -> None:
        """Give everything back. Harmless when repeated."""
        store, self._store = self._store, None
        if store is not None:
            if self.process == os.getpid():  # else a thread of the parent may have been in the midst of it
                capi.store_delete(store)
            self.end()
            leashes.pop(self.number, None)
            alive.refs.pop(self.number, None)

    def finish(self) -> None:
        """`close` it, and raise what the handler of a signal has raised meanwhile."""
        self.close()
        if interruption := memories.interruption():
            raise interruption

    @shielded
    def __del__(self) -> None:
        try:
            self.close()
        except BaseException as error:  # the handler of a signal has raised it, and here nobody would hear
            memories.signalled.append(error)
            self.close()

    @property
    def fuel(self) -> int:
        """How much of the fuel of this call is left."""
        left = c_uint64()
        capi.check(capi.get_fuel(self.context, addressof(left)))
        return left.value


class _Alive:
    """All there are, by their number: host functions find by it who calls them.

    Each takes itself away when it is closed: by a callback of weak references, an interrupt in that would be lost.
    """

    def __init__(self) -> None:
        self.refs: dict[int, weakref.ref[Held]] = {}

    def __getitem__(self, number: int) -> Held:
        found = self.refs[number]()
        assert found is not None, "what calls is alive"
        return found

    def values(self) -> list[Held]:
        return [held for each in list(self.refs.values()) if (held := each()) is not None]


alive = _Alive()


def _late(name: str, limits: Limits) -> LimitExceeded:
    # No method: leashes would hold by it what they are to hold only as long as it lives.
    return exceeded(name, "time", f"{limits.time:g} s", "ran for longer")
