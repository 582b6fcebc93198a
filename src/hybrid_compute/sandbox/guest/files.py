"""Files, in memory: those that came with the program, and those that it writes. They end with the sandbox.

`install` puts these in the place of `open` and of what `os` says about files, so that `pathlib`, `csv`, `glob` and
the like find them.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import posixpath
import stat
from collections.abc import Iterator
from typing import Any

_OF_PROGRAM = 1_000_000_000.0  # when all files were made


class Files:
    """Contents by absolute path. A folder is there if something is in it, or if it was made."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.folders = {"/", "/tmp"}

    def put(self, path: str, content: bytes) -> None:
        """Add a file, and the folders it is in."""
        at = _absolute(path)
        self.contents[at] = content
        while (at := posixpath.dirname(at)) not in self.folders:
            self.folders.add(at)

    def source_of(self, module: str) -> str | None:
        """The text of a module that came as a file, if there is one."""
        content = self.contents.get(f"/{module.replace('.', '/')}.py")
        return None if content is None else content.decode()

    def open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """As `open`."""
        path = _absolute(file)
        raw = self._raw(path, mode)
        if "b" in mode:
            if encoding is not None or newline is not None:
                raise ValueError("binary mode doesn't take an encoding or newline argument")
            return raw
        text = io.TextIOWrapper(raw, "utf-8" if encoding in (None, "locale") else encoding, errors, newline)
        vars(text)["mode"] = mode
        return text

    def _raw(self, path: str, mode: str) -> _File:
        kind = mode.replace("b", "").replace("t", "").replace("+", "")
        if kind not in ("r", "w", "a", "x"):
            raise ValueError(f"invalid mode: {mode!r}")
        if path in self.folders:
            raise _error(errno.EISDIR, path)
        if kind == "r" and path not in self.contents:
            raise _error(errno.ENOENT, path)
        if kind == "x" and path in self.contents:
            raise _error(errno.EEXIST, path)
        if posixpath.dirname(path) not in self.folders:
            raise _error(errno.ENOENT, path)
        if kind in ("w", "x"):
            self.contents[path] = b""
        return _File(self, path, mode, kind)

    def stat(self, path: Any, *, dir_fd: Any = None, follow_symlinks: bool = True) -> os.stat_result:
        """As `os.stat`."""
        at = _absolute(path)
        if at in self.folders:
            return _status(stat.S_IFDIR | 0o755, 0)
        return _status(stat.S_IFREG | 0o644, len(self._content(at)))

    def listdir(self, path: Any = ".") -> list[str]:
        """As `os.listdir`, in the order of the alphabet."""
        at = _absolute(path)
        if at not in self.folders:
            raise _error(errno.ENOTDIR if at in self.contents else errno.ENOENT, at)
        within = (each for each in [*self.contents, *self.folders] if each != "/")
        return sorted(posixpath.basename(each) for each in within if posixpath.dirname(each) == at)

    def scandir(self, path: Any = ".") -> _Entries:
        """As `os.scandir`."""
        given = os.fspath(path)
        return _Entries([_Entry(self, name, posixpath.join(given, name)) for name in self.listdir(path)])

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: Any = None) -> None:
        """As `os.mkdir`."""
        at = _absolute(path)
        if at in self.folders or at in self.contents:
            raise _error(errno.EEXIST, at)
        if posixpath.dirname(at) not in self.folders:
            raise _error(errno.ENOENT, at)
        self.folders.add(at)

    def remove(self, path: Any, *, dir_fd: Any = None) -> None:
        """As `os.remove`."""
        at = _absolute(path)
        self._content(at)
        del self.contents[at]

    def rmdir(self, path: Any, *, dir_fd: Any = None) -> None:
        """As `os.rmdir`."""
        at = _absolute(path)
        if self.listdir(at):
            raise _error(errno.ENOTEMPTY, at)
        self.folders.discard(at)

    def replace(self, src: Any, dst: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None) -> None:
        """As `os.replace`, for files."""
        content = self._content(_absolute(src))
        self.remove(src)
        self.put(os.fspath(dst), content)

    def _content(self, path: str) -> bytes:
        if path in self.folders:
            raise _error(errno.EISDIR, path)
        if path not in self.contents:
            raise _error(errno.ENOENT, path)
        return self.contents[path]

    def install(self) -> None:
        """Take the place of what would ask the system."""
        builtins.open = io.open = self.open
        for name in ("stat", "listdir", "scandir", "mkdir", "remove", "rmdir", "replace"):
            setattr(os, name, getattr(self, name))
        os.lstat, os.unlink, os.rename = self.stat, self.remove, self.replace


class _File(io.BytesIO):
    """An open file. What was written is there for others after a flush."""

    def __init__(self, files: Files, path: str, mode: str, kind: str) -> None:
        super().__init__(files.contents.get(path, b""))
        vars(self).update(name=path, mode=mode)
        self._files, self._path = files, path
        self._writable = kind != "r" or "+" in mode
        self._appends = kind == "a"
        self._readable = kind == "r" or "+" in mode
        if self._appends:
            self.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        return self._readable

    def writable(self) -> bool:
        return self._writable

    def write(self, data: Any, /) -> int:
        if not self._writable:
            raise io.UnsupportedOperation("not writable")
        if self._appends:
            self.seek(0, io.SEEK_END)
        return super().write(data)

    def flush(self) -> None:
        if self._writable and not self.closed:
            self._files.contents[self._path] = self.getvalue()

    def close(self) -> None:
        self.flush()
        super().close()


class _Entry:
    """As `os.DirEntry`."""

    def __init__(self, files: Files, name: str, path: str) -> None:
        self.name, self.path = name, path
        self._files = files

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return _absolute(self.path) in self._files.folders

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return not self.is_dir()

    def is_symlink(self) -> bool:
        return False

    def is_junction(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._files.stat(self.path)

    def __fspath__(self) -> str:
        return self.path


class _Entries:
    """What `os.scandir` gives: an iterator that can be closed."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[_Entry]:
        return self._entries

    def __next__(self) -> _Entry:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""


def _absolute(path: Any) -> str:
    if isinstance(path, int):
        raise _error(errno.EBADF, str(path))
    name = os.fspath(path)
    at = posixpath.normpath(posixpath.join("/", name if isinstance(name, str) else os.fsdecode(name)))
    return at.replace("//", "/", 1)  # two slashes at the beginning are kept by `normpath`


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _status(mode: int, size: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, 0, 0, size, _OF_PROGRAM, _OF_PROGRAM, _OF_PROGRAM))


files = Files()
"""Those of this sandbox, which runs one program."""
