r"""Snapshots in files, which are written whole or not at all.

    12 bytes   b"hc engine 1\n", the form of the file
    32 bytes   SHA-256 of the rest
    the rest   the snapshot

So a file is known to be whole when it is read. Who wrote it is not known: the snapshot is a pickle.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

from hybrid_compute.errors import EngineError

_NAME: Final = b"hc engine "
_FORM: Final = _NAME + b"1\n"


def save(path: Path, snapshot: bytes) -> None:
    """Write a snapshot in place of what was there; after a power cut it is the one or the other. Raises `OSError`."""
    handle, new = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_FORM + hashlib.sha256(snapshot).digest() + snapshot)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def load(path: Path) -> bytes:
    """The snapshot in a file. Raises `EngineError` if it is none, or not whole, and `OSError` if it cannot be read."""
    data = path.read_bytes()
    if not data.startswith(_NAME):
        raise EngineError(f"{path} is not the file of an engine")
    if not data.startswith(_FORM):
        version = data[len(_NAME) : len(_FORM)].strip().decode("latin-1")
        raise EngineError(f"{path} has form {version!r}, and this version reads form '1'")
    digest, snapshot = data[len(_FORM) : len(_FORM) + 32], data[len(_FORM) + 32 :]
    if hashlib.sha256(snapshot).digest() != digest:
        raise EngineError(f"{path} is damaged or cut short: it is not what was saved")
    return snapshot


def _sync_folder(folder: Path) -> None:
    """See to it that the new name outlives a power cut, where folders can be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
