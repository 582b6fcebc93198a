"""Room on the stack: a guest uses that of the thread that calls it.

A stack with less left than what the guest may use would not end in a trap, but in the death of the process. How much is
left is looked up where it matters, which takes half a microsecond: not in a thread whose stack is so large that a guest
fits on it however deep the calls of Python are.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from ctypes import addressof, c_size_t, c_void_p, create_string_buffer
from threading import get_ident
from typing import Any

from hybrid_compute.errors import BackendUnavailable

THREAD = 8 << 20
"""Bytes of stack for threads that call guests."""
SPARE = 128 << 10
"""What the way into the guest and host functions need besides."""
_CALL = 4 << 10
"""More than a call of Python takes there, by whatever way it comes: of `map`, which is a common one, it is 0.6 KiB."""
_CALLS_OF_C = 7 << 20
"""The same for all there may be since Python 3.12, which counts those that go through C by itself: ten thousand."""

# Where `getcontext` of glibc leaves the stack pointer.
_POINTER_AT = {"x86_64": 160, "aarch64": 432}.get(platform.machine())
_libc: Any = None if sys.platform == "win32" else ctypes.PyDLL(None)
_can_look = _POINTER_AT is not None and hasattr(_libc, "gnu_get_libc_version")
_getcontext: Any = _libc.getcontext if _can_look else None


class Stack:
    """What is known of a thread's stack."""

    __slots__ = ("_context_at", "_pointer", "lowest", "size", "taken")

    def __init__(self) -> None:
        self.lowest, self.size = _bounds()
        self.taken = 0
        """By guests that are under way here: one may call a function of ours that calls another."""
        context = create_string_buffer(2048)
        self._context_at = c_void_p(addressof(context))
        self._pointer = c_size_t.from_buffer(context, _POINTER_AT or 0)

    def left(self) -> int:
        """Bytes below the call that asks; where that cannot be seen, all that no guest has taken."""
        if _can_look:
            _getcontext(self._context_at)
            left = self._pointer.value - self.lowest
            if 0 <= left <= self.size:  # else it is a stack of wasmtime's, that of a call that can be suspended
                return left
        return self.size - self.taken

    def safe_limit(self, needed: int) -> int:
        """Up to which recursion limit of Python a guest that may use so many bytes fits, however deep it is called."""
        beyond = self.size - self.taken - needed - SPARE
        if sys.version_info >= (3, 12):
            return sys.maxsize if beyond >= _CALLS_OF_C else -1
        return beyond // _CALL

    def insist_on(self, needed: int, otherwise: str = ", or lower Limits.stack") -> None:
        if sys.getrecursionlimit() > self.safe_limit(needed) and self.left() < needed + SPARE:
            raise BackendUnavailable(
                f"this thread has a stack of {self.size >> 10} KiB, of which {max(0, self.left()) >> 10} are left, and "
                f"the guest may use {needed >> 10}: call threading.stack_size({THREAD}) before the thread is started, "
                f"or call the guest where fewer calls are under way{otherwise}",
                backend="wasm",
            )


class _Here(threading.local):
    def __init__(self) -> None:
        self.stack = Stack()
        """That of this thread. It tells it from all others, too: the numbers of threads come again."""


def insist_on(needed: int, otherwise: str = ", or lower Limits.stack") -> None:
    """Refuse to run a guest that may use so many bytes where this thread has too few left."""
    here.stack.insist_on(needed, otherwise)


def lacks(needed: int) -> bool:
    """Whether too little is left, here and now, for a guest that may use so many bytes."""
    return here.stack.left() < needed + SPARE


def take(needed: int) -> None:
    """`insist_on` it, and keep it until it is given back."""
    stack = here.stack
    stack.insist_on(needed)
    stack.taken += needed + SPARE
    occupied.add(get_ident())


def give_back(needed: int) -> None:
    stack = here.stack
    stack.taken -= needed + SPARE
    if not stack.taken:
        occupied.discard(get_ident())


def _bounds() -> tuple[int, int]:
    """The lowest address of this thread's stack, or 0, and its bytes; else what threads have at least there."""
    if sys.platform == "win32":
        return 0, 1 << 20
    if sys.platform == "darwin":
        _libc.pthread_self.restype = c_void_p
        _libc.pthread_get_stacksize_np.restype = c_size_t
        return 0, int(_libc.pthread_get_stacksize_np(c_void_p(_libc.pthread_self())))
    attributes, base, size = create_string_buffer(256), c_void_p(), c_size_t()
    _libc.pthread_self.restype = c_void_p
    if _libc.pthread_getattr_np(c_void_p(_libc.pthread_self()), attributes):
        return 0, 1 << 20
    _libc.pthread_attr_getstack(attributes, ctypes.byref(base), ctypes.byref(size))
    _libc.pthread_attr_destroy(attributes)
    return base.value or 0, size.value


here = _Here()
occupied: set[int] = set()
"""The threads in which guests are under way. In those, the short ways do not go: they do not ask for room."""
