"""Whether wasmtime still hears of the faults of its guests.

Some traps are signals: the processor meets an instruction that is none, or an address where nothing is, and wasmtime's
handler makes an exception of it. Whoever installs a handler later takes its place, and the next such trap is the end
of the process. `faulthandler.enable()` does that; before wasmtime is loaded it does no harm.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from functools import lru_cache
from typing import Any

from hybrid_compute.errors import BackendUnavailable

_SIZE = 256
"""Bytes that are enough for a `struct sigaction`, which begins with the handler."""


class _Info(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def insist_on_handlers() -> None:
    """Raise `BackendUnavailable` if a guest could end this process, because others have taken wasmtime's signals."""
    if not sys.platform.startswith("linux"):  # nothing is known of the others
        return
    for number in (signal.SIGILL, signal.SIGSEGV):
        if "wasmtime" not in _home_of_handler(number):
            raise BackendUnavailable(
                f"another handler of {number.name} has taken the place of wasmtime's, so that a guest could end this "
                f"process: call faulthandler.enable() when the program begins, or faulthandler.disable() now",
                backend="wasm",
            )


def _home_of_handler(number: int) -> str:
    """The file of the library that handles this signal."""
    libc, action, info = _libc(), ctypes.create_string_buffer(_SIZE), _Info()
    libc.sigaction(number, None, action)
    handler = ctypes.c_void_p.from_buffer(action)
    libc.dladdr(handler, ctypes.byref(info))
    return (info.file or b"").decode(errors="replace")


@lru_cache(maxsize=1)
def _libc() -> Any:
    return ctypes.CDLL(None)
