"""Where compiled kernels run: the engines of wasmtime in a process, and the memory that all their code works on.

The C functions come from `wasm.capi`.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Any, NamedTuple, Protocol

import wasmtime

from hybrid_compute.kernels import limits, stacks
from hybrid_compute.kernels.copies import Copies
from hybrid_compute.kernels.memory import SIZE, LinearMemory, Memory
from hybrid_compute.wasm import capi, signals


class Kind(NamedTuple):
    """The ways in which code is made. Each has an engine."""

    interruptible: bool = True
    deterministic: bool = False
    metered: bool = False


class Closes(Protocol):
    """What has instances that were made here."""

    def close(self) -> None: ...


class Machine:
    """The engines of a process, and the memory that all their code works on."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory: Memory = memory if memory is not None else LinearMemory()
        self.copies = Copies()
        self._engines: dict[Kind, wasmtime.Engine] = {}
        self._lock = threading.Lock()
        self._signalled: list[BaseException] = []
        """What was raised where only C could have caught it."""
        self._creator = self._make_creator()
        self._programs: weakref.WeakSet[Closes] = weakref.WeakSet()
        atexit.register(self.close)

    def close(self) -> None:
        """At the end of the process: what wasmtime made goes while there is a wasmtime to take it back."""
        limits.tick_no_more()
        for program in list(self._programs):
            program.close()
        for engine in self._engines.values():
            engine.close()

    def add(self, program: Closes) -> None:
        self._programs.add(program)

    def engine(self, kind: Kind) -> wasmtime.Engine:
        with self._lock:
            if kind not in self._engines:
                self._engines[kind] = self._start(kind)
            return self._engines[kind]

    def instantiate(
        self, store: wasmtime.Store, module: wasmtime.Module, imports: list[wasmtime.Func]
    ) -> wasmtime.Instance:
        """An instance that works on our memory."""
        instance = wasmtime.Instance(store, module, imports)
        if self._signalled and threading.current_thread() is threading.main_thread():
            raise self._signalled.pop()
        return instance

    def after_fork(self) -> None:
        """In a child: locks that some thread of the parent held are free."""
        self._lock = threading.Lock()
        self.copies.after_fork()
        if isinstance(self.memory, LinearMemory):
            self.memory.after_fork()

    def _start(self, kind: Kind) -> wasmtime.Engine:
        config = wasmtime.Config()
        config.epoch_interruption = kind.interruptible
        config.consume_fuel = kind.metered
        config.cranelift_nan_canonicalization = kind.deterministic
        config.wasm_relaxed_simd = False
        config.max_wasm_stack = stacks.MOST
        config.memory_reservation = SIZE
        config.memory_guard_size = 1 << 16
        config.memory_may_move = False
        config.memory_init_cow = False
        config.parallel_compilation = False  # a kernel is small: threads would take longer to start
        capi.set_memory_creator(config, self._creator)
        signals.about_to_be_handled()
        engine = wasmtime.Engine(config)
        if kind.interruptible:
            limits.on_tick(engine.increment_epoch)
        return engine

    def _make_creator(self) -> Any:
        """Gives each instance the same memory. It is as large as it can be from the beginning, so it never grows.

        A signal may be handled while these functions begin. They do their work all the same: an instance without its
        memory would write anywhere.
        """
        base, signalled = self.memory.base, self._signalled

        @capi.callback(capi.GetMemory)
        def get(_env: Any, size: Any, most: Any) -> int:
            try:
                size[0] = most[0] = SIZE
            except BaseException as error:
                signalled.append(error)
                size[0] = most[0] = SIZE
            return base

        @capi.callback(capi.GrowMemory)
        def grow(_env: Any, _size: int) -> int:
            try:
                refusal: int = capi.error_new(b"the memory of kernels does not grow")
            except BaseException as error:
                signalled.append(error)
                refusal = capi.error_new(b"the memory of kernels does not grow")
            return refusal

        @capi.callback(capi.NewMemory)
        def new(_env: Any, _type: Any, _least: int, _most: int, _reserved: int, _guard: int, result: Any) -> int:
            try:
                made = result[0]
            except BaseException as error:
                signalled.append(error)
                made = result[0]
            made.env, made.get_memory, made.grow_memory, made.finalizer = None, get, grow, capi.NO_FINALIZER
            return 0

        creator: Any = capi.MemoryCreator()
        creator.env, creator.new_memory, creator.finalizer = None, new, capi.NO_FINALIZER
        self._kept = (get, grow, new)  # they are called as long as there is an engine
        return creator
