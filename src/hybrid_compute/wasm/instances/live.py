"""A guest that stays: it may be called many times, left in the middle of a call, and looked into."""

from __future__ import annotations

from hybrid_compute.wasm import capi, memories
from hybrid_compute.wasm.guest import Guest
from hybrid_compute.wasm.instances.suspended import FunctionType, Suspended
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.program import Program
from hybrid_compute.wasm.slots import Slot

AT_ONCE = 0
"""As an interval of fuel: never yield."""


class LiveGuest(Guest):
    """A guest that is kept by somebody.

    Once it has been told to yield, wasmtime takes calls of it only in the way that can be suspended: so they all go
    that way from then on, whether they yield or not.
    """

    def __init__(self, program: Program, *, shared: bool) -> None:
        self.suspended: Suspended | None = None
        self.yielding = False
        self._types: dict[int, FunctionType] = {}
        super().__init__(program, Leash(), shared=shared)
        self.end()

    def export(self, name: bytes, kind: int) -> int:
        address = super().export(name, kind)
        if kind == capi.EXTERN_FUNC and address not in self._types:
            self._types[address] = FunctionType(*self.program.function_type(name.decode()))
        return address

    def call(self, function: int, values: int, count: int) -> None:
        if self.yielding:
            self.suspend(function, values, AT_ONCE)
            while not self.resume():
                pass
        else:
            super().call(function, values, count)

    def suspend(self, function: int, values: int, interval: int) -> None:
        """Call a function so that it yields after each `interval` units of fuel, and has not begun to run yet."""
        self.yielding = True
        capi.check(capi.fuel_yield_interval(self.context, interval))
        if self.engine.metered:
            capi.check(capi.set_fuel(self.context, self.all_fuel))  # its intervals are counted from here
        self.suspended = Suspended(self.context, function, self._types[function], values)

    def resume(self) -> bool:
        """Let it run until it yields; True if it is over. Raises what goes wrong in there, and then it is over too."""
        suspended = self.suspended
        assert suspended is not None
        if not suspended.poll():
            if interruption := memories.interruption():
                self.abandon()
                raise interruption
            return False
        self.suspended = None
        error, self.trap.value = suspended.failure()
        self.check(error)
        return True

    def abandon(self) -> None:
        """A call that is suspended is not taken up again."""
        suspended, self.suspended = self.suspended, None
        if suspended is not None:
            self.spoiled = True
            suspended.drop()

    def close(self) -> None:
        self.abandon()
        super().close()

    def slot(self) -> Slot | None:
        """The block that its exported `memory` is; None if it exports none, or wasmtime has made it."""
        if all(each.name != "memory" for each in self.program.module.exports):
            return None
        base = capi.memory_data(self.context, self.export(b"memory", capi.EXTERN_MEMORY))
        return next((each for each in self.room.slots if each.base == base), None)
