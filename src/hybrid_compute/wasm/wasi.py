"""`Wasi`: what a guest may see of the world. Nothing, unless a task says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Literal

PathLikeStr = str | PathLike[str]


@dataclass(frozen=True)
class Wasi:
    """WASI (preview 1) for a task: what a program finds where it expects an operating system.

    There is no network. Folders are granted by name, and nothing outside them can be reached: neither by `..`, nor by
    absolute paths, nor by symbolic links, none of which is followed. Pipes and devices in them cannot be opened.

        >>> Wasi(dirs={"/data": "/srv/public"}, env={"LANG": "C"}).writable
        {}
    """

    dirs: Mapping[str, PathLikeStr] = field(default_factory=dict[str, PathLikeStr])
    """Folders that can be read: under which name, and where they are here."""
    writable: Mapping[str, PathLikeStr] = field(default_factory=dict[str, PathLikeStr])
    """Folders that can be read and written. All that a call writes there counts for `Limits.output`."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    args: Sequence[str] = ()
    """Arguments, after the program's name."""
    stdin: bytes = b""
    stdout: Callable[[bytes], object] | None = None
    """Called with what the guest prints, when it does. Without it, a program's output is part of its result, and that
    of a function is dropped."""
    stderr: Callable[[bytes], object] | None = None
    """The same for stderr. If the call fails, the error shows the last of it in any case."""
    clock: float | Literal["real"] | None = None
    """Seconds since 1970 at which its clock begins. That clock moves when it is looked at, and when the guest sleeps,
    which takes no time then. None is the real one, and 0.0 in a deterministic task."""
    seed: int | Literal["real"] | None = None
    """What its random numbers follow from. None is real chance, and 0 in a deterministic task."""

    def __post_init__(self) -> None:
        if isinstance(self.args, str):
            raise TypeError(f"Wasi.args is a list of arguments: write [{self.args!r}]")
        for name in (*self.dirs, *self.writable):
            if not name or "\0" in name:
                raise ValueError(f"a folder needs a name for the guest, such as '/data', not {name!r}")
        if both := sorted(self.dirs.keys() & self.writable.keys()):
            raise ValueError(f"{both[0]!r} is in Wasi.dirs and in Wasi.writable: choose one")
        for text in (*self.args, *self.env, *self.env.values()):
            if "\0" in text:
                raise ValueError(f"a program cannot be given {text!r}: its texts end where there is a zero byte")

    @property
    def has_folders(self) -> bool:
        return bool(self.dirs or self.writable)

    @property
    def has_effects(self) -> bool:
        """Whether a call can change something outside its sandbox."""
        return bool(self.writable or self.stdout or self.stderr)

    def deterministic(self) -> Wasi:
        """The same for a task that gives the same bits everywhere. Raises `ValueError` for what would differ."""
        if "real" in (self.clock, self.seed):
            raise ValueError("a deterministic task cannot have a real clock or real chance: leave out Wasi.clock/seed")
        if self.has_folders:
            raise ValueError("a deterministic task cannot have folders, which are not the same everywhere: use stdin")
        return replace(self, clock=self.clock or 0.0, seed=self.seed or 0)


@dataclass(frozen=True)
class Output:
    """What a program has printed, and the code it has ended with: 0 where all went well."""

    stdout: bytes
    stderr: bytes
    exit_code: int
