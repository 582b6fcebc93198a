"""Paths that stay beneath a folder, whoever made them up.

A path is walked part by part, each opened in the one before it. No symbolic link is followed, `..` goes back along the
way that was come, and never above the folder: so nothing outside can be named, even while others move things about.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager

_FOLDER = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
_PART = _FOLDER | getattr(os, "O_NOFOLLOW", 0)

possible = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether the system can do this. Windows cannot."""


def opened(folder: str | os.PathLike[str]) -> int:
    """The descriptor of a folder that somebody trusted has named."""
    return os.open(folder, _FOLDER)


@contextmanager
def parent(root: int, path: bytes) -> Generator[tuple[int, bytes]]:
    """The descriptor of the folder in which the last part of `path` is, and that part; `.` is the folder itself.

    Raises `OSError`: `EPERM` for a path that leads out, `ELOOP` or `ENOTDIR` for a link on the way.
    """
    if path.startswith(b"/") or b"\0" in path or not path:
        raise OSError(errno.EPERM if path.startswith(b"/") else errno.EINVAL, "no path beneath a folder")
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    ways = [root]
    try:
        last = b"."
        for part in parts:
            if last != b".":
                ways.append(os.open(last, _PART, dir_fd=ways[-1]))
            last = part
            if part == b"..":
                if len(ways) == 1:
                    raise OSError(errno.EPERM, "the path leads out of the folder")
                os.close(ways.pop())
                last = b"."
        yield ways[-1], last
    finally:
        for descriptor in ways[1:]:
            os.close(descriptor)
