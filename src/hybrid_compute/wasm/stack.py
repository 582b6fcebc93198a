"""Room on the stack: a guest uses that of the thread that calls it.

A stack that is smaller than what the guest may use would not end in a trap, but in the death of the process.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from threading import get_ident

from hybrid_compute.errors import BackendUnavailable

THREAD = 8 << 20
"""Bytes of stack for threads that call guests."""
_SPARE = 256 << 10
"""What the way into the guest and host functions need besides."""


class _Thread(threading.local):
    size: int | None = None
    taken = 0
    """By guests that are under way here: one may call a function of ours that calls another."""


_thread = _Thread()
occupied: set[int] = set()
"""The threads in which guests are under way. In those, the short ways do not go: they do not ask for room."""


def insist_on(needed: int, otherwise: str = ", or lower Limits.stack") -> None:
    """Refuse to run a guest that may use so many bytes where this thread has too few."""
    if _thread.size is None:
        _thread.size = _stack_size()
    if _thread.size < _thread.taken + needed + _SPARE:
        taken = f", of which others that call it may use {_thread.taken >> 10}" if _thread.taken else ""
        raise BackendUnavailable(
            f"this thread has a stack of {_thread.size >> 10} KiB{taken}, and the guest may use {needed >> 10}: call "
            f"threading.stack_size({THREAD}) before the thread is started{otherwise}",
            backend="wasm",
        )


def take(needed: int) -> None:
    """`insist_on` it, and keep it until it is given back."""
    insist_on(needed)
    _thread.taken += needed + _SPARE
    occupied.add(get_ident())


def give_back(needed: int) -> None:
    _thread.taken -= needed + _SPARE
    if not _thread.taken:
        occupied.discard(get_ident())


def _stack_size() -> int:
    """Bytes of this thread's stack; where the system does not say, what threads have at least there."""
    if sys.platform == "win32":
        return 1 << 20
    libc = ctypes.CDLL(None)
    if sys.platform == "darwin":
        libc.pthread_self.restype = ctypes.c_void_p
        libc.pthread_get_stacksize_np.restype = ctypes.c_size_t
        return int(libc.pthread_get_stacksize_np(ctypes.c_void_p(libc.pthread_self())))
    attributes, base, size = ctypes.create_string_buffer(256), ctypes.c_void_p(), ctypes.c_size_t()
    libc.pthread_self.restype = ctypes.c_void_p
    if libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes):
        return 1 << 20
    libc.pthread_attr_getstack(attributes, ctypes.byref(base), ctypes.byref(size))
    libc.pthread_attr_destroy(attributes)
    return size.value
