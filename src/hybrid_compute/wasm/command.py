"""`WasmCommand`: a program that begins, prints and ends, as a function. Each call has a sandbox of its own."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from ctypes import addressof, create_string_buffer
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import granted
from hybrid_compute.wasm.contained import Contained
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.missing import missing
from hybrid_compute.wasm.source import Source
from hybrid_compute.wasm.wasi import Output, Wasi

if TYPE_CHECKING:
    from hybrid_compute.wasm.program import Program


class WasmCommand(Contained):
    """A module with `_start`, which is what compilers make of a program with `main`.

    Called with arguments and what stdin is to be, it gives an `Output`, whatever the exit code is. Raises `wasm.Trap`
    and `LimitExceeded` as functions do; the last of stderr is noted on them.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        *,
        wasi: Wasi,
        limits: Limits,
        grants: Mapping[str, Any],
        deterministic: bool,
    ) -> None:
        functools.update_wrapper(self, _program)
        self.__name__ = self.__qualname__ = name
        self.source = source
        self.wasi = wasi.deterministic() if deterministic else wasi
        self.limits = limits
        self.grants = dict(grants)
        granted.check(self.grants)
        self.deterministic = deterministic
        self.restartable = not (grants or wasi.has_effects or wasi.has_folders)
        self._compiled: Program | None = None

    def __call__(self, args: Sequence[str] = (), stdin: bytes = b"") -> Output:
        return self._run(None, args, stdin)

    def run(self, leash: Leash | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Output:
        """Run it here; `leash` can stop it."""
        return self._run(leash, *args, **kwargs)

    @property
    def is_ready(self) -> bool:
        return self._compiled is not None

    def prepare(self) -> None:
        """Compile it now rather than at the first call. Raises `InvalidInput` if it is no program."""
        if not self.is_ready:
            self._prepare()

    def _run(self, leash: Leash | None, args: Sequence[str] = (), stdin: bytes = b"") -> Output:
        program = self._compiled or self._prepare()
        from hybrid_compute.wasm import capi
        from hybrid_compute.wasm.guest import Guest
        from hybrid_compute.wasm.preview1.process import Process
        from hybrid_compute.wasm.preview1.process_functions import Exited

        self._insist_on_texts(args, stdin)
        printed, complaints, code = bytearray(), bytearray(), 0
        wasi = replace(
            self.wasi,
            stdin=bytes(stdin) or self.wasi.stdin,
            stdout=self.wasi.stdout or printed.extend,
            stderr=self.wasi.stderr or complaints.extend,
        )
        guest = Guest(program, leash or Leash(), Process(program.name, program.limits, wasi, args))
        try:
            nothing = create_string_buffer(capi.SLOT)
            guest.call(guest.export(b"_start", capi.EXTERN_FUNC), addressof(nothing), 1)
        except Exited as end:
            code = end.exit_code
        finally:
            guest.finish()
        return Output(bytes(printed), bytes(complaints), code)

    def _prepare(self) -> Program:
        try:
            from hybrid_compute.wasm import imports
        except ImportError as error:
            raise missing(self.__name__, error) from error
        made = imports.program(self.source, self.__name__, self.limits, self.grants, self.deterministic, self.wasi)
        if made.function_type("_start") != ((), ()):
            raise InvalidInput(f"{self.__name__}: the module's `_start` is not that of a program")
        self._compiled = made
        return made

    def _insist_on_texts(self, args: Sequence[str], stdin: bytes) -> None:
        if isinstance(args, str) or not all(isinstance(each, str) and "\0" not in each for each in args):
            raise InvalidInput(f"{self.__name__}: args must be a list of texts without zero bytes, not {args!r}")
        if not isinstance(stdin, bytes | bytearray | memoryview):
            raise InvalidInput(f"{self.__name__}: stdin must be bytes, not {type(stdin).__name__}")

    def __repr__(self) -> str:
        return f"<WasmCommand {self.__name__}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}


def _program(args: Sequence[str] = (), stdin: bytes = b"") -> Output:
    """Run the program with these arguments, after its name, and these bytes to read."""
    raise NotImplementedError
