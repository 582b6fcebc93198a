"""The part of wasmtime's C API for components that its Python classes leave out, or get wrong with several threads.

An exception of a host function never travels through wasmtime here: its classes keep it in one place for all threads.
"""

# What wasmtime keeps to itself is used here.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi, component
from wasmtime.component._types import FuncType, String

from hybrid_compute.wasm import capi

_keep_callbacks: list[Any] = []  # they are called as long as there is a linker, and linkers stay until the end


class Context:
    """A store, as wasmtime's classes want it: something that has a context."""

    def __init__(self, pointer: int) -> None:
        self._pointer = ctypes.cast(pointer, ctypes.POINTER(c.wasmtime_context_t))

    def _context(self) -> Any:
        return self._pointer


def define(
    instance: component.LinkerInstance,
    name: str,
    function: Callable[..., Any],
    failed: Callable[[int, BaseException], None],
) -> None:
    """Define a function of the host. It is called with the number of the store that calls, and the arguments.

    What it raises ends the call of the guest, and is given to `failed`, with the number.
    """

    def called(context: Any, type: Any, arguments: Any, results: Any) -> None:
        with FuncType._from_ptr(type, owner=instance) as kind:
            given = [each.convert_from_c(arguments[index]) for index, (_, each) in enumerate(kind.params)]
            result, expected = function(number_of(context), *given), kind.result
            if isinstance(result, bytes):
                _put_bytes(result, results)
            elif expected is not None:
                expected.convert_to_c(Context(context), result, results)

    _define(instance, name, called, failed)


def _define(
    instance: Any, name: str, called: Callable[..., None], failed: Callable[[int, BaseException], None]
) -> None:
    @capi.callback(c.wasmtime_component_func_callback_t)
    def enter(_data: Any, context: Any, type: Any, arguments: Any, _count: Any, results: Any, _results: Any) -> int:
        try:
            called(context, type, arguments, results)
            return 0
        except BaseException as error:
            failed(number_of(context), error)
            return capi.error_new(b"the host has stopped it") or 0

    _keep_callbacks.append(enter)
    encoded = name.encode()
    error = c.wasmtime_component_linker_instance_add_func(
        instance.ptr(), ctypes.create_string_buffer(encoded), len(encoded), enter, None, capi.NO_FINALIZER
    )
    if error:
        raise wasmtime.WasmtimeError._from_ptr(error)


def number_of(context: Any) -> int:
    """The number that a store was made with."""
    return capi.context_data(ctypes.cast(context, ctypes.c_void_p)) or 0


def instantiate(linker: component.Linker, compiled: component.Component, context: Context) -> component.Instance:
    return linker.instantiate(context, compiled)  # type: ignore[arg-type]  # all it wants is a context


class TooLong(Exception):
    """The function gave a text that is longer than it may be; `index` is which."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class Function:
    """An exported function that takes texts, and gives a tuple of texts."""

    def __init__(self, instance: component.Instance, context: Context, name: str) -> None:
        found = instance.get_func(context, name)  # type: ignore[arg-type]
        if found is None:
            raise wasmtime.WasmtimeError(f"the component has no function {name!r}")
        self._function = found._func
        self._context = context

    def __call__(self, given: tuple[str, ...], most: tuple[int, ...]) -> tuple[str, ...]:
        """Call it. Raises `TooLong` for a text of more than so many bytes: it is freed before Python sees it."""
        values = (c.wasmtime_component_val_t * len(given))()
        result = c.wasmtime_component_val_t()
        try:
            for value, text in zip(values, given, strict=True):
                _STRING.convert_to_c(None, text, ctypes.pointer(value))  # type: ignore[arg-type]  # it needs no store
            error = c.wasmtime_component_func_call(
                ctypes.byref(self._function), self._context._context(), values, len(given), ctypes.byref(result), 1
            )
            if error:
                raise wasmtime.WasmtimeError._from_ptr(error)
        finally:
            for value in values:
                c.wasmtime_component_val_delete(ctypes.byref(value))
        try:
            return tuple(_text(result.of.tuple.data[index].of.string, index, size) for index, size in enumerate(most))
        finally:
            c.wasmtime_component_val_delete(ctypes.byref(result))


def _text(found: Any, index: int, most: int) -> str:
    if found.size > most:
        raise TooLong(index)
    return ctypes.string_at(found.data, found.size).decode()


_STRING = String()


def _put_bytes(data: bytes, result: Any) -> None:
    """Give bytes as a list of u8, which wasmtime's classes would convert one by one, a microsecond each."""
    made = c.wasmtime_component_vallist_t()
    c.wasmtime_component_vallist_new_uninit(made, len(data))
    if data:
        size = ctypes.sizeof(c.wasmtime_component_val_t)
        one = c.wasmtime_component_val_t()
        one.kind = _ffi.WASMTIME_COMPONENT_U8
        values = bytearray(bytes(one) * len(data))
        values[c.wasmtime_component_val_t.of.offset :: size] = data
        ctypes.memmove(made.data, bytes(values), len(values))
    result[0].kind = _ffi.WASMTIME_COMPONENT_LIST
    result[0].of.list = made
