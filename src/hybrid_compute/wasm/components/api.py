"""The functions of wasmtime's C API for components, as its bindings have them; `tests/wasm/test_capi.py` tries each.

wasmtime's Python classes keep what a function of the host has raised in one place for all threads. So none of it
travels through them: it is on the leash of the guest, as with modules.
"""

# What wasmtime keeps to itself is used here, as in `capi`.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, create_string_buffer
from typing import Any

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi, component

from hybrid_compute.wasm import capi
from hybrid_compute.wasm.watch import leashes

Value: Any = c.wasmtime_component_val_t
SIZE = ctypes.sizeof(Value)
OFFSET: int = Value.of.offset
"""Where in a value its bits are; its kind is at the beginning."""
Instance, Function, Name, Entry = (
    c.wasmtime_component_instance_t,
    c.wasmtime_component_func_t,
    c.wasm_name_t,
    c.wasmtime_component_valrecord_entry_t,
)
_Context = ctypes.POINTER(c.wasmtime_context_t)

linker_instantiate: Callable[..., Any] = c.wasmtime_component_linker_instantiate
instance_get_func: Callable[..., bool] = c.wasmtime_component_instance_get_func
func_call: Callable[..., Any] = c.wasmtime_component_func_call
add_func: Callable[..., Any] = c.wasmtime_component_linker_instance_add_func
val_new: Callable[..., Any] = c.wasmtime_component_val_new
val_delete: Callable[..., None] = c.wasmtime_component_val_delete
list_new: Callable[..., None] = c.wasmtime_component_vallist_new_uninit
tuple_new: Callable[..., None] = c.wasmtime_component_valtuple_new_uninit
record_new: Callable[..., None] = c.wasmtime_component_valrecord_new_uninit
flags_new: Callable[..., None] = c.wasmtime_component_valflags_new_uninit
bytes_new: Callable[..., None] = c.wasm_byte_vec_new

HostCall = Callable[[int, Any, Any, Any], None]
"""A function of the host: the number of the store that calls, its type, the places of arguments, those of results."""


def kind(name: str) -> int:
    """The number of a kind of value: "list", "u8"."""
    return int(getattr(_ffi, f"WASMTIME_COMPONENT_{name.upper()}").value)


def context(pointer: int) -> Any:
    """A context of `capi`, as it is wanted here."""
    return ctypes.cast(pointer, _Context)


def octets(data: bytes) -> Any:
    return (c.wasm_byte_t * len(data)).from_buffer_copy(data)


def define(instance: component.LinkerInstance, name: str, call: HostCall) -> Any:
    """Define a function of the host. What is given back is to live as long as the linker.

    What it raises ends the call of the guest, and is raised where that was called.
    """

    @capi.callback(c.wasmtime_component_func_callback_t)
    def enter(_data: Any, context: Any, type: Any, arguments: Any, _count: Any, results: Any, _results: Any) -> int:
        try:
            call(_number(context), type, arguments, results)
            return 0
        except BaseException as error:
            leashes[_number(context)].fail(error)
            return capi.error_new(b"the host has stopped it") or 0

    encoded = name.encode()
    check(add_func(instance.ptr(), create_string_buffer(encoded), len(encoded), enter, None, capi.NO_FINALIZER))
    return enter


def _number(context: Any) -> int:
    """The number that a store was made with."""
    return capi.context_data(ctypes.cast(context, ctypes.c_void_p)) or 0


def instantiate(linker: component.Linker, at: Any, compiled: component.Component, instance: Any) -> str | None:
    """Make an instance in the store of this context. Gives what went wrong."""
    return _said(linker_instantiate(linker.ptr(), at, compiled.ptr(), byref(instance)))


def function_of(instance: Any, at: Any, index: component.ExportIndex) -> Any:
    """The exported function with this index; None if it is none."""
    found = Function()
    return found if instance_get_func(byref(instance), at, index.ptr(), byref(found)) else None


def call(function: Any, at: Any, values: Any, count: int, result: Any) -> str | None:
    """Call it, with so many values, and a place for the result or None. Gives what went wrong."""
    return _said(func_call(byref(function), at, values, count, result, 0 if result is None else 1))


def check(error: Any) -> None:
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)


def _said(error: Any) -> str | None:
    return str(wasmtime.WasmtimeError._from_ptr(error)) if error else None
