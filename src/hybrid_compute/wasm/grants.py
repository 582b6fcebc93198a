"""Grants: the functions of the host that a guest may call. What it was not granted does not exist for it.

A grant is a function with type hints, which say what crosses as they do for the guest's own functions; or, under any
name, a list of tasks: then the guest calls one by its name, with its input as JSON, and gets the result as JSON.

    {"log": log}              log(text: i32, length: i32)
    {"run": [resize, score]}  run(name: i32, length: i32, input: i32, length: i32) -> i64
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from ctypes import c_char, c_void_p, memmove
from typing import Any

import wasmtime

from hybrid_compute.errors import InvalidInput, NotPermitted
from hybrid_compute.schema import bind_json, encode_json
from hybrid_compute.wasm import capi, signature
from hybrid_compute.wasm.granted import Granted
from hybrid_compute.wasm.guest import Guest, calling
from hybrid_compute.wasm.kinds import Buffer, Kind
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.names import shown
from hybrid_compute.wasm.signature import Convention

Call = Callable[[Leash, tuple[Any, ...], Mapping[str, Any]], Any]
"""What is granted, called for the guest that this leash holds."""


def link(what: str, grants: Mapping[str, Any], linker: wasmtime.Linker, module: wasmtime.Module) -> list[HostFunction]:
    """Define what the module imports and the task grants. Raises `InvalidInput` for what is not granted.

    What it gives must be kept as long as guests may call it.
    """
    defined: list[HostFunction] = []
    for wanted in module.imports:
        space, name, type = wanted.module, wanted.name or "", wanted.type
        if space.startswith("wasi_"):
            continue
        grant = grants.get(f"{space}.{name}", grants.get(name))
        full = f"{shown(space)}.{shown(name)}"
        if not isinstance(type, wasmtime.FuncType):
            raise InvalidInput(f"{what}: the module imports {full}, and only functions can be granted")
        if grant is None:
            raise InvalidInput(
                f"{what}: the module imports {full}{_typed(type)}, which it was not granted: "
                f"grants={{{shown(name)!r}: ...}} would"
            )
        host = HostFunction(f"{what}: {full}", *_function(grant), type)
        _define(linker, space, name, type, host)
        defined.append(host)
    return defined


class HostFunction:
    """One function that guests may call. What it raises ends the call of the guest, and is raised there."""

    def __init__(self, what: str, stub: Callable[..., Any], call: Call, type: wasmtime.FuncType) -> None:
        """`stub` has the type hints."""
        parameters, results = tuple(map(str, type.params)), tuple(map(str, type.results))
        declared = signature.of_stub(stub)
        self._what = what
        self._call = call
        self._convention = Convention(what, declared, parameters, results)
        self._unpack = struct.Struct("<" + "".join(map(signature.slot, parameters))).unpack
        self._pack = struct.Struct("<" + "".join(map(signature.slot, results))).pack
        self._fitted = signature.FITTED[results[0]] if results else None
        self._size, self._results = len(parameters) * capi.SLOT, len(results)
        self.callback = self._as_callback()

    def _as_callback(self) -> Any:
        answer = self._answer

        @capi.callback(capi.HostFunction)
        def called(_env: Any, caller: int, values: int, _count: int) -> int:
            try:
                answer(calling(caller), values)
                return 0
            except BaseException as error:
                calling(caller).leash.fail(error)
                return capi.trap_new(b"host", 4) or 0

        return called

    def _answer(self, guest: Guest, values: int) -> None:
        guest.count_host_call()
        given = self._arguments(guest, self._unpack((c_char * self._size).from_address(values)))
        result = self._call(guest.leash, tuple(given), {})
        kind = self._convention.signature.result
        if kind is None:
            return
        try:
            packed = self._pack(*self._given(guest, kind, result))
        except (struct.error, OverflowError) as error:
            raise TypeError(f"{self._what} gave {result!r}, which does not fit: {error}") from error
        memmove(values, packed, self._results * capi.SLOT)

    def _arguments(self, guest: Guest, numbers: tuple[Any, ...]) -> list[Any]:
        arguments: list[Any] = []
        rest = iter(numbers)
        for _, kind in self._convention.parameters:
            if isinstance(kind, Buffer):
                arguments.append(signature.read(self._what, guest, kind, next(rest), next(rest)))
            else:
                arguments.append(kind.type(next(rest)))
        return arguments

    def _given(self, guest: Guest, kind: Kind, result: Any) -> Sequence[Any]:
        if not isinstance(kind, Buffer):
            number = kind.of(result)
            if number is None:
                raise TypeError(f"{self._what} gave {result!r}, which is no {kind}")
            return [self._fitted(number)] if self._fitted is not None else []
        data = kind.to_bytes(result)
        if data is None:
            raise TypeError(f"{self._what} gave {type(result).__name__}, which is no {kind}")
        offset, length = signature.written(guest, data), len(data) // kind.item
        if self._results == 2:
            return [_signed(offset, 32), _signed(length, 32)]
        return [_signed(offset << 32 | length, 64)]


def _function(grant: Any) -> tuple[Callable[..., Any], Call]:
    """What says the types by its hints, and what is called."""
    if callable(grant):
        granted = Granted(grant)
        return granted.task.fn, granted.call
    return _run, _runner(grant)


def _run(name: str, input: str) -> str: ...  # type: ignore[empty-body]


def _runner(tasks: Sequence[Callable[..., Any]]) -> Call:
    """What runs one of these tasks, by its name."""
    known = {each.task.name: each for each in map(Granted, tasks)}

    def run(leash: Leash, args: tuple[str, str], _kwargs: Mapping[str, Any]) -> str:
        name, input = args
        granted = known.get(name)
        if granted is None:
            raise NotPermitted(f"a guest asked for task {name!r}, and was granted {', '.join(sorted(known)) or 'none'}")
        return encode_json(granted.call(leash, *bind_json(granted.task, input.encode()))).decode()

    return run


def _define(linker: wasmtime.Linker, space: str, name: str, type: wasmtime.FuncType, host: HostFunction) -> None:
    where, what, at = space.encode(), name.encode(), capi.pointer(linker)
    types = c_void_p(capi.pointer(type))
    none = capi.NO_FINALIZER
    capi.check(capi.linker_define(at, where, len(where), what, len(what), types, host.callback, None, none))


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _typed(type: wasmtime.FuncType) -> str:
    return f" ({', '.join(map(str, type.params))}) -> ({', '.join(map(str, type.results))})"
