"""WASI preview 1 for files: descriptors (`fd_`), and what is beneath a folder (`path_`)."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable

from hybrid_compute.wasm.guest import Guest
from hybrid_compute.wasm.preview1.beneath import LONGEST
from hybrid_compute.wasm.preview1.files import Folder, HostFile, Input, refuse
from hybrid_compute.wasm.preview1.process_functions import insist_on_going_on, process_of, put, refused

MOST = 1 << 20
"""Bytes that are read or written at once. Whoever wants more asks again, and can be stopped in between."""
_PIECES = 1024
_READ, _WRITE = 1 << 1, 1 << 6
_ALL = (1 << 30) - 1
_APPEND = 1
_OPENING = ((1, os.O_CREAT), (2, getattr(os, "O_DIRECTORY", 0)), (4, os.O_EXCL), (8, os.O_TRUNC))
_WHENCE = (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)
_ENTRY = struct.Struct("<QQIB3x")
_DIRECTORY, _REGULAR, _LINK = 3, 4, 7


# Reading and writing: into and out of several pieces of memory at once.


def fd_read(guest: Guest, descriptor: int, pieces: int, count: int, result: int) -> None:
    _read(guest, descriptor, pieces, count, None, result)


def fd_pread(guest: Guest, descriptor: int, pieces: int, count: int, at: int, result: int) -> None:
    if not isinstance(process_of(guest).file(descriptor), HostFile):
        refuse(errno.ESPIPE)
    _read(guest, descriptor, pieces, count, _offset(at), result)


def fd_write(guest: Guest, descriptor: int, pieces: int, count: int, result: int) -> None:
    _write(guest, descriptor, pieces, count, None, result)


def fd_pwrite(guest: Guest, descriptor: int, pieces: int, count: int, at: int, result: int) -> None:
    if not isinstance(process_of(guest).file(descriptor), HostFile):
        refuse(errno.ESPIPE)
    _write(guest, descriptor, pieces, count, _offset(at), result)


def _read(guest: Guest, descriptor: int, pieces: int, count: int, at: int | None, result: int) -> None:
    places = _places(guest, pieces, count)
    data = memoryview(process_of(guest).file(descriptor).read(sum(size for _, size in places), at))
    put(guest, result, len(data))
    for offset, size in places:
        guest.write(offset, bytes(data[:size]))
        data = data[size:]


def _write(guest: Guest, descriptor: int, pieces: int, count: int, at: int | None, result: int) -> None:
    data = b"".join(guest.read(offset, size) for offset, size in _places(guest, pieces, count))
    put(guest, result, process_of(guest).file(descriptor).write(data, at))


def _places(guest: Guest, pieces: int, count: int) -> list[tuple[int, int]]:
    """Where, and how much: as much as is read or written at once."""
    if count > _PIECES:
        refuse(errno.EINVAL)
    left, places = MOST, list[tuple[int, int]]()
    for offset, size in struct.iter_unpack("<II", guest.read(pieces, 8 * count)):
        places.append((offset, min(size, left)))
        left -= places[-1][1]
    return places


def _offset(unsigned: int) -> int:
    if unsigned >> 63:
        refuse(errno.EINVAL)
    return unsigned


# Descriptors.


def fd_close(guest: Guest, descriptor: int) -> None:
    process_of(guest).drop(descriptor)


def fd_renumber(guest: Guest, descriptor: int, to: int) -> None:
    process_of(guest).renumber(descriptor, to)


def fd_seek(guest: Guest, descriptor: int, offset: int, whence: int, result: int) -> None:
    if whence >= len(_WHENCE):
        refuse(errno.EINVAL)
    signed = offset - (1 << 64) if offset >> 63 else offset
    position = process_of(guest).file(descriptor).seek(signed, _WHENCE[whence])
    guest.write(result, struct.pack("<Q", position))


def fd_tell(guest: Guest, descriptor: int, result: int) -> None:
    fd_seek(guest, descriptor, 0, 1, result)


def fd_fdstat_get(guest: Guest, descriptor: int, result: int) -> None:
    file = process_of(guest).file(descriptor)
    flags = _APPEND if isinstance(file, HostFile) and file.appends else 0
    rights = _READ if isinstance(file, Input) else _ALL if file.kind else _WRITE
    guest.write(result, struct.pack("<BxH4xQQ", file.kind, flags, rights, _ALL))


def fd_fdstat_set_flags(guest: Guest, descriptor: int, flags: int) -> None:
    file = process_of(guest).file(descriptor)
    if isinstance(file, HostFile):
        file.appends = bool(flags & _APPEND)


def fd_filestat_get(guest: Guest, descriptor: int, result: int) -> None:
    file = process_of(guest).file(descriptor)
    state = file.state()
    guest.write(result, struct.pack("<16xB47x", file.kind) if state is None else _filestat(state))


def fd_filestat_set_size(guest: Guest, descriptor: int, size: int) -> None:
    process_of(guest).file(descriptor).resize(_offset(size))


def fd_accepted(guest: Guest, descriptor: int, *_numbers: int) -> None:
    """Advice, and to see that all is on disk: nothing that a guest would notice."""
    process_of(guest).file(descriptor)


def fd_prestat_get(guest: Guest, descriptor: int, result: int) -> None:
    put(guest, result, 0, len(_granted(guest, descriptor)))


def fd_prestat_dir_name(guest: Guest, descriptor: int, at: int, size: int) -> None:
    guest.write(at, _granted(guest, descriptor)[:size])


def _granted(guest: Guest, descriptor: int) -> bytes:
    """The name of a folder that was granted. There are no others."""
    file = process_of(guest).file(descriptor)
    if not isinstance(file, Folder) or not file.name:
        refuse(errno.EBADF)
    return file.name


def fd_readdir(guest: Guest, descriptor: int, at: int, size: int, cookie: int, result: int) -> None:
    """Entries from the one with the number `cookie` on; the last may be cut off, which says that there are more."""
    listed = bytearray()
    for number, name, state in process_of(guest).folder(descriptor).list(cookie):
        insist_on_going_on(guest)
        listed += _ENTRY.pack(number + 1, state.st_ino, len(name), _kind(state)) + name
        if len(listed) >= size:
            break
    guest.write(at, bytes(listed[:size]))
    put(guest, result, min(size, len(listed)))


# Paths.


def _path(guest: Guest, at: int, size: int) -> bytes:
    if size > LONGEST:
        refuse(errno.ENAMETOOLONG)
    return guest.read(at, size)


def path_open(
    guest: Guest, folder: int, _lookup: int, at: int, size: int, opening: int, rights: int, _more: int, flags: int,
    result: int,
) -> None:  # fmt: skip
    process, wanted = process_of(guest), 0
    for bit, flag in _OPENING:
        wanted |= flag if opening & bit else 0
    # Some ask for every right there is when they open a folder.
    writes = bool(rights & _WRITE) and not opening & 2
    reads = bool(rights & _READ) or not writes
    file = process.folder(folder).open(
        _path(guest, at, size), wanted, reads=reads, writes=writes, appends=bool(flags & _APPEND)
    )
    put(guest, result, process.add(file))


def path_filestat_get(guest: Guest, folder: int, _lookup: int, at: int, size: int, result: int) -> None:
    guest.write(result, _filestat(process_of(guest).folder(folder).look(_path(guest, at, size))))


def path_create_directory(guest: Guest, folder: int, at: int, size: int) -> None:
    process_of(guest).folder(folder).make(_path(guest, at, size))


def path_remove_directory(guest: Guest, folder: int, at: int, size: int) -> None:
    process_of(guest).folder(folder).remove(_path(guest, at, size), folder=True)


def path_unlink_file(guest: Guest, folder: int, at: int, size: int) -> None:
    process_of(guest).folder(folder).remove(_path(guest, at, size), folder=False)


def path_rename(guest: Guest, folder: int, at: int, size: int, other: int, to: int, length: int) -> None:
    process = process_of(guest)
    process.folder(folder).move(_path(guest, at, size), process.folder(other), _path(guest, to, length))


def _filestat(state: os.stat_result) -> bytes:
    times = (max(0, each) for each in (state.st_atime_ns, state.st_mtime_ns, state.st_ctime_ns))  # WASI begins in 1970
    return struct.pack("<QQB7xQQQQQ", 0, state.st_ino, _kind(state), state.st_nlink, state.st_size, *times)


def _kind(state: os.stat_result) -> int:
    if stat.S_ISDIR(state.st_mode):
        return _DIRECTORY
    if stat.S_ISREG(state.st_mode):
        return _REGULAR
    return _LINK if stat.S_ISLNK(state.st_mode) else 0


_not_offered = refused(errno.ENOTSUP)

FUNCTIONS: dict[str, tuple[str, Callable[..., int | None]]] = {
    "fd_advise": ("iIIi", fd_accepted),
    "fd_allocate": ("iII", _not_offered),
    "fd_close": ("i", fd_close),
    "fd_datasync": ("i", fd_accepted),
    "fd_fdstat_get": ("ii", fd_fdstat_get),
    "fd_fdstat_set_flags": ("ii", fd_fdstat_set_flags),
    "fd_fdstat_set_rights": ("iII", fd_accepted),
    "fd_filestat_get": ("ii", fd_filestat_get),
    "fd_filestat_set_size": ("iI", fd_filestat_set_size),
    "fd_filestat_set_times": ("iIIi", _not_offered),
    "fd_pread": ("iiiIi", fd_pread),
    "fd_prestat_dir_name": ("iii", fd_prestat_dir_name),
    "fd_prestat_get": ("ii", fd_prestat_get),
    "fd_pwrite": ("iiiIi", fd_pwrite),
    "fd_read": ("iiii", fd_read),
    "fd_readdir": ("iiiIi", fd_readdir),
    "fd_renumber": ("ii", fd_renumber),
    "fd_seek": ("iIii", fd_seek),
    "fd_sync": ("i", fd_accepted),
    "fd_tell": ("ii", fd_tell),
    "fd_write": ("iiii", fd_write),
    "path_create_directory": ("iii", path_create_directory),
    "path_filestat_get": ("iiiii", path_filestat_get),
    "path_filestat_set_times": ("iiiiIIi", _not_offered),
    "path_link": ("iiiiiii", _not_offered),
    "path_open": ("iiiiiIIii", path_open),
    "path_readlink": ("iiiiii", _not_offered),
    "path_remove_directory": ("iii", path_remove_directory),
    "path_rename": ("iiiiii", path_rename),
    "path_symlink": ("iiiii", _not_offered),
    "path_unlink_file": ("iii", path_unlink_file),
}
"""By name: the types of the parameters (`i` for i32, `I` for i64), and what is called."""
