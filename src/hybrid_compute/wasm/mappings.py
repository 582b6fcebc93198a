"""What the system does with addresses: to reserve them, to put memory behind them, and to take it away again."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from ctypes import c_int, c_long, c_size_t, c_void_p
from typing import Any

from hybrid_compute.errors import BackendUnavailable

_NOTHING, _READ_WRITE, _FIXED, _FAILED = 0, 3, 0x10, c_void_p(-1).value
_PIECE = 16 << 20

if sys.platform != "win32":
    _PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (0x4000 if sys.platform == "linux" else 0)  # MAP_NORESERVE
    _libc: Any = ctypes.PyDLL(None, use_errno=True)
    _libc.mmap.restype = c_void_p
    _libc.mmap.argtypes = [c_void_p, c_size_t, c_int, c_int, c_int, c_long]
    _libc.munmap.argtypes = [c_void_p, c_size_t]
    _libc.mprotect.argtypes = [c_void_p, c_size_t, c_int]
    _libc.madvise.argtypes = [c_void_p, c_size_t, c_int]


def reserve(size: int, what: str = "a sandbox") -> int:
    """The first of so many addresses, behind which there is nothing. Raises `BackendUnavailable`."""
    base = _libc.mmap(None, size, _NOTHING, _PRIVATE, -1, 0)
    if base == _FAILED:
        raise BackendUnavailable(
            f"no {size >> 30} GiB of addresses (not of memory) for {what}: {reason()}; see `ulimit -v`"
        )
    return int(base)


def new_file(size: int) -> int:
    """Memory of so many bytes that other processes can be shown, as an open file. Raises `BackendUnavailable`."""
    try:
        fd = os.memfd_create("hybrid-compute-wasm", os.MFD_CLOEXEC)
    except OSError as error:
        raise BackendUnavailable(f"no shared memory for a sandbox: {error}; see `ulimit -n`") from error
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        os.close(fd)
        raise BackendUnavailable(f"no shared memory for a sandbox: {error}") from error
    return fd


def place(base: int, size: int, fd: int = -1, start: int = 0, *, usable: bool = False) -> None:
    """Put memory behind reserved addresses, in place of what was there: a file from `start` on, or memory of our own.

    It can be touched at once, or once it is made `usable`, and reads as zeros if nobody has written to it. Raises
    `BackendUnavailable`.
    """
    how = _PRIVATE if fd < 0 else mmap.MAP_SHARED
    if _libc.mmap(base, size, _READ_WRITE if usable else _NOTHING, how | _FIXED, fd, start) == _FAILED:
        raise BackendUnavailable(f"the system maps no {size} bytes of memory for a sandbox: {reason()}")


def protect(base: int, size: int, *, usable: bool) -> bool:
    """Make memory usable, or have each use of it be a fault. False if the system will not."""
    return not _libc.mprotect(base, size, _READ_WRITE if usable else _NOTHING)


def are_there(size: int) -> bool:
    """Whether the system gives so many bytes, in pieces, as it does to what grows. None of them is touched."""
    if sys.platform == "win32":  # it says so only when they are
        return True
    try:
        base = reserve(size)
    except BackendUnavailable:
        return False
    try:
        return all(protect(base + at, min(_PIECE, size - at), usable=True) for at in range(0, size, _PIECE))
    finally:
        release(base, size)


def empty(base: int, size: int) -> None:
    """Give private memory back to the system, on Linux; it reads as zeros from now on."""
    _libc.madvise(base, size, mmap.MADV_DONTNEED)


def prefer_large_pages(base: int, size: int) -> None:
    """Have memory in large pages, where the system has any: copies into them take a fifth less time."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        _libc.madvise(base, size, mmap.MADV_HUGEPAGE)


def release(base: int, size: int) -> None:
    """Give addresses back."""
    _libc.munmap(base, size)


def reason() -> str:
    """Why the system has refused what was asked last."""
    return os.strerror(ctypes.get_errno())
