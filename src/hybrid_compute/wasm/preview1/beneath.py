"""Paths that stay beneath a folder, whoever made them up.

A path is walked part by part, each opened in the one before it. No symbolic link is followed, `..` goes back along the
way that was come, and never above the folder: so nothing outside can be named, even while others move things about.
Of the way only the last few folders are kept open, however long it is.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
_PART = _FOLDER | getattr(os, "O_NOFOLLOW", 0)

possible = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether the system can do this. Windows cannot."""


def opened(folder: str | os.PathLike[str]) -> int:
    """The descriptor of a folder that somebody trusted has named."""
    return os.open(folder, _FOLDER)


LONGEST = 4096
"""Bytes of a path: as on Linux."""
_KEPT = 16
"""So many folders on the way are open at once, and so often `..` can follow itself."""


@contextmanager
def parent(root: int, path: bytes) -> Generator[tuple[int, bytes]]:
    """The descriptor of the folder in which the last part of `path` is, and that part; `.` is the folder itself.

    Raises `OSError`: `EPERM` for a path that leads out, `ELOOP` or `ENOTDIR` for a link on the way, `ENAMETOOLONG` for
    one that is too long, or goes back too far.
    """
    if len(path) > LONGEST:
        raise OSError(errno.ENAMETOOLONG, f"a path of more than {LONGEST} bytes")
    if path.startswith(b"/") or b"\0" in path or not path:
        raise OSError(errno.EPERM if path.startswith(b"/") else errno.EINVAL, "no path beneath a folder")
    way = _Way(root)
    try:
        last = b"."
        for part in path.split(b"/"):
            if part in (b"", b"."):
                continue
            if last != b".":
                way.go(last)
            last = part
            if part == b"..":
                way.go_back()
                last = b"."
        yield way.here, last
    finally:
        way.close()


class _Way:
    """From a folder down to another one. Only what lies beneath the first is opened, and closed, here."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._depth = 0
        self._open: deque[int] = deque()

    @property
    def here(self) -> int:
        return self._open[-1] if self._open else self._root

    def go(self, name: bytes) -> None:
        self._open.append(os.open(name, _PART, dir_fd=self.here))
        self._depth += 1
        if len(self._open) > _KEPT:
            os.close(self._open.popleft())

    def go_back(self) -> None:
        if not self._depth:
            raise OSError(errno.EPERM, "the path leads out of the folder")
        if len(self._open) == 1 < self._depth:
            raise OSError(errno.ENAMETOOLONG, f"the path goes back by more than {_KEPT - 1} folders at once")
        os.close(self._open.pop())
        self._depth -= 1

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())
