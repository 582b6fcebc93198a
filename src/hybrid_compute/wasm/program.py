"""A program: a compiled module with all that it imports, from which guests are made in microseconds."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from ctypes import addressof, c_void_p
from pathlib import Path
from typing import Generic, TypeVar

import wasmtime
import wasmtime.component

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import capi, tables
from hybrid_compute.wasm.cache import cache, compiled
from hybrid_compute.wasm.engines import Engine, Profile, end_engines, engine_for
from hybrid_compute.wasm.held import alive
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.names import listed, shown_text
from hybrid_compute.wasm.source import Source
from hybrid_compute.wasm.wasi import Wasi
from hybrid_compute.wasm.watch import stop_all, watch

Code = TypeVar("Code", wasmtime.Module, wasmtime.component.Component)
Link = Callable[[wasmtime.Linker, wasmtime.Module], object]
"""Defines in a linker what a module imports; what it gives is kept as long as the program."""


class Program:
    """One module, under one profile and with one set of limits and imports. Shared by all threads."""

    def __init__(
        self,
        source: Source,
        profile: Profile,
        limits: Limits,
        name: str,
        link: Link | None = None,
        wasi: Wasi | None = None,
    ) -> None:
        self.name = name
        self.limits = limits
        self.wasi = wasi
        self.engine: Engine = engine_for(profile)
        self.metered = self.engine.metered
        self._shared = shared(wasmtime.Module, source, self.engine)
        self.module = self._shared.code
        self.hosts = len(self.module.imports) > 0
        """Whether it may call anything of ours."""
        exports: dict[str | None, object] = {each.name: each.type for each in self.module.exports}
        self.tells = tables.WANTED in exports
        """Whether it leaves a word where it was denied a larger table."""
        self.takes_back = _is_dealloc(exports.get("dealloc"))
        """Whether what its `alloc` gave can be given back to it."""
        self.initializes = "_initialize" in exports
        """Whether it has something to do before its functions are called, as WASI's "reactors" have."""
        linker = wasmtime.Linker(self.engine.engine)  # it goes by itself: to close it might be done twice, by Ctrl-C
        self._linked = link(linker, self.module) if link is not None else None
        self.pre = self._prepare(linker)

    def _prepare(self, linker: wasmtime.Linker) -> int:
        made = c_void_p()
        error = capi.linker_instantiate_pre(capi.pointer(linker), capi.pointer(self.module), addressof(made))
        if error:
            said = shown_text(str(capi.taken_error(error)))
            raise InvalidInput(f"{self.name}: {said}; grant it what it imports, or allow WASI")
        assert made.value is not None
        weakref.finalize(self, capi.pre_delete, made.value)
        return made.value

    def function_type(self, export: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The types of an exported function's parameters and results. Raises `InvalidInput` if there is none."""
        for each in self.module.exports:
            if each.name == export and isinstance(each.type, wasmtime.FuncType):
                return tuple(map(str, each.type.params)), tuple(map(str, each.type.results))
        names = [each.name or "" for each in self.module.exports if isinstance(each.type, wasmtime.FuncType)]
        raise InvalidInput(f"{self.name}: the module exports no function {export!r}; it has {listed(names)}")


def _is_dealloc(type: object) -> bool:
    return isinstance(type, wasmtime.FuncType) and (*map(str, type.params), "", *map(str, type.results)) == (
        "i32",
        "i32",
        "",
    )


class Shared(Generic[Code]):
    """Compiled code, as all who use it know it.

    An object of wasmtime frees what it has before it vanishes from weak references, and lets other threads run
    meanwhile: one of them could still find it there. This has nothing to free: when the code goes, it is gone already.
    """

    def __init__(self, code: Code) -> None:
        self.code: Code = code


def shared(kind: type[Code], source: Source, engine: Engine) -> Shared[Code]:
    """The compiled code, made once in a process and kept on disk for the next."""
    key = kind.__name__, source.digest
    place = kind.__name__, source.digest, engine.profile
    with _lock:
        compiling = _compiling.setdefault(place, threading.RLock())  # the handler of a signal may need the same code
    try:
        with compiling:  # others compile other modules meanwhile
            known = engine.code.get(key)
            if known is None:
                made: Shared[Code] = Shared(load(kind, source, engine))
                known = engine.code.setdefault(key, made)
            found: Shared[Code] = known
            return found
    finally:
        with _lock:
            _compiling.pop(place, None)


def load(kind: type[Code], source: Source, engine: Engine) -> Code:
    """Code of this kind, from the cache, or compiled and put there. Raises `InvalidInput` if it cannot be."""
    changes = kind is wasmtime.Module
    digest = f"{source.digest} {tables.FORM}" if changes else source.digest

    def compile() -> bytes:
        try:
            data = tables.telling(source.data) if changes else source.data
            return bytes(kind(engine.engine, data).serialize())
        except wasmtime.WasmtimeError as error:
            said = shown_text(str(error))  # all of it could be as long as the module: so it is no cause either
            raise InvalidInput(f"{source.name} is no {kind.__name__.lower()} that can be run: {said}") from None

    kept = cache()
    code = compiled(digest, engine.profile, compile, kept)
    try:
        return _deserialized(kind, engine.engine, code)
    except wasmtime.WasmtimeError:  # of another build of wasmtime, or none of wasmtime at all
        if isinstance(code, Path) and kept is not None:
            kept.discard(code.name)
        return _deserialized(kind, engine.engine, compile())


def _deserialized(kind: type[Code], engine: wasmtime.Engine, code: Path | bytes) -> Code:
    if isinstance(code, Path):
        return kind.deserialize_file(engine, str(code))
    return kind.deserialize(engine, code)


_lock = threading.RLock()
_compiling: dict[tuple[str, str, Profile], threading.RLock] = {}


def _forget() -> None:
    """In a forked child: the lock is free, whoever held it."""
    global _lock  # noqa: PLW0603  # one process has one
    _lock = threading.RLock()
    _compiling.clear()


def _end() -> None:
    """At the end of the program: what wasmtime made goes while there is a wasmtime to take it back.

    All but guests that wait in a function of the host still: their threads are in the midst of them, and end with us.
    """
    try:
        stop_all()
    finally:  # Ctrl-C, a second time
        watch.end()
        for guest in alive.values():
            if guest.number not in watch.running:
                guest.close()
        end_engines()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
