"""Modules with what they import: functions that were granted, and those of WASI if they may have that."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import wasmtime

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import grants
from hybrid_compute.wasm.engines import Profile
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.names import shown
from hybrid_compute.wasm.preview1 import functions as preview1
from hybrid_compute.wasm.program import Program
from hybrid_compute.wasm.source import Source
from hybrid_compute.wasm.wasi import Wasi


def program(
    source: Source, name: str, limits: Limits, granted: Mapping[str, Any], deterministic: bool, wasi: Wasi | None
) -> Program:
    """The compiled module. Raises `InvalidInput` for one that imports what it does not get."""
    profile = Profile(limits.fuel is not None, deterministic, limits.stack)
    return Program(source, profile, limits, name, functools.partial(_link, name, granted, wasi), wasi)


def _link(
    what: str, granted: Mapping[str, Any], wasi: Wasi | None, linker: wasmtime.Linker, module: wasmtime.Module
) -> object:
    defined = grants.link(what, granted, linker, module)
    wanted = next((each for each in module.imports if each.module.startswith("wasi_")), None)
    if wasi is not None:
        preview1.link(what, linker, module)
    elif wanted is not None:
        raise InvalidInput(
            f"{what}: the module imports {shown(wanted.module)}.{shown(wanted.name or '')}, so it expects an operating "
            f"system: wasi=Wasi() gives it one in which there is nothing"
        )
    return defined
