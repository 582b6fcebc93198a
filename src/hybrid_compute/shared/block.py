"""A block: a piece of memory that a process makes, and that others of this machine open by what it tells them.

    0            PAGE                        PAGE + size
    | words about it | the data                 |

It is a file without a name (`memfd_create`). Others come to it by way of the process that has made it, whose open files
the system lets them open too (`/proc/PID/fd/N`), if they run under the same user. So nothing is left behind, whoever
dies, and no link between the two is needed; but who makes a block has to keep it until the others have opened it.

The memory itself lives as long as anybody sees it. Whose it is, a number says that grows: a `Share` of an earlier one
is stale.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import secrets
import sys
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid_compute.errors import BackendUnavailable, LimitExceeded, StaleHandle
from hybrid_compute.shared.claims import Claim, fcntl
from hybrid_compute.shared.words import Words

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PAGE = max(mmap.PAGESIZE, 4096)
"""The data begins on a page of its own, so that a sandbox can be shown it and nothing else."""
IDENTITY, GENERATION, WRITER, FREE = 0, 1, 2, 3
"""Words of each block: what it is told by, whose it is, who writes. From FREE on they are its user's."""
CLOSED = (1 << 64) - 1
"""The generation of a block that was given back."""
_NAME = "hybrid-compute-shared"
_KEPT = 8
"""So many blocks of others stay open, for who is given the same array with each call."""


Holder = tuple[int, object]
"""A thread, and which task of its event loop it is at."""


class Handle(NamedTuple):
    """What a block is found by: the process that has made it, its open file there, and which it is."""

    process: int
    fd: int
    identity: int
    size: int


class Block:
    """A block that is open here. `handle` says how others come to it."""

    def __init__(self, fd: int, handle: Handle | None, size: int) -> None:
        self.fd = fd
        self.size = size
        self.holders: list[Holder] = []
        """Who of this process has a lease."""
        self.map = mmap.mmap(fd, PAGE + whole_pages(size))
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        memory = memoryview(self.map)
        self.words = Words(memory[:PAGE])
        self.data = memory[PAGE : PAGE + size]
        self.handle = handle or Handle(os.getpid(), fd, self.words[IDENTITY], size)
        self._own = os.getpid() if handle is None else None
        weakref.finalize(self, os.close, fd).atexit = False

    @property
    def own(self) -> bool:
        """Whether this process has made it, and not one that this is a fork of."""
        return self._own == os.getpid()

    def claim(self, byte: int, *, exclusive: bool) -> Claim:
        return Claim(self.fd, byte, exclusive=exclusive)

    def duplicate(self) -> int:
        """Another descriptor of it, for who maps it once more; -1 where there is none to be had."""
        try:
            return os.dup(self.fd)
        except OSError:
            return -1


class Share:
    """A block, for as long as it belongs to who had it when this was made: what goes to other processes."""

    __slots__ = ("block", "generation")

    def __init__(self, block: Block, generation: int = 0) -> None:
        self.block = block
        self.generation = generation

    @property
    def stale(self) -> bool:
        """Whether the block was given back, or to somebody else."""
        return self.block.words[GENERATION] != self.generation

    def insist(self, what: object) -> None:
        """Raise `StaleHandle` if what lies here is not `what` any more."""
        if self.stale:
            raise StaleHandle(f"{what!r} was given back, or its memory was given to another array")

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, writable: bool) -> npt.NDArray[Any]:
        from numpy import ndarray

        return ndarray(shape, dtype, self.block.data if writable else self.block.data.toreadonly())

    def next(self) -> Share:
        """The block for somebody else: this share is stale."""
        self.block.words[GENERATION] = self.generation + 1
        return Share(self.block, self.generation + 1)

    def close(self) -> None:
        """Give the block back, if this process has made it, and it was not given to somebody else."""
        if self.block.own and not self.stale:
            self.block.words[GENERATION] = CLOSED

    def __reduce__(self) -> tuple[Any, ...]:
        return _found, (self.block.handle, self.generation)


def make(size: int) -> Block:
    """A new block of so many bytes, all zero. Raises `BackendUnavailable` where there are none, `LimitExceeded`."""
    insist_on_linux()
    try:
        fd = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise LimitExceeded(f"no shared memory can be made: {error}") from error
    try:
        os.ftruncate(fd, PAGE + whole_pages(size))
        os.pwrite(fd, secrets.randbits(64).to_bytes(8, sys.byteorder), IDENTITY)
        # Nobody can make it smaller: who touches what is no more is killed.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        block = Block(fd, None, size)
    except (OSError, ValueError, OverflowError) as error:
        os.close(fd)
        raise LimitExceeded(f"{size} bytes of shared memory cannot be had: {error}") from error
    _known[block.handle.identity] = block
    return block


def find(handle: Handle) -> Block:
    """The block that the handle tells of. Raises `StaleHandle` if it is no more, `BackendUnavailable`."""
    insist_on_linux()
    block = _known.get(handle.identity) or _open(handle)
    if not block.own and block not in _recent:
        _recent.append(block)
    return block


def _open(handle: Handle) -> Block:
    path = f"/proc/{handle.process}/fd/{handle.fd}"
    try:
        if not os.readlink(path).startswith(f"/memfd:{_NAME}"):  # its number is that of something else by now
            raise _gone(handle)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _gone(handle) from None
    except OSError as error:
        raise BackendUnavailable(
            f"the shared memory of process {handle.process} cannot be opened here: {error.strerror}; both must run "
            f"under the same user, in sight of each other's processes, and with open files to spare"
        ) from error
    try:
        if int.from_bytes(os.pread(fd, 8, IDENTITY), sys.byteorder) != handle.identity:  # or of another block
            raise _gone(handle)
        block = Block(fd, handle, handle.size)
    except BaseException:
        os.close(fd)
        raise
    _known[handle.identity] = block
    return block


def _gone(handle: Handle) -> StaleHandle:
    return StaleHandle(
        f"this shared memory is gone: process {handle.process}, which has made it, has let go of it or has ended; who "
        f"makes it must keep it until the others have opened it"
    )


def insist_on_linux() -> None:
    """Raise `BackendUnavailable` where processes cannot be given such memory."""
    if sys.platform != "linux" or not os.path.exists("/proc/self/fd"):
        raise BackendUnavailable(
            "memory shared by all places needs Linux, with /proc: elsewhere give arrays to tasks as they are"
        )


def whole_pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def block_at(address: int, size: int) -> Block | None:
    """The block that is open here and has these bytes."""
    for known in _known.valuerefs():  # a copy: other threads make blocks meanwhile
        block = known()
        if block is not None and block.base + PAGE <= address and address + size <= block.base + len(block.map):
            return block
    return None


def _found(handle: Handle, generation: int) -> Share:
    """The share that a handle leads to, in the process that it came to."""
    for block in list(_recent):  # a copy: other threads find blocks meanwhile
        if block.words[GENERATION] == CLOSED:
            with suppress(ValueError):  # one of them was here before
                _recent.remove(block)
    return Share(find(handle), generation)


_known: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()
_recent: deque[Block] = deque(maxlen=_KEPT)


def _hold_nothing() -> None:
    for block in _known.values():
        block.holders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hold_nothing)
