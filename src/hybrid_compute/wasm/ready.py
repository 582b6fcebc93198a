"""A function that can be called: its program is compiled, and the types of both sides agree."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ctypes import addressof, create_string_buffer
from typing import Any

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import capi
from hybrid_compute.wasm.guest import Guest
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.program import Program
from hybrid_compute.wasm.quick import NOT_HERE, entrance
from hybrid_compute.wasm.signature import Convention


class Ready:
    """A function that can be called: in a new guest each time."""

    quick: Callable[..., Any] | None = None

    def __init__(self, program: Program, export: str, convention: Convention) -> None:
        self.program = program
        self.export = export.encode()
        self.convention = convention

    def call(self, leash: Leash | None, args: tuple[Any, ...]) -> Any:
        guest = Guest(self.program, leash or Leash())
        try:
            return self.enter(guest, args)
        finally:
            guest.close()

    def enter(self, guest: Guest, args: tuple[Any, ...]) -> Any:
        convention = self.convention
        values = create_string_buffer(convention.size)
        convention.put(guest, values, args)
        guest.call(guest.export(self.export, capi.EXTERN_FUNC), addressof(values), convention.slots)
        return convention.take(guest, values)


class Kept(Ready):
    """A function that can be called: in a guest that the thread keeps."""

    def __init__(self, program: Program, export: str, convention: Convention) -> None:
        super().__init__(program, export, convention)
        self._thread = threading.local()
        if convention.plain and not program.metered and not program.hosts:
            self.quick = self._quickly

    def call(self, leash: Leash | None, args: tuple[Any, ...]) -> Any:
        leash, thread = leash or Leash(), self._thread
        guest: Guest | None = getattr(thread, "guest", None)
        if guest is None:
            guest = Guest(self.program, leash)
        else:
            guest.begin(leash)
        thread.guest = thread.enter = None
        try:
            result = self.enter(guest, args)
        except InvalidInput:  # of an argument: nothing of the guest has run, but for `alloc`
            self._keep(guest)
            raise
        except BaseException:
            guest.close()
            raise
        self._keep(guest)
        return result

    def _keep(self, guest: Guest) -> None:
        guest.end()
        self._thread.guest = guest
        if self.quick is not None:
            self._thread.enter = entrance(guest, self.export, self.convention)

    def _quickly(self, *args: Any) -> Any:
        thread = self._thread
        enter = getattr(thread, "enter", None)
        if enter is None:  # the first call in this thread
            return self.call(None, args)
        try:
            result = enter(*args)
        except BaseException:
            thread.guest = thread.enter = None
            raise
        return self.call(None, args) if result is NOT_HERE else result
