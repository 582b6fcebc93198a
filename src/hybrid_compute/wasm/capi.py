"""The functions of wasmtime's C API that its Python classes do not wrap, or wrap too slowly.

They come from the library that the wheel ships. Pointers are plain integers, and an error is a pointer that is not
None. The wheel promises none of this, hence the version in `pyproject.toml` is held still, and
`tests/wasm/test_capi.py` tries every one of those here and of `components/api.py`.

`quick` functions keep the interpreter lock: they take less time than giving it up. Whatever may run code of a guest
gives it up.
"""

# What wasmtime keeps to itself is used here.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any

import wasmtime
from wasmtime import _bindings as c

from hybrid_compute.wasm.shield import shielded

Pointer = int | None

_library: Any = vars(c)["dll"]
_keeping_the_lock: Any = ctypes.PyDLL(_library._name)


def _quick(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    return _declared(_keeping_the_lock[name], result, arguments)


def _long(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    return _declared(_library[name], result, arguments)


def _declared(function: Any, result: Any, arguments: tuple[Any, ...] | None) -> Callable[..., Any]:
    function.restype, function.argtypes = result, arguments
    declared: Callable[..., Any] = function
    return declared


# Stores.
store_new = _quick("wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p)
store_context = _quick("wasmtime_store_context", c_void_p, c_void_p)
store_limiter = _quick("wasmtime_store_limiter", None, c_void_p, c_int64, c_int64, c_int64, c_int64, c_int64)
store_delete = _quick("wasmtime_store_delete", None, c_void_p)
context_data = _quick("wasmtime_context_get_data", c_void_p, c_void_p)
set_fuel = _quick("wasmtime_context_set_fuel", c_void_p, c_void_p, c_uint64)
get_fuel = _quick("wasmtime_context_get_fuel", c_void_p, c_void_p, c_void_p)
set_epoch_deadline = _quick("wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
increment_epoch = _quick("wasmtime_engine_increment_epoch", None, c_void_p)

# Instances.
linker_instantiate_pre = _long("wasmtime_linker_instantiate_pre", c_void_p, c_void_p, c_void_p, c_void_p)
pre_instantiate = _long("wasmtime_instance_pre_instantiate", c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
pre_delete = _quick("wasmtime_instance_pre_delete", None, c_void_p)
export_get = _quick("wasmtime_instance_export_get", c_bool, c_void_p, c_void_p, c_char_p, c_size_t, c_void_p)
func_call = _long("wasmtime_func_call_unchecked", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)
func_call_prepared = _declared(ctypes.CDLL(_library._name)["wasmtime_func_call_unchecked"], c_void_p, None)
"""The same, for arguments that are objects of ctypes: they are not looked at, which takes a quarter less time."""
memory_data = _quick("wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
memory_size = _quick("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)
memory_grow = _quick("wasmtime_memory_grow", c_void_p, c_void_p, c_void_p, c_uint64, c_void_p)
global_get = _quick("wasmtime_global_get", None, c_void_p, c_void_p, c_void_p)
global_set = _quick("wasmtime_global_set", c_void_p, c_void_p, c_void_p, c_void_p)
caller_context = _quick("wasmtime_caller_context", c_void_p, c_void_p)

# A call that can be left in the middle, and taken up again.
fuel_yield_interval = _quick("wasmtime_context_fuel_async_yield_interval", c_void_p, c_void_p, c_uint64)
call_async = _quick(
    "wasmtime_func_call_async",
    c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p,
)  # fmt: skip
future_poll = _long("wasmtime_call_future_poll", c_bool, c_void_p)
future_delete = _long("wasmtime_call_future_delete", None, c_void_p)

# Errors.
error_new = _quick("wasmtime_error_new", c_void_p, c_char_p)
trap_new = _quick("wasmtime_trap_new", c_void_p, c_char_p, c_size_t)

EXTERN_SIZE = ctypes.sizeof(c.wasmtime_extern_t)
EXTERN_VALUE: int = c.wasmtime_extern_t.of.offset
"""Where in an extern the function or memory is."""
EXTERN_FUNC, EXTERN_GLOBAL, EXTERN_MEMORY = 0, 1, 3
INSTANCE_SIZE = ctypes.sizeof(c.wasmtime_instance_t)
SLOT = 16
"""Bytes of one argument or result of `func_call`."""
VALUE_SIZE = ctypes.sizeof(c.wasmtime_val_t)
VALUE_AT: int = c.wasmtime_val_t.of.offset
"""Where in a value its bits are; its kind is at the beginning."""
KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3, "v128": 4}

EpochCallback = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, ctypes.POINTER(c_uint64), ctypes.POINTER(ctypes.c_uint8))
Finalizer = ctypes.CFUNCTYPE(None, c_void_p)
NO_FINALIZER = ctypes.cast(0, Finalizer)
HostFunction = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_void_p, c_size_t)
SlotsFunction: Any = c.wasmtime_func_unchecked_callback_t
"""The same, for one that looks at its slots as the numbers that they are."""

epoch_callback = _quick("wasmtime_store_epoch_deadline_callback", None, c_void_p, EpochCallback, c_void_p, Finalizer)
linker_define = _quick(
    "wasmtime_linker_define_func_unchecked",
    c_void_p, c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p, HostFunction, c_void_p, Finalizer,
)  # fmt: skip
func_new = _quick("wasmtime_func_new_unchecked", None, c_void_p, c_void_p, SlotsFunction, c_void_p, Finalizer, c_void_p)


def callback(type: Any) -> Callable[[Callable[..., int | None]], Any]:
    """A function of ours that C can call. It must be one `try`, and catch all exceptions, `BaseException` that is."""

    def make(function: Callable[..., int | None]) -> Any:
        return type(shielded(function))

    return make


GetMemory = c.wasmtime_memory_get_callback_t
GrowMemory = c.wasmtime_memory_grow_callback_t
NewMemory = c.wasmtime_new_memory_callback_t
MemoryCreator: Any = c.wasmtime_memory_creator


def set_memory_creator(config: wasmtime.Config, creator: Any) -> None:
    """Have `creator` make all linear memories. It must live as long as any engine of this configuration."""
    c.wasmtime_config_host_memory_creator_set(config.ptr(), ctypes.byref(creator))


def set_async_stack(config: wasmtime.Config, size: int) -> None:
    c.wasmtime_config_async_stack_size_set(config.ptr(), size)


def pointer(managed: Any) -> int:
    """The pointer behind an object of wasmtime's Python classes."""
    value = ctypes.cast(managed.ptr(), c_void_p).value
    assert value is not None
    return value


def new_function(context: int, type: wasmtime.FuncType, call: Any) -> wasmtime.Func:
    """A function for one store, from a `SlotsFunction`. That must live as long as the store."""
    made = c.wasmtime_func_t()
    func_new(context, pointer(type), call, None, NO_FINALIZER, ctypes.byref(made))
    return wasmtime.Func._from_raw(made)


def taken_error(error: int) -> wasmtime.WasmtimeError:
    """The error behind a pointer, which is the caller's no more."""
    return wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(c.wasmtime_error_t)))


def taken_trap(trap: int) -> wasmtime.Trap:
    """The trap behind a pointer, which is the caller's no more."""
    return wasmtime.Trap._from_ptr(ctypes.cast(trap, ctypes.POINTER(c.wasm_trap_t)))


def check(error: Pointer) -> None:
    """Raise what a C function has returned, if it is an error."""
    if error:
        raise taken_error(error)
