"""A program: a compiled module with all that it imports, from which guests are made in microseconds."""

from __future__ import annotations

import ctypes
import hashlib
import threading
import warnings
import weakref
from collections.abc import Callable
from ctypes import addressof, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import wasmtime
import wasmtime.component

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import capi
from hybrid_compute.wasm.cache import Cache, compiled, folder
from hybrid_compute.wasm.engines import Engine, Profile, engine_for
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.wasi import Wasi

Code = TypeVar("Code", wasmtime.Module, wasmtime.component.Component)
Link = Callable[[wasmtime.Linker, wasmtime.Module], None]
"""Defines in a linker what a module imports."""


class Program:
    """One module, under one profile and with one set of limits and imports. Shared by all threads."""

    def __init__(
        self,
        source: bytes,
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
        self.module = module_of(source, profile)
        self._linker = wasmtime.Linker(self.engine.engine)
        if link is not None:
            link(self._linker, self.module)
        self.hosts = len(self.module.imports) > 0
        """Whether it may call anything of ours."""
        self.initializes = any(each.name == "_initialize" for each in self.module.exports)
        """Whether it has something to do before its functions are called, as WASI's "reactors" have."""
        self.pre = self._prepare()

    def _prepare(self) -> int:
        made = c_void_p()
        error = capi.linker_instantiate_pre(
            capi.pointer(self._linker), capi.pointer(self.module), ctypes.cast(addressof(made), c_void_p)
        )
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


def module_of(source: bytes, profile: Profile) -> wasmtime.Module:
    """The compiled module, made once in a process and kept on disk for the next."""
    key = hashlib.sha256(source).digest(), profile
    with _lock:
        known = _modules.get(key)
        if known is None:
            known = _modules[key] = load(wasmtime.Module, source, profile)
        return known


def load(kind: type[Code], source: bytes, profile: Profile) -> Code:
    """Code of this kind, from the cache, or compiled and put there. Raises `InvalidInput` if it cannot be."""
    engine = engine_for(profile).engine

    def compile() -> bytes:
        try:
            return bytes(kind(engine, source).serialize())
        except wasmtime.WasmtimeError as error:
            raise InvalidInput(f"this is no {kind.__name__.lower()} that can be run: {error}") from error

    kept = cache()
    code = compiled(source, profile, compile, kept)
    try:
        return _deserialized(kind, engine, code)
    except wasmtime.WasmtimeError:  # of another build of wasmtime, or none of wasmtime at all
        if isinstance(code, Path) and kept is not None:
            kept.discard(code.name)
        return _deserialized(kind, engine, compile())


def _deserialized(kind: type[Code], engine: wasmtime.Engine, code: Path | bytes) -> Code:
    if isinstance(code, Path):
        return kind.deserialize_file(engine, str(code))
    return kind.deserialize(engine, code)


@lru_cache(maxsize=1)
def cache() -> Cache | None:
    """The cache of this user; None, with a warning, where there can be none."""
    try:
        return Cache(folder() / "wasm")
    except OSError as error:
        warnings.warn(f"compiled WASM is not cached, so each process compiles anew: {error}", stacklevel=2)
        return None


_modules: weakref.WeakValueDictionary[tuple[bytes, Profile], wasmtime.Module] = weakref.WeakValueDictionary()
_lock = threading.Lock()
