"""One kernel, compiled; and the instances of it, each of which serves one call at a time.

A program lends the instances it has to whoever calls, in any thread, and makes another one when all are in use. They
are called without the detours of wasmtime's Python classes. The GIL is released while a kernel runs.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import ctypes
from collections.abc import Callable
from sys import getrecursionlimit
from typing import TYPE_CHECKING, Any

import wasmtime

from hybrid_compute.errors import LimitExceeded
from hybrid_compute.kernels import limits, stacks
from hybrid_compute.kernels.machine import Kind, Machine
from hybrid_compute.kernels.options import Options
from hybrid_compute.kernels.prelude import HOST
from hybrid_compute.wasm import capi, signals
from hybrid_compute.wasm.stack import occupied

if TYPE_CHECKING:
    from hybrid_compute.kernels.emit import Module


class Program:
    """One kernel, compiled."""

    def __init__(self, machine: Machine, module: Module, options: Options, parameters: int, name: str) -> None:
        self.machine = machine
        self.name = name
        self.sites = module.sites
        self.hosts = module.hosts
        self.interruptible = options.interruptible
        self.fuel = options.fuel
        self.size = 16 * max(1, parameters)
        self.engine = machine.engine(Kind(options.interruptible, options.deterministic, options.fuel is not None))
        self.module = wasmtime.Module(self.engine, bytes(wasmtime.wat2wasm(module.text)))
        self._idle: list[Instance] = []
        machine.add(self)

    def lend(self) -> Instance:
        """An instance that nobody else uses until it is put back."""
        if getrecursionlimit() > stacks.thread.safe or occupied:
            stacks.insist()
        signals.insist_on_handlers()
        try:
            return self._idle.pop()  # the last one: what it works with is in the cache of the processor
        except IndexError:
            return Instance(self)

    def put_back(self, instance: Instance) -> None:
        self._idle.append(instance)

    def close(self) -> None:
        """Give up all instances that nobody uses."""
        while self._idle:
            self._idle.pop().close()
        self.module.close()


class Instance:
    """A program that can be called. Arguments and results are in `slots`, 16 bytes for each."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._store = store = wasmtime.Store(program.engine)
        self._context: int = capi.store_context(capi.pointer(store))
        self._error: BaseException | None = None
        self._callbacks: list[Any] = []
        self._ticks = 0
        if program.interruptible:
            self._look_up_in_time()
        imports = [self._host(*HOST[name]) for name in program.hosts]
        exports = program.machine.instantiate(store, program.module, imports).exports(store)
        function = exports["run"]
        assert isinstance(function, wasmtime.Func)
        self._function = function._func
        self._globals = {name: exports[name] for name in ("site", "index", "length")}
        self.slots = ctypes.create_string_buffer(program.size)
        self._trap = ctypes.c_void_p()
        self._arguments = (
            self._context,
            ctypes.addressof(self._function),
            ctypes.addressof(self.slots),
            program.size // 16,
            ctypes.addressof(self._trap),
        )

    def run(self) -> None:
        """Run it on what is in the slots. Raises what the kernel's source would, and what a limit or a signal does."""
        ticks = limits.ticks(self._program.name)
        if self._program.interruptible:
            self._wind(ticks)
        if self._program.fuel is not None:
            capi.check(capi.set_fuel(self._arguments[0], self._program.fuel))
        error = capi.func_call(*self._arguments)
        if error or self._trap.value:
            raise self._failure(error)

    def close(self) -> None:
        self._store.close()

    # Interruptions.

    def _wind(self, ticks: int) -> None:
        """Set the epoch at which the kernel looks up.

        Who looks up often need not be told so again: if the last time was long ago, it looks up once more than needed.
        """
        if ticks != limits.FOREVER:
            limits.keep_ticking()
        if ticks != self._ticks or ticks not in (limits.OFTEN, limits.FOREVER):
            self._store.set_epoch_deadline(ticks)
            self._ticks = ticks

    def _look_up_in_time(self) -> None:
        name = self._program.name

        @capi.callback(capi.EpochCallback)
        def look(_context: Any, _data: Any, ticks: Any, _kind: Any) -> int:
            try:
                ticks[0] = limits.ticks(name, begun=True)
                limits.keep_ticking()
            except BaseException as error:  # also what the handler of a signal raises, and where it does
                self._error = error
                refusal: int = capi.error_new(b"stopped")
                return refusal
            return 0

        capi.epoch_callback(capi.pointer(self._store), look, None, capi.NO_FINALIZER)
        self._callbacks.append(look)

    # Failures.

    def _failure(self, error: int | None) -> BaseException:
        """The exception for what has gone wrong."""
        raised, self._error = self._error, None
        if error:  # a function of ours has failed, or else nobody knows what
            unknown = capi.taken_error(error)
            if raised is None:
                return unknown
            raised.add_note(f"in the kernel {self._program.name}")
            return raised
        code = capi.taken_trap(self._trap.value or 0).trap_code
        self._trap.value = None
        if code == wasmtime.TrapCode.STACK_OVERFLOW:
            return RecursionError(
                f"the kernel {self._program.name} calls itself too deeply: it has {stacks.MOST >> 10} KiB"
            )
        if code == wasmtime.TrapCode.OUT_OF_FUEL:
            return LimitExceeded(
                f"the kernel {self._program.name} used up its fuel, {self._program.fuel} units", started=True
            )
        return self._blamed(code)

    def _blamed(self, code: wasmtime.TrapCode | None) -> Exception:
        number = self._value("site")
        if not 0 < number <= len(self._program.sites):
            named = "no code" if code is None else code.name
            return RuntimeError(f"the kernel {self._program.name} came to a trap ({named}) by a bug of the compiler")
        site = self._program.sites[number - 1]
        error = site.error(site.text.format(index=self._value("index"), length=self._value("length")))
        error.add_note(f"in a kernel, {site.where}")
        self._globals["site"].set_value(self._store, 0)  # type: ignore[union-attr]
        return error

    def _value(self, name: str) -> int:
        value: int = self._globals[name].value(self._store)  # type: ignore[union-attr]
        return value

    # Functions of Python's.

    def _host(self, function: Callable[..., float], letters: str) -> wasmtime.Func:
        """A function of Python's that the kernel may call. What it raises waits until the kernel has been left."""
        fields = ["f64" if letter == "f" else "i64" for letter in letters]

        @capi.callback(capi.SlotsFunction)
        def call(_env: Any, _caller: Any, values: Any, _count: int) -> int:
            try:
                values[0].f64 = function(*[getattr(values[index], field) for index, field in enumerate(fields)])
            except BaseException as error:
                self._error = error
                trap: int = capi.trap_new(b"host", 4)
                return trap
            return 0

        types = {"f": wasmtime.ValType.f64, "i": wasmtime.ValType.i64}
        type = wasmtime.FuncType([types[letter]() for letter in letters], [wasmtime.ValType.f64()])
        self._callbacks.append(call)
        return capi.new_function(self._context, type, call)
