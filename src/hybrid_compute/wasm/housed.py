"""What is common to modules and components that are alive: memories of ours, and what they may have of it all."""

from __future__ import annotations

from hybrid_compute.errors import BackendUnavailable, LimitExceeded
from hybrid_compute.wasm.engines import Engine
from hybrid_compute.wasm.held import Held
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.limits import Limits, in_units
from hybrid_compute.wasm.slots import Room
from hybrid_compute.wasm.traps import exceeded

MOST_TABLES = MOST_MEMORIES = 8
"""Of one guest. Compilers make one of each."""
MOST_INSTANCES = 32
"""Of the modules in a component: their globals and functions are in no linear memory, so nothing else limits them."""


class Housed(Held):
    """A guest with a room of its own."""

    instantiated = False
    """Whether what goes wrong now is not that it could not be made."""

    def __init__(self, engine: Engine, limits: Limits, name: str, *, shared: bool = False) -> None:
        super().__init__(engine, limits, name)
        self.room = Room(limits.memory, self._hoards, shared=shared)
        self.host_calls = 0

    def begin(self, leash: Leash) -> None:
        self.host_calls = 0
        self.room.denied = None
        super().begin(leash)

    def count_host_call(self) -> None:
        """It calls a function of the host. Raises `LimitExceeded` if it has done so too often."""
        limit = self.limits.host_calls
        self.host_calls += 1
        if limit is not None and self.host_calls > limit:
            raise exceeded(self.name, "host_calls", str(limit), "called functions of the host more often")

    def too_large(self, text: str) -> LimitExceeded | BackendUnavailable | None:
        """The error for a guest that asks for too much from the beginning, if it is that what wasmtime says."""
        if isinstance(self.room.denied, BackendUnavailable):
            return self.room.denied
        if "table minimum size" in text:
            return exceeded(self.name, "table", f"{self.limits.table} elements", "asks for more from the beginning")
        if "count too high" in text:
            most = f"{MOST_TABLES} tables, {MOST_MEMORIES} memories or {MOST_INSTANCES} instances"
            reason = f"{self.name} asks for more than {most}"
            return LimitExceeded(f"{reason}: {text.splitlines()[-1].strip()}", backend="wasm", started=True)
        if self.room.denied is not None:
            wanted = in_units(self.room.denied)
            return exceeded(self.name, "memory", in_units(self.limits.memory), f"asks for {wanted} from the beginning")
        return None

    def _hoards(self) -> None:
        denied, limit = self.room.denied, in_units(self.limits.memory)
        wanted = in_units(denied) if isinstance(denied, int) else "more than the system has"
        self.leash.stop(exceeded(self.name, "memory", limit, f"asked for {wanted}, again and again"))
