"""What the descriptors of a guest stand for: its three streams, and files and folders that it was granted.

What fails raises `OSError`, with the numbers of this system.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NoReturn

from hybrid_compute.wasm.limits import in_units
from hybrid_compute.wasm.preview1 import beneath
from hybrid_compute.wasm.traps import exceeded

MOST = 64
"""So many files and folders may be open at once."""
ENTRY = 4096
"""A new file or folder counts as much as so many bytes written: it takes up room too."""
TAIL = 4096
"""So much of the end of stderr is kept for an error."""


def refuse(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


class Allowance:
    """How much may still be given out in this call; `did` says what exceeds it."""

    def __init__(self, name: str, limit: int, did: str) -> None:
        self.name = name
        self.limit = limit
        self.did = did
        self.used = 0

    def take(self, size: int) -> None:
        """Raises `LimitExceeded` before more is given out than may be."""
        if self.used + size > self.limit:
            raise exceeded(self.name, "output", in_units(self.limit), self.did)
        self.used += size


class ListenerFailed(Exception):
    """Who listens to the output has raised this `OSError`, which is not for the guest."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class File:
    """Something open. What it cannot do it refuses."""

    kind = 0  # WASI's number for a pipe or the like

    def read(self, size: int, at: int | None = None) -> bytes:
        """The next bytes, or those at an offset; fewer at the end."""
        refuse(errno.EBADF)

    def write(self, data: bytes, at: int | None = None) -> int:
        """How many of the bytes are written."""
        refuse(errno.EBADF)

    def seek(self, offset: int, whence: int) -> int:
        """The new position."""
        refuse(errno.ESPIPE)

    def resize(self, size: int) -> None:
        refuse(errno.EINVAL)

    def state(self) -> os.stat_result | None:
        """What the system knows about it, if it is one of its files."""
        return None

    def close(self) -> None:
        """What is opened is closed at the end in any case."""


class Input(File):
    """Bytes to be read from stdin."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def read(self, size: int, at: int | None = None) -> bytes:
        found = self._data[self._position : self._position + size]
        self._position += len(found)
        return found


class Sink(File):
    """stdout or stderr."""

    def __init__(self, allowance: Allowance, sink: Callable[[bytes], object] | None) -> None:
        self.allowance = allowance
        self.tail = b""
        self._sink = sink

    def write(self, data: bytes, at: int | None = None) -> int:
        self.allowance.take(len(data))
        self.tail = (self.tail + data)[-TAIL:]
        if self._sink is not None:
            try:
                self._sink(data)
            except OSError as error:
                raise ListenerFailed(error) from error
        return len(data)


class HostFile(File):
    """A file in a folder that was granted."""

    kind = 4

    def __init__(self, descriptor: int, allowance: Allowance, *, reads: bool, writes: bool, appends: bool) -> None:
        self._descriptor = descriptor
        self._allowance = allowance
        self._reads = reads
        self._writes = writes
        self.appends = appends

    def read(self, size: int, at: int | None = None) -> bytes:
        if not self._reads:
            refuse(errno.EBADF)
        return os.read(self._descriptor, size) if at is None else os.pread(self._descriptor, size, at)

    def write(self, data: bytes, at: int | None = None) -> int:
        if not self._writes:
            refuse(errno.EBADF)
        self._allowance.take(len(data) + self._gap(at))
        if at is not None:
            return os.pwrite(self._descriptor, data, at)
        if self.appends:
            os.lseek(self._descriptor, 0, os.SEEK_END)
        return os.write(self._descriptor, data)

    def _gap(self, at: int | None) -> int:
        """How far beyond the end of the file this is: so many zeros are written as well, whoever stores them."""
        if at is None:
            at = 0 if self.appends else os.lseek(self._descriptor, 0, os.SEEK_CUR)
        return max(0, at - os.fstat(self._descriptor).st_size)

    def seek(self, offset: int, whence: int) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def resize(self, size: int) -> None:
        if not self._writes:
            refuse(errno.EINVAL)
        self._allowance.take(max(0, size - os.fstat(self._descriptor).st_size))
        os.ftruncate(self._descriptor, size)

    def state(self) -> os.stat_result | None:
        return os.fstat(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class Folder(File):
    """A folder that was granted, or one in it. `name` is what the guest knows it by, if it was granted itself."""

    kind = 3

    def __init__(self, descriptor: int, allowance: Allowance, *, writable: bool, name: str = "") -> None:
        self.name = name.encode()
        self._descriptor = descriptor
        self._allowance = allowance
        self._writable = writable
        self._names: list[str] | None = None

    def open(self, path: bytes, flags: int, *, reads: bool, writes: bool, appends: bool) -> File:
        """Open what is there; `flags` are of `os`: `O_CREAT`, `O_EXCL`, `O_TRUNC`, `O_DIRECTORY`."""
        if writes or flags & (os.O_CREAT | os.O_TRUNC):
            self._insist_on_writable()
        if flags & os.O_CREAT:
            self._allowance.take(ENTRY)
        access = (os.O_RDWR if reads else os.O_WRONLY) if writes else os.O_RDONLY
        # Not to wait for the other end of a pipe.
        always = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        with beneath.parent(self._descriptor, path) as (folder, name):
            _refuse_pipes(folder, name)
            descriptor = os.open(name, access | flags | always, 0o666, dir_fd=folder)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            return Folder(descriptor, self._allowance, writable=self._writable)
        if stat.S_ISREG(mode):
            return HostFile(descriptor, self._allowance, reads=reads, writes=writes, appends=appends)
        os.close(descriptor)  # somebody has put it there in this very moment
        refuse(errno.EACCES)

    def look(self, path: bytes) -> os.stat_result:
        """What the system knows about what is there; about a link, not about where it leads."""
        with beneath.parent(self._descriptor, path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def list(self, first: int) -> Iterator[tuple[int, bytes, os.stat_result]]:
        """What is in it, in the order of names, from the entry with the number `first` on: its number, name and state.

        From 0 on it is looked up anew; else the numbers are those of the last time.
        """
        if first == 0 or self._names is None:
            self._names = sorted(os.listdir(self._descriptor))
        for number in range(first, len(self._names)):
            name = self._names[number]
            try:
                yield number, os.fsencode(name), os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            except FileNotFoundError:  # removed meanwhile
                pass

    def make(self, path: bytes) -> None:
        self._insist_on_writable()
        self._allowance.take(ENTRY)
        with beneath.parent(self._descriptor, path) as (folder, name):
            os.mkdir(name, dir_fd=folder)

    def remove(self, path: bytes, *, folder: bool) -> None:
        self._insist_on_writable()
        with beneath.parent(self._descriptor, path) as (where, name):
            (os.rmdir if folder else os.unlink)(name, dir_fd=where)

    def move(self, path: bytes, other: Folder, to: bytes) -> None:
        self._insist_on_writable()
        other._insist_on_writable()
        old, new = beneath.parent(self._descriptor, path), beneath.parent(other._descriptor, to)
        with old as (here, name), new as (there, called):
            os.replace(name, called, src_dir_fd=here, dst_dir_fd=there)

    def state(self) -> os.stat_result | None:
        return os.fstat(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _insist_on_writable(self) -> None:
        if not self._writable:
            refuse(errno.EROFS)


def _refuse_pipes(folder: int, name: bytes) -> None:
    """Refuse what is neither a file nor a folder before it is opened: who waits at the other end would notice."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        refuse(errno.EACCES)
