"""Where compiled kernels run: wasmtime, called without the detours of its Python classes.

An `Instance` serves one call at a time; a program lends those it has to whoever calls, in any thread, and makes another
one when all are in use. The GIL is released while a kernel runs.

The C functions and their types come from `wasmtime._bindings`, which is part of the package but not of its promises:
the tests notice when it changes.
"""

# What wasmtime keeps to itself is used here, and nowhere else.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import atexit
import contextlib
import ctypes
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import wasmtime
from wasmtime import _bindings as c

from hybrid_compute.errors import BackendUnavailable, TaskTimeout
from hybrid_compute.kernels import limits
from hybrid_compute.kernels.memory import SIZE, LinearMemory, Memory
from hybrid_compute.kernels.prelude import HOST

if TYPE_CHECKING:
    from hybrid_compute.kernels.emit import Module

_STACK = 256 << 10
_ROOM = 512 << 10
"""What a thread's stack must have: if it were smaller than what a kernel may use, an endless recursion would not be a
trap but the end of the process."""

_library: Any = vars(c)["dll"]
_call: Any = _library["wasmtime_func_call_unchecked"]  # a function of our own: others may give theirs other types
_call.restype = ctypes.c_void_p
_call.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_size_t, ctypes.c_void_p]

_OVERFLOW, _INTERRUPT = 0, 10  # of wasmtime_trap_code_enum


def _callback(type: Any) -> Callable[[Callable[..., object]], Any]:
    """A function of Python's that C can call."""

    def make(function: Callable[..., object]) -> Any:
        return type(function)

    return make


class Kind(NamedTuple):
    """The ways in which code is made. Each has an engine."""

    interruptible: bool = True
    deterministic: bool = False


