"""A guest: one sandbox that is alive. It has a store, an instance and memories, and serves one thread at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import addressof, c_void_p, create_string_buffer
from typing import TYPE_CHECKING

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.wasm import capi, memories, slots, tables
from hybrid_compute.wasm.denials import DeniedElements
from hybrid_compute.wasm.held import alive
from hybrid_compute.wasm.housed import MOST_MEMORIES, MOST_TABLES, Housed
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.names import shown_text
from hybrid_compute.wasm.preview1.process import Process
from hybrid_compute.wasm.trap import Trap
from hybrid_compute.wasm.traps import Denied, explain, explain_text

if TYPE_CHECKING:
    from hybrid_compute.wasm.program import Program


class Guest(Housed):
    """A program, instantiated, with a call under way. `close` it, or leave it to the garbage collector."""

    spoiled = False
    """Whether something went wrong in it: its memory may be half written."""

    def __init__(self, program: Program, leash: Leash, system: Process | None = None, *, shared: bool = False) -> None:
        super().__init__(program.engine, program.limits, program.name, shared=shared)
        self.program = program
        self.system = system
        """What it takes for its process, if it has WASI."""
        self.trap = c_void_p()
        self.trap_at = addressof(self.trap)
        self._memory: int | None = None
        self._wanted: DeniedElements | None = None
        self._exports: dict[bytes, tuple[object, int]] = {}
        self._instance = create_string_buffer(capi.INSTANCE_SIZE)
        store: int = capi.store_new(program.engine.pointer, self.number, None)
        try:
            self.hold(store, capi.store_context(store))
            if system is None and program.wasi is not None:
                self.system = Process(program.name, program.limits, program.wasi)
            memory = -1 if slots.own else self.limits.memory
            capi.store_limiter(store, memory, self.limits.table, 1, MOST_TABLES, MOST_MEMORIES)
            self.begin(leash)
            before = memories.making(self.room)
            try:
                self._enter(capi.pre_instantiate, program.pre, self.context, addressof(self._instance), self.trap_at)
            finally:
                memories.making(before)
            self.instantiated = True
            if program.tells:
                at = self.export(tables.WANTED.encode(), capi.EXTERN_GLOBAL)
                self._wanted = DeniedElements(self.context, at, self.limits.table)
            if program.initializes:
                nothing = create_string_buffer(capi.SLOT)
                self.call(self.export(b"_initialize", capi.EXTERN_FUNC), addressof(nothing), 1)
        except BaseException:
            self.close()
            raise

    def begin(self, leash: Leash) -> None:
        if self._wanted is not None:
            self._wanted.forget()
        if self.system is not None:
            self.system.begin()
        super().begin(leash)

    def call(self, function: int, values: int, count: int) -> None:
        """Call an exported function; arguments are in, and results come to, `count` slots at the address `values`."""
        self._enter(capi.func_call, self.context, function, values, count, self.trap_at)

    def close(self) -> None:
        was_there = self._store is not None
        super().close()
        if was_there and self.system is not None:
            self.system.close()

    # What it exports.

    def export(self, name: bytes, kind: int) -> int:
        """The address of an exported function or memory. Raises `Trap` if there is none of that kind."""
        known = self._exports.get(name)
        if known is None:
            extern = create_string_buffer(capi.EXTERN_SIZE)
            found = capi.export_get(self.context, addressof(self._instance), name, len(name), addressof(extern))
            if not found or extern.raw[0] != kind:
                raise Trap(f"{self.name}: the module exports no {_KINDS[kind]} {name.decode()!r}")
            known = self._exports[name] = extern, addressof(extern) + capi.EXTERN_VALUE
        return known[1]

    # Its memory.

    def view(self, offset: int, size: int) -> int:
        """The address of these bytes of its memory `memory`. Raises `Trap` if they are not all in it."""
        if self._memory is None:
            self._memory = self.export(b"memory", capi.EXTERN_MEMORY)
        length = capi.memory_size(self.context, self._memory)
        if not 0 <= offset <= offset + size <= length:
            raise Trap(f"{self.name} names {size} bytes at {offset}, and its memory has {length}")
        base: int = capi.memory_data(self.context, self._memory)
        return base + offset

    def read(self, offset: int, size: int) -> bytes:
        """A copy of these bytes."""
        return ctypes.string_at(self.view(offset, size), size) if size else b""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copy these bytes to its memory."""
        at = self.view(offset, len(data))
        if isinstance(data, bytes):
            ctypes.memmove(at, data, len(data))
        else:
            memoryview((ctypes.c_char * len(data)).from_address(at)).cast("B")[:] = data

    # What goes wrong.

    def _enter(self, enter: Callable[..., int | None], *arguments: object) -> None:
        """Enter the guest by a function of the C API. Raises what goes wrong in there."""
        told = self.leash.taken()
        if told is not None:  # before it began
            raise told
        error = enter(*arguments)
        if error or self.trap.value or memories.signalled:
            self.check(error)

    def check(self, error: int | None) -> None:
        """Raise what went wrong, if anything did."""
        if error or self.trap.value:
            raise self.failure(error)
        if interruption := memories.interruption():
            self.spoiled = True
            raise interruption

    def failure(self, error: int | None) -> BaseException:
        """What to raise for an error of the C API, or for the trap that has come."""
        self.spoiled = True
        failed = self._failure(error)
        return failed if self.system is None else self.system.explain(failed)

    def _denied(self) -> Denied | BackendUnavailable | None:
        """What it asked for in vain, before it failed."""
        return self.room.denial or (self._wanted.denial() if self._wanted is not None else None)

    def _failure(self, error: int | None) -> BaseException:
        told = self.leash.taken() or memories.interruption()
        trap = capi.taken_trap(self.trap.value) if self.trap.value else None
        self.trap.value = None
        failed = capi.taken_error(error) if error else None
        if told is not None:
            return told
        if trap is not None:
            return explain(trap, self.name, self.limits, self._denied())
        text = str(failed)
        if self.instantiated:
            return explain_text(text, self.name, self.limits, self._denied())
        return self.too_large(text) or Trap(f"{self.name} could not be instantiated: {shown_text(text)}")


_KINDS = {0: "function", 1: "global", 2: "table", 3: "memory"}


def calling(caller: int) -> Guest:
    """The guest that calls a function of the host."""
    guest = alive[capi.context_data(capi.caller_context(caller))]
    assert isinstance(guest, Guest)
    return guest
