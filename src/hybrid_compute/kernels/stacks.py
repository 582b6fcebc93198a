"""Whether the stack of a thread is large enough for a kernel.

A kernel that calls itself without end comes to a trap when it has used up what it may have of the stack. If the thread
had less than that, it would be the end of the process instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading

from hybrid_compute.errors import BackendUnavailable

MOST = 256 << 10
"""What a kernel may use."""
_ROOM = 512 << 10
"""What a thread must have."""


class _Thread(threading.local):
    checked = False


thread = _Thread()


def insist() -> None:
    """Raise `BackendUnavailable` on a thread whose stack is too small, where that can be told."""
    size = _size()
    if size is not None and size < _ROOM:
        raise BackendUnavailable(
            f"this thread has a stack of {size >> 10} KiB, and a kernel needs {_ROOM >> 10}: "
            f"call threading.stack_size({8 << 20}) before the thread is started"
        )
    thread.checked = True


def _size() -> int | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    attributes, base, size = ctypes.create_string_buffer(256), ctypes.c_void_p(), ctypes.c_size_t()
    libc.pthread_self.restype = ctypes.c_void_p
    with contextlib.suppress(AttributeError):  # another C library
        if libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes):
            return None
        libc.pthread_attr_getstack(attributes, ctypes.byref(base), ctypes.byref(size))
        libc.pthread_attr_destroy(attributes)
        return size.value
    return None
