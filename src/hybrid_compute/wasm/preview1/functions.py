"""The functions of WASI preview 1, as a module imports them: our own, for all that they reach is in `process.py`.

wasmtime has them too, and does its input and output in threads of its own: those are not there after a fork, and they
wait for a pipe in a granted folder for ever. These run in the thread of the call, and take a few microseconds.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from ctypes import c_char, c_int32, c_void_p
from typing import Any

import wasmtime

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import capi
from hybrid_compute.wasm.guest import Guest, calling
from hybrid_compute.wasm.names import shown
from hybrid_compute.wasm.preview1 import file_functions, process_functions
from hybrid_compute.wasm.preview1.files import ListenerFailed

SPACE = "wasi_snapshot_preview1"

Function = Callable[..., int | None]
"""From a guest and numbers to the number of an error; 0 and None are success."""

_FUNCTIONS: dict[str, tuple[str, Function]] = process_functions.FUNCTIONS | file_functions.FUNCTIONS
_TYPES = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
_SLOTS = {"i": "I12x", "I": "Q8x"}
_IO = 29
_NUMBERS = {
    errno.EACCES: 2, errno.EAGAIN: 6, errno.EBADF: 8, errno.EBUSY: 10, errno.EEXIST: 20, errno.EFBIG: 22,
    errno.EINVAL: 28, errno.EISDIR: 31, errno.ELOOP: 32, errno.EMFILE: 33, errno.ENAMETOOLONG: 37, errno.ENOENT: 44,
    errno.ENOSPC: 51, errno.ENOSYS: 52, errno.ENOTDIR: 54, errno.ENOTEMPTY: 55, errno.ENOTSUP: 58, errno.ENXIO: 60,
    errno.EPERM: 63, errno.EROFS: 69, errno.ESPIPE: 70, errno.EXDEV: 75,
}  # fmt: skip
"""WASI's numbers of errors, for those of this system."""


def link(what: str, linker: wasmtime.Linker, module: wasmtime.Module) -> None:
    """Define what the module imports of WASI. Raises `InvalidInput` for what is not of preview 1."""
    for wanted in module.imports:
        space, name = wanted.module, wanted.name or ""
        if not space.startswith("wasi_"):
            continue
        if space != SPACE or name not in _FUNCTIONS:
            full = f"{shown(space)}.{shown(name)}"
            raise InvalidInput(f"{what}: the module imports {full}, which is not of WASI preview 1 ({SPACE})")
        _define(linker, name)


def _define(linker: wasmtime.Linker, name: str) -> None:
    callback = _callbacks.get(name)
    if callback is None:
        callback = _callbacks[name] = _made(*_FUNCTIONS[name])
    at, where, what = capi.pointer(linker), SPACE.encode(), name.encode()
    type = _type(name)  # a new one: one that was used belongs to its engine
    pointer, none = c_void_p(capi.pointer(type)), capi.NO_FINALIZER
    capi.check(capi.linker_define(at, where, len(where), what, len(what), pointer, callback, None, none))


def _type(name: str) -> wasmtime.FuncType:
    results = [] if name == "proc_exit" else [wasmtime.ValType.i32()]
    return wasmtime.FuncType([_TYPES[each]() for each in _FUNCTIONS[name][0]], results)


def _made(parameters: str, function: Function) -> Any:
    form = struct.Struct("<" + "".join(_SLOTS[each] for each in parameters))

    @capi.callback(capi.HostFunction)
    def enter(_env: Any, caller: int, values: int, _count: int) -> int:
        try:
            given = form.unpack((c_char * form.size).from_address(values))
            c_int32.from_address(values).value = _answer(function, calling(caller), given)
            return 0
        except BaseException as error:
            calling(caller).leash.fail(error.error if isinstance(error, ListenerFailed) else error)
            return capi.trap_new(b"host", 4) or 0

    return enter


def _answer(function: Function, guest: Guest, numbers: tuple[int, ...]) -> int:
    try:
        return function(guest, *numbers) or 0
    except OSError as error:
        return _NUMBERS.get(error.errno or 0, _IO)


_callbacks: dict[str, Any] = {}
"""Made when they are first needed, and never thrown away: a linker may call them at any time."""