class Machine:
    """The engines of a process, and the memory that all their code works on."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory: Memory = memory if memory is not None else LinearMemory()
        self._engines: dict[Kind, wasmtime.Engine] = {}
        self._lock = threading.Lock()
        self._creator = self._make_creator()
        self._programs: weakref.WeakSet[Program] = weakref.WeakSet()
        atexit.register(self.close)

    def close(self) -> None:
        """At the end of the process: what wasmtime made goes while there is a wasmtime to take it back."""
        for program in list(self._programs):
            program.close()
        for engine in self._engines.values():
            engine.close()

    def add(self, program: Program) -> None:
        self._programs.add(program)

    def engine(self, kind: Kind) -> wasmtime.Engine:
        with self._lock:
            if kind not in self._engines:
                self._engines[kind] = self._start(kind)
            return self._engines[kind]

    def after_fork(self) -> None:
        """In a child: locks that some thread of the parent held are free."""
        self._lock = threading.Lock()
        if isinstance(self.memory, LinearMemory):
            self.memory.after_fork()

    def _start(self, kind: Kind) -> wasmtime.Engine:
        config = wasmtime.Config()
        config.epoch_interruption = kind.interruptible
        config.cranelift_nan_canonicalization = kind.deterministic
        config.wasm_relaxed_simd = False
        config.max_wasm_stack = _STACK
        config.memory_reservation = SIZE
        config.memory_guard_size = 1 << 16
        config.memory_may_move = False
        config.memory_init_cow = False
        config.parallel_compilation = False  # a kernel is small: threads would take longer to start
        c.wasmtime_config_host_memory_creator_set(config.ptr(), ctypes.byref(self._creator))
        engine = wasmtime.Engine(config)
        if kind.interruptible:
            limits.on_tick(engine.increment_epoch)
        return engine

    def _make_creator(self) -> Any:
        """Gives each instance the same memory. It is as large as it can be from the beginning, so it never grows."""
        base = self.memory.base

        @_callback(c.wasmtime_memory_get_callback_t)
        def get(_env: Any, size: Any, most: Any) -> int:
            size[0] = most[0] = SIZE
            return base

        @_callback(c.wasmtime_memory_grow_callback_t)
        def grow(_env: Any, _size: int) -> int:
            error = c.wasmtime_error_new(b"the memory of kernels does not grow")
            return ctypes.cast(error, ctypes.c_void_p).value or 0

        @_callback(ctypes.CFUNCTYPE(None, ctypes.c_void_p))
        def leave(_env: Any) -> None:
            """It belongs to all."""

        @_callback(c.wasmtime_new_memory_callback_t)
        def new(_env: Any, _type: Any, _least: int, _most: int, _reserved: int, _guard: int, result: Any) -> int:
            made = result[0]
            made.env, made.get_memory, made.grow_memory, made.finalizer = None, get, grow, leave
            return 0

        creator: Any = c.wasmtime_memory_creator()
        creator.env, creator.new_memory, creator.finalizer = None, new, leave
        self._kept = (get, grow, leave, new)  # they are called as long as there is an engine
        return creator


class Program:
    """One kernel, compiled."""

    def __init__(self, machine: Machine, module: Module, kind: Kind, parameters: int, name: str) -> None:
        self.memory = machine.memory
        self.name = name
        self.sites = module.sites
        self.hosts = module.hosts
        self.interruptible = kind.interruptible
        self.size = 16 * max(1, parameters)
        self._engine = machine.engine(kind)
        self._module = wasmtime.Module(self._engine, bytes(wasmtime.wat2wasm(module.text)))
        self._idle: list[Instance] = []
        machine.add(self)

    def lend(self) -> Instance:
        """An instance that nobody else uses until it is put back."""
        if not _thread.checked:
            _insist_on_stack()
        try:
            return self._idle.pop()  # the last one: what it works with is in the cache of the processor
        except IndexError:
            return Instance(self, self._engine, self._module)

    def put_back(self, instance: Instance) -> None:
        self._idle.append(instance)

    def close(self) -> None:
        """Give up all instances that nobody uses."""
        while self._idle:
            self._idle.pop().close()
        self._module.close()


class Instance:
    """A program that can be called. Arguments and results are in `slots`, 16 bytes for each."""

    def __init__(self, program: Program, engine: wasmtime.Engine, module: wasmtime.Module) -> None:
        self._program = program
        self._store = store = wasmtime.Store(engine)
        if program.interruptible:
            store.set_epoch_deadline(limits.FOREVER)
        self._error: BaseException | None = None
        self._callbacks: list[Any] = []
        imports = [self._host(*HOST[name]) for name in program.hosts]
        self._instance = wasmtime.Instance(store, module, imports)
        exports = self._instance.exports(store)
        function = exports["run"]
        assert isinstance(function, wasmtime.Func)
        self._function = function._func
        self._globals = {name: exports[name] for name in ("site", "index", "length")}
        self.slots = ctypes.create_string_buffer(program.size)
        self._trap = ctypes.c_void_p()
        self._arguments = (
            ctypes.cast(store._context(), ctypes.c_void_p).value,
            ctypes.addressof(self._function),
            ctypes.addressof(self.slots),
            program.size // 16,
            ctypes.addressof(self._trap),
        )

    def run(self) -> None:
        """Run it on what is in the slots. Raises what the kernel's source would."""
        until = limits.current() if self._program.interruptible else None
        if until is not None:
            self._store.set_epoch_deadline(limits.ticks(until, self._program.name))
        error = _call(*self._arguments)
        if until is not None:
            self._store.set_epoch_deadline(limits.FOREVER)
        if error or self._trap.value:
            raise self._failure(error)

    def close(self) -> None:
        self._store.close()

    def _failure(self, error: int | None) -> BaseException:
        """The exception for what has gone wrong."""
        raised, self._error = self._error, None
        if error:  # a host function has failed, or else nobody knows what
            unknown = wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(c.wasmtime_error_t)))
            if raised is None:
                return unknown
            raised.add_note(f"in the kernel {self._program.name}")
            return raised
        trap = ctypes.cast(self._trap.value or 0, ctypes.POINTER(c.wasm_trap_t))
        self._trap.value = None
        code = c.wasmtime_trap_code_t()
        known = c.wasmtime_trap_code(trap, ctypes.byref(code))
        c.wasm_trap_delete(trap)
        if known and code.value == _OVERFLOW:
            return RecursionError(f"the kernel {self._program.name} calls itself too deeply: it has {_STACK >> 10} KiB")
        if known and code.value == _INTERRUPT:
            return TaskTimeout(f"{self._program.name}: the kernel was not done when its time was up, and was stopped")
        return self._blamed(code.value)

    def _blamed(self, code: int) -> Exception:
        number = self._value("site")
        if not 0 < number <= len(self._program.sites):
            return RuntimeError(
                f"the kernel {self._program.name} came to a trap ({code}) that it should not have: a bug here"
            )
        site = self._program.sites[number - 1]
        error = site.error(site.text.format(index=self._value("index"), length=self._value("length")))
        error.add_note(f"in a kernel, {site.where}")
        self._globals["site"].set_value(self._store, 0)  # type: ignore[union-attr]
        return error

    def _value(self, name: str) -> int:
        value: int = self._globals[name].value(self._store)  # type: ignore[union-attr]
        return value

    def _host(self, function: Callable[..., float], letters: str) -> wasmtime.Func:
        """A function of Python's that the kernel may call. What it raises waits until the kernel has been left."""
        fields = ["f64" if letter == "f" else "i64" for letter in letters]

        @_callback(c.wasmtime_func_unchecked_callback_t)
        def call(_env: Any, _caller: Any, values: Any, _count: int) -> int:
            try:
                values[0].f64 = function(*[getattr(values[index], field) for index, field in enumerate(fields)])
            except BaseException as error:
                self._error = error
                return ctypes.cast(c.wasmtime_trap_new(b"host", 4), ctypes.c_void_p).value or 0
            return 0

        types = {"f": wasmtime.ValType.f64, "i": wasmtime.ValType.i64}
        type = wasmtime.FuncType([types[letter]() for letter in letters], [wasmtime.ValType.f64()])
        made = c.wasmtime_func_t()
        nothing = ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))
        c.wasmtime_func_new_unchecked(self._store._context(), type.ptr(), call, None, nothing, ctypes.byref(made))
        self._callbacks.append(call)
        return wasmtime.Func._from_raw(made)


class _Thread(threading.local):
    checked = False


_thread = _Thread()


def _insist_on_stack() -> None:
    """Refuse to run on a thread whose stack is too small, where that can be told."""
    size = _stack_size()
    if size is not None and size < _ROOM:
        raise BackendUnavailable(
            f"this thread has a stack of {size >> 10} KiB, and a kernel needs {_ROOM >> 10}: "
            f"call threading.stack_size({8 << 20}) before the thread is started"
        )
    _thread.checked = True


def _stack_size() -> int | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    attributes, base, size = ctypes.create_string_buffer(256), ctypes.c_void_p(), ctypes.c_size_t()
    libc.pthread_self.restype = ctypes.c_void_p
    with contextlib.suppress(AttributeError):  # another C library
        if libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes):
            return None
        libc.pthread_attr_getstack(attributes, ctypes.byref(base), ctypes.byref(size))
        libc.pthread_attr_destroy(attributes)
        return size.value
    return None
