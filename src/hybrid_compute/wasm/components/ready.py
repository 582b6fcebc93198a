"""A function of a component that can be called, and the functions of the host that it may call."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref
from typing import Any

from wasmtime.component import FuncType

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm.components import api
from hybrid_compute.wasm.components.compound import Outcome
from hybrid_compute.wasm.components.guest import ComponentGuest, ComponentProgram, HostCall
from hybrid_compute.wasm.components.shapes import Shape
from hybrid_compute.wasm.components.wit import shape_of, shape_of_result
from hybrid_compute.wasm.granted import Granted
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.names import listed, shown
from hybrid_compute.wasm.preview1.files import Allowance
from hybrid_compute.wasm.trap import GuestError


class ComponentReady:
    """A function that can be called: in a new guest each time. `export` is `name`, or `interface.name`."""

    def __init__(self, program: ComponentProgram, export: str, stub: Callable[..., Any]) -> None:
        interface, _, name = export.rpartition("#")
        types = program.exports()
        type = types.get((interface, name))
        if type is None:
            known = listed(["#".join(filter(None, each)) for each in types])
            raise InvalidInput(f"{program.name}: the component exports no function {export!r}; it has {known}")
        self._program = program
        self._index = program.index([interface, name] if interface else [name])
        self._parameters, self._result = crossing(program.name, stub, type)

    @property
    def count(self) -> int:
        return len(self._parameters)

    def call(self, leash: Leash | None, args: Sequence[Any]) -> Any:
        program = self._program
        values = (api.Value * len(args))()
        result = api.Value()
        try:
            for index, ((name, shape), value) in enumerate(zip(self._parameters, args, strict=True)):
                shape.put(value, values[index], f"{program.name}: argument {name!r}")
            guest = ComponentGuest(program, leash or Leash())
            try:
                guest.call(self._index, values, len(args), None if self._result is None else byref(result))
            finally:
                guest.finish()
            return None if self._result is None else self._result.take(result, _allowance(program.name, guest))
        finally:
            for value in (*values, result):
                api.val_delete(byref(value))


def crossing(what: str, function: Callable[..., Any], type: FuncType) -> tuple[list[tuple[str, Shape]], Shape | None]:
    """How the arguments and the result of a function cross. Raises `InvalidInput` if its hints are of other types."""
    hints = typing.get_type_hints(function)
    names = [each.name for each in inspect.signature(function).parameters.values()]
    if len(names) != len(type.params):
        raise InvalidInput(
            f"{what}: {getattr(function, '__name__', function)} has {len(names)} parameters, and the component's "
            f"function ({', '.join(name for name, _ in type.params)})"
        )
    if missing := [name for name in (*names, "return") if name not in hints]:
        raise TypeError(f"{what}: {missing[0]!r} needs a type hint, which says how it crosses")
    pairs = zip(names, type.params, strict=True)
    parameters = [(name, shape_of(hints[name], wit, f"{what}: {name!r}")) for name, (_, wit) in pairs]
    return parameters, shape_of_result(hints["return"], type.result, f"{what}: its result")


def link(what: str, granted: Mapping[str, Any], program: ComponentProgram) -> None:
    """Define what the component imports. Raises `InvalidInput` for what is not granted."""
    spaces: dict[str, list[tuple[str, HostCall]]] = {}
    for (space, name), type in program.imports().items():
        full = f"{space}#{name}" if space else name
        grant, wanted = granted.get(full, granted.get(name)), f"{what}: the component imports {shown(full)}"
        if grant is None and space.startswith("wasi:"):
            raise InvalidInput(
                f"{wanted}, so it expects an operating system (WASI 0.2), which components are "
                f"not given here: build it without WASI, or for wasm32-wasip1, as a module: "
                f"WasmModule(...).task(..., wasi=Wasi()) runs that"
            )
        if grant is None:
            raise InvalidInput(f"{wanted}, which it was not granted: grants={{{shown(name)!r}: ...}} would")
        spaces.setdefault(space, []).append((name, _host_call(f"{what}: {shown(full)}", Granted(grant), type)))
    for space, functions in spaces.items():
        program.define(space, functions)


def _host_call(what: str, granted: Granted, type: FuncType) -> HostCall:
    parameters, shape = crossing(what, granted.task.fn, type)

    def call(guest: ComponentGuest, arguments: Any, results: Any) -> None:
        guest.count_host_call()
        allowance = _allowance(what, guest)
        given = [each.take(arguments[index], allowance) for index, (_, each) in enumerate(parameters)]
        result = _called(granted, guest, given, shape)
        if shape is not None:
            _put(shape, result, results[0], f"{what}: its result")

    return call


def _called(granted: Granted, guest: ComponentGuest, given: Sequence[Any], shape: Shape | None) -> Any:
    try:
        return granted.call(guest.leash, tuple(given), {})
    except GuestError as error:
        if not isinstance(shape, Outcome):
            raise
        return error


def _put(shape: Shape, result: Any, place: Any, path: str) -> None:
    try:
        shape.put(result, place, path)
    except InvalidInput as error:  # the fault of the host
        raise TypeError(str(error)) from error


def _allowance(what: str, guest: ComponentGuest) -> Allowance:
    return Allowance(what, guest.limits.output, "gave more")
