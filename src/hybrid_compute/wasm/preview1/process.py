"""What a guest with WASI takes for its process: arguments, environment, open files, a clock and chance."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.preview1 import beneath
from hybrid_compute.wasm.preview1.files import MOST, Allowance, File, Folder, Input, Sink, refuse
from hybrid_compute.wasm.wasi import Wasi
from hybrid_compute.wasm.worlds import Fixed, Real, chance


class Process:
    """That of one guest. `close` it."""

    def __init__(self, name: str, limits: Limits, wasi: Wasi, args: Sequence[str] = ()) -> None:
        self.args = [each.encode() for each in (name, *wasi.args, *args)]
        self.env = [f"{name}={value}".encode() for name, value in wasi.env.items()]
        self.clock = Real() if wasi.clock is None or wasi.clock == "real" else Fixed(wasi.clock)
        self.random = chance(None if wasi.seed == "real" else wasi.seed)
        self.stderr = Sink(Allowance(name, limits.output, "wrote more to stderr"), wasi.stderr)
        stdout = Sink(Allowance(name, limits.output, "wrote more to stdout"), wasi.stdout)
        self._written = Allowance(name, limits.output, "wrote more to files")
        self._allowances = [stdout.allowance, self.stderr.allowance, self._written]
        self._files: dict[int, File] = {0: Input(wasi.stdin), 1: stdout, 2: self.stderr}
        try:
            for writable, folders in ((False, wasi.dirs), (True, wasi.writable)):
                for known, folder in folders.items():
                    if not beneath.possible:
                        raise BackendUnavailable(f"{name}: folders cannot be granted on {sys.platform}", backend="wasm")
                    opened = beneath.opened(folder)
                    self.add(Folder(opened, self._written, writable=writable, name=known))
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """A call begins, and may print and write as much as the limits say."""
        for allowance in self._allowances:
            allowance.used = 0
        self.stderr.tail = b""

    def add(self, file: File) -> int:
        """The descriptor that the file has from now on."""
        if len(self._files) > MOST:
            file.close()
            refuse(errno.EMFILE)
        descriptor = next(number for number in range(MOST + 4) if number not in self._files)
        self._files[descriptor] = file
        return descriptor

    def file(self, descriptor: int) -> File:
        found = self._files.get(descriptor)
        if found is None:
            refuse(errno.EBADF)
        return found

    def folder(self, descriptor: int) -> Folder:
        found = self.file(descriptor)
        if not isinstance(found, Folder):
            refuse(errno.ENOTDIR)
        return found

    def drop(self, descriptor: int) -> None:
        self.file(descriptor).close()
        del self._files[descriptor]

    def renumber(self, descriptor: int, to: int) -> None:
        """Have `to` stand for what `descriptor` stood for."""
        self.file(descriptor)
        if to != descriptor:
            self.drop(to)  # which must have been open, so that numbers stay small
            self._files[to] = self._files.pop(descriptor)

    def explain(self, error: BaseException) -> BaseException:
        """The error, with the last of what was said on stderr."""
        if self.stderr.tail:
            error.add_note("the last of its stderr:\n" + self.stderr.tail.decode(errors="replace").rstrip())
        return error

    def close(self) -> None:
        """Close what is open."""
        files, self._files = self._files, {}
        for file in files.values():
            file.close()
