"""Components as sandboxes use them: functions of the host by wasmtime's own types, and calls from texts to texts."""

# What wasmtime keeps to itself is used here.
# pyright: reportPrivateUsage=false
from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import component
from wasmtime.component._types import FuncType

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.sandbox.shortage import no_addresses, reason
from hybrid_compute.wasm.components import api, shapes

_keep_callbacks: list[Any] = []  # they are called as long as there is a linker, and linkers stay until the end
_OCTETS, _TEXT = shapes.Octets(), shapes.Text()


class Context:
    """A store, as wasmtime's classes want it: something that has a context."""

    def __init__(self, pointer: Any) -> None:
        self._pointer = api.context(pointer)

    def _context(self) -> Any:
        return self._pointer


def define(instance: component.LinkerInstance, name: str, function: Callable[..., Any]) -> None:
    """Define a function of the host. It is called with the number of the store that calls, and the arguments.

    What it raises ends the call of the guest, and is raised where that was called.
    """

    def called(number: int, type: Any, arguments: Any, results: Any) -> None:
        with FuncType._from_ptr(type, owner=instance) as kind:
            given = [each.convert_from_c(arguments[index]) for index, (_, each) in enumerate(kind.params)]
            result, expected = function(number, *given), kind.result
            if isinstance(result, bytes):  # which wasmtime's classes would convert one by one, a microsecond each
                _OCTETS.put(result, results[0], name)
            elif expected is not None:
                expected.convert_to_c(None, result, results)  # it needs no store, but for resources

    _keep_callbacks.append(api.define(instance, name, called))


def instantiate(linker: component.Linker, compiled: component.Component, context: Context) -> component.Instance:
    """Make an instance. Raises `BackendUnavailable`: the component is always the same, what fails is the system."""
    try:
        return linker.instantiate(context, compiled)  # type: ignore[arg-type]  # all it wants is a context
    except wasmtime.WasmtimeError as error:
        raise no_addresses(error) or BackendUnavailable(
            f"the system does not give what a sandbox needs: {reason(error)}", backend="wasm"
        ) from error


class TooLong(Exception):
    """The function gave a text that is longer than it may be; `index` is which."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class Failed(Exception):
    """The call has failed, as wasmtime says."""


class Function:
    """An exported function that takes texts, and gives a tuple of texts."""

    def __init__(self, instance: component.Instance, context: Context, name: str) -> None:
        found = instance.get_func(context, name)  # type: ignore[arg-type]
        if found is None:
            raise wasmtime.WasmtimeError(f"the component has no function {name!r}")
        self._function = found._func
        self._context = context

    def __call__(self, given: tuple[str, ...], most: tuple[int, ...]) -> tuple[str, ...]:
        """Call it. Raises `Failed`, and `TooLong` for a text of more than so many bytes, before Python sees it."""
        values, result = (api.Value * len(given))(), api.Value()
        try:
            for value, text in zip(values, given, strict=True):
                _TEXT.put(text, value, "what is given to the interpreter")
            failed = api.call(self._function, self._context._context(), values, len(given), ctypes.byref(result))
            if failed is not None:
                raise Failed(failed)
            return tuple(_text(result.of.tuple.data[index].of.string, index, size) for index, size in enumerate(most))
        finally:
            for value in (*values, result):
                api.val_delete(ctypes.byref(value))


def _text(found: Any, index: int, most: int) -> str:
    if found.size > most:
        raise TooLong(index)
    return shapes.text(found)
