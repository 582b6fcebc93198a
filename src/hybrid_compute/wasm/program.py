"""A program: a compiled module with all that it imports, from which guests are made in microseconds."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from ctypes import addressof, c_void_p
from pathlib import Path

import wasmtime

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import capi
from hybrid_compute.wasm.cache import cache, compiled
from hybrid_compute.wasm.engines import Engine, Profile, end_engines, engine_for
from hybrid_compute.wasm.held import alive
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.source import Source
from hybrid_compute.wasm.watch import stop_all

Link = Callable[[wasmtime.Linker, wasmtime.Module], object]
"""Defines in a linker what a module imports; what it gives is kept as long as the program."""


class Program:
    """One module, under one profile and with one set of limits and imports. Shared by all threads."""

    def __init__(self, source: Source, profile: Profile, limits: Limits, name: str, link: Link | None = None) -> None:
        self.name = name
        self.limits = limits
        self.engine: Engine = engine_for(profile)
        self.metered = self.engine.metered
        self.module = module_of(source, self.engine)
        self.hosts = len(self.module.imports) > 0
        """Whether it may call anything of ours."""
        linker = wasmtime.Linker(self.engine.engine)
        try:
            self._linked = link(linker, self.module) if link is not None else None
            self.pre = self._prepare(linker)
        finally:
            linker.close()

    def _prepare(self, linker: wasmtime.Linker) -> int:
        made = c_void_p()
        error = capi.linker_instantiate_pre(capi.pointer(linker), capi.pointer(self.module), addressof(made))
        if error:
            raise InvalidInput(f"{self.name}: {capi.taken_error(error)}; grant it what it imports, or allow WASI")
        assert made.value is not None
        weakref.finalize(self, capi.pre_delete, made.value)
        return made.value

    def function_type(self, export: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The types of an exported function's parameters and results. Raises `InvalidInput` if there is none."""
        for each in self.module.exports:
            if each.name == export and isinstance(each.type, wasmtime.FuncType):
                return tuple(map(str, each.type.params)), tuple(map(str, each.type.results))
        names = sorted(each.name for each in self.module.exports if isinstance(each.type, wasmtime.FuncType))
        raise InvalidInput(
            f"{self.name}: the module exports no function {export!r}; it has {', '.join(names) or 'none'}"
        )


def module_of(source: Source, engine: Engine) -> wasmtime.Module:
    """The compiled module, made once in a process and kept on disk for the next."""
    key = source.digest, engine.profile
    with _lock:
        compiling = _compiling.setdefault(key, threading.Lock())
    with compiling:  # others compile other modules meanwhile
        known = engine.modules.get(source.digest)
        if known is None:
            known = engine.modules[source.digest] = _load(source, engine.engine, engine.profile)
    with _lock:
        _compiling.pop(key, None)
    return known


def _load(source: Source, engine: wasmtime.Engine, profile: Profile) -> wasmtime.Module:

    def compile() -> bytes:
        try:
            return bytes(wasmtime.Module(engine, source.data).serialize())
        except wasmtime.WasmtimeError as error:
            raise InvalidInput(f"{source.name} is no module that can be run: {error}") from error

    kept = cache()
    code = compiled(source.digest, profile, compile, kept)
    try:
        return _deserialized(engine, code)
    except wasmtime.WasmtimeError:  # of another build of wasmtime, or none of wasmtime at all
        if isinstance(code, Path) and kept is not None:
            kept.discard(code.name)
        return _deserialized(engine, compile())


def _deserialized(engine: wasmtime.Engine, code: Path | bytes) -> wasmtime.Module:
    if isinstance(code, Path):
        return wasmtime.Module.deserialize_file(engine, str(code))
    return wasmtime.Module.deserialize(engine, code)


_lock = threading.Lock()
_compiling: dict[tuple[str, Profile], threading.Lock] = {}


def _forget() -> None:
    """In a forked child: the lock is free, whoever held it."""
    global _lock  # noqa: PLW0603  # one process has one
    _lock = threading.Lock()
    _compiling.clear()


def _end() -> None:
    """At the end of the program: what wasmtime made goes while there is a wasmtime to take it back."""
    stop_all()
    for guest in list(alive.values()):
        guest.close()
    end_engines()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
