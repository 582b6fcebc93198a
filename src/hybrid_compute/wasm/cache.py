"""Compiled code, kept on disk for the next process. It is machine code: whoever could write it could run anything.

So it is kept in a folder that is the user's alone, and each file stands beside a note that only this user could have
written: an HMAC under a key of this folder, over the file's digest and over what the system says of the file. As long
as the system says the same, the file is what was written, and is not read again to find out; otherwise its digest
decides. What is damaged, foreign, or of another version or processor is discarded and compiled anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import platform
import secrets
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

MOST = 2 << 30
"""Bytes that are kept. Beyond them, what was not used for longest goes."""
MOST_SEEN = 1000
"""Files whose digests are remembered. Beyond them, those that were read longest ago are read again."""
_ABANDONED = 3600
"""Seconds after which a file that is still being written is one whose writer was killed."""
_NAME = 64
"""Characters of the name of a file of compiled code: a digest."""
_LONGEST = 800
"""Bytes of a note. Such a one cannot be nested too deeply to be read."""


class Cache:
    """A folder of files that this user alone has written, of `most` bytes at most."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self.folder = folder
        self._most = most
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder, folder.lstat()):
            raise PermissionError(f"{folder} could be written by others, and compiled code there is not to be trusted")
        self._key = self._own_key()

    def find(self, name: str) -> Path | None:
        """The file that was stored under this name, if it is there as it was. A damaged one is removed."""
        path, note = self.folder / name, self.folder / f"{name}.note"
        try:
            told = self._told(note)
            seen = path.lstat()
            if not _is_private(path, seen):
                raise ValueError("others could have written it")
            current = told["state"] == _state(seen)
            if not current and _digest(path) != told["digest"]:
                raise ValueError("it is not what was stored")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, IsADirectoryError):
            self.discard(name)
            return None
        except OSError:  # no more descriptors, say: that passes, and the file is good for the next
            return None
        with suppress(OSError):  # a folder that cannot be written to, of an image that was prepared, serves as well
            if not current:
                self._note(path, told["digest"])
            os.utime(note)
        return path

    def store(self, name: str, data: bytes) -> Path:
        """Store this, whole or not at all; the last of two processes wins."""
        path = self.folder / name
        self._put(path, data)
        self._note(path, hashlib.sha256(data).hexdigest())
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        """Discard what was not used for longest, until the rest fits, and what nobody will use."""
        notes = self._by_age("*.note")
        sizes = {note: note.with_suffix("").stat().st_size for note in notes if note.with_suffix("").exists()}
        total = sum(sizes.values())
        for note in notes:
            if total > self._most and note.stem != newest.name:
                total -= sizes.get(note, 0)
                self.discard(note.stem)
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process may do the same
                if _is_abandoned(path):
                    path.unlink()

    def _by_age(self, pattern: str) -> list[Path]:
        """The files of such names, the oldest first. Another process may remove one at any moment."""
        aged = []
        for path in self.folder.glob(pattern):
            with suppress(FileNotFoundError):
                aged.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(aged)]

    def digest_of(self, path: Path, read: Callable[[], str]) -> str:
        """The digest of some file: as it was when it was last `read`, if the system says that it is the same."""
        note = self.folder / f"{hashlib.sha256(str(path.absolute()).encode()).hexdigest()}.seen"
        before = _state(path.stat())
        try:
            told = self._told(note)
            if told["state"] == before:
                return str(told["digest"])
        except (ValueError, KeyError, TypeError, OSError):  # not there, or not ours
            pass
        digest = read()
        if _state(path.stat()) == before:  # nobody has written to it meanwhile
            with suppress(OSError):
                self._write(note, digest, before)
                for old in self._by_age("*.seen")[:-MOST_SEEN]:
                    old.unlink(missing_ok=True)
        return digest

    def discard(self, name: str) -> None:
        """Remove it, whatever is there in its place; where nothing can be removed, it is found damaged again."""
        for path in (self.folder / f"{name}.note", self.folder / name):
            try:
                path.unlink(missing_ok=True)
            except OSError:
                shutil.rmtree(path, ignore_errors=True)

    def _told(self, note: Path) -> dict[str, Any]:
        """What a note says. Raises `ValueError`, `KeyError` or `TypeError` for one that is not ours."""
        with open(note, "rb") as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ValueError("it is longer than our notes are")
        told: dict[str, Any] = json.loads(text)
        if not self._signed(told):
            raise ValueError("it is not ours")
        return told

    def _note(self, path: Path, digest: str) -> None:
        self._write(path.with_name(f"{path.name}.note"), digest, _state(path.lstat()))

    def _write(self, note: Path, digest: str, state: list[int]) -> None:
        told: dict[str, Any] = {"digest": digest, "state": state}
        told["mac"] = self._mac(told)
        self._put(note, json.dumps(told).encode())

    def _put(self, path: Path, data: bytes) -> None:
        """Write a file, whole or not at all, for this user's eyes only."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def _signed(self, told: dict[str, Any]) -> bool:
        return hmac.compare_digest(self._mac(told), str(told["mac"]))

    def _mac(self, told: dict[str, Any]) -> str:
        text = json.dumps([told["digest"], told["state"]]).encode()
        return hmac.digest(self._key, text, "sha256").hex()

    def _own_key(self) -> bytes:
        path = self.folder / "key"
        if not path.exists():
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".new-")
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
            try:
                os.link(temporary, path)  # fails where another process was quicker
            except FileExistsError:
                pass
            finally:
                os.unlink(temporary)
        if not _is_private(path, path.lstat()):
            raise PermissionError(f"{path} could be written by others; remove it")
        return path.read_bytes()


def folder() -> Path:
    """Where caches of this user are: `HYBRID_COMPUTE_CACHE`, or where the system keeps such things."""
    if named := os.environ.get("HYBRID_COMPUTE_CACHE"):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "hybrid-compute"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hybrid-compute"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybrid-compute"


@lru_cache(maxsize=1)
def cache() -> Cache | None:
    """The cache of this user; None, with a warning, where there can be none."""
    try:
        return Cache(folder() / "wasm")
    except OSError as error:
        warnings.warn(f"compiled WASM is not cached, so each process compiles anew: {error}", stacklevel=2)
        return None


def compiled(digest: str, profile: object, compile: Callable[[], bytes], kept: Cache | None) -> Path | bytes:
    """Machine code of the source with this digest, from the cache or compiled and put there; bytes without a cache."""
    if kept is None:
        return compile()
    name = hashlib.sha256(repr((digest, profile, machine())).encode()).hexdigest()
    found = kept.find(name)
    if found is not None:
        return found
    code = compile()
    try:
        return kept.store(name, code)
    except OSError:  # a full disk: it is only a cache
        return code


@lru_cache(maxsize=1)
def machine() -> tuple[str, ...]:
    """What compiled code depends on besides its source: wasmtime, the system, the features of the processor."""
    features = ""
    try:
        with open("/proc/cpuinfo") as file:
            features = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:  # no Linux: wasmtime itself refuses code that does not fit
        pass
    return version("wasmtime"), platform.machine(), sys.platform, features


def _is_private(path: Path, seen: os.stat_result) -> bool:
    """Whether this user alone can have written it."""
    if stat.S_ISLNK(seen.st_mode):
        return False
    return sys.platform == "win32" or (seen.st_uid == os.getuid() and not seen.st_mode & 0o022)


def _is_abandoned(path: Path) -> bool:
    """Whether a writer was killed before it had come to an end: in the middle, or before it wrote the note."""
    unfinished = path.name.startswith(".new-") or (
        len(path.name) == _NAME and not path.with_name(f"{path.name}.note").exists()
    )
    return unfinished and time.time() - path.stat().st_mtime > _ABANDONED


def _state(seen: os.stat_result) -> list[int]:
    """What changes when a file is written to, and cannot be set back."""
    return [seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
