"""A function that can be called: its program is compiled, and the types of both sides agree."""

from __future__ import annotations

import threading
from ctypes import addressof, create_string_buffer
from typing import Any

from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.wasm import capi
from hybrid_compute.wasm.entrance import Entrance
from hybrid_compute.wasm.guest import Guest
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.program import Program
from hybrid_compute.wasm.quick import open_entrance
from hybrid_compute.wasm.signature import Convention, give_back
from hybrid_compute.wasm.trap import Trap
from hybrid_compute.wasm.traps import wanted_room
from hybrid_compute.wasm.watch import watch


class Ready:
    """A function that can be called: in a new guest each time."""

    def __init__(self, program: Program, export: str, convention: Convention) -> None:
        self.program = program
        self.export = export.encode()
        self.convention = convention

    def call(self, leash: Leash | None, args: tuple[Any, ...]) -> Any:
        guest = Guest(self.program, leash or Leash())
        try:
            return self.enter(guest, args)
        finally:
            guest.finish()

    def enter(self, guest: Guest, args: tuple[Any, ...]) -> Any:
        convention = self.convention
        values = create_string_buffer(convention.size)
        convention.put(guest, values, args)
        guest.call(guest.export(self.export, capi.EXTERN_FUNC), addressof(values), convention.slots)
        return convention.take(guest, values)


class Full(Exception):
    """What earlier calls have left in a guest leaves no room for this one."""


class Kept(Ready):
    """A function that can be called: in a guest that the thread keeps."""

    def __init__(self, program: Program, export: str, convention: Convention, entrance: Entrance) -> None:
        super().__init__(program, export, convention)
        self._entrance = entrance
        self._thread = threading.local()
        self._has_short_way = convention.plain and not (program.metered or program.hosts or program.tells)

    def call(self, leash: Leash | None, args: tuple[Any, ...]) -> Any:
        leash = leash or Leash()
        # In one step: the handler of a signal may call this at any moment, and is to find it or not.
        guest: Guest | None = vars(self._thread).pop("guest", None)
        self._entrance.enter = None
        if guest is not None and guest.number not in watch.running:  # else the short way is interrupted in it
            if not guest.spoiled:
                guest.begin(leash)
                try:
                    return self._enter_kept(guest, args)
                except Full:
                    pass
            guest.finish()
        return self._enter_kept(Guest(self.program, leash), args, new=True)

    def _enter_kept(self, guest: Guest, args: tuple[Any, ...], *, new: bool = False) -> Any:
        """Raises `Full` where an older guest has failed for want of room, and a new one may be asked the same."""
        begun = False
        try:
            values = create_string_buffer(self.convention.size)
            taken = self.convention.put(guest, values, args)
            begun = True
            guest.call(guest.export(self.export, capi.EXTERN_FUNC), addressof(values), self.convention.slots)
            result = self.convention.take(guest, values)
            give_back(guest, taken)
        except InvalidInput:  # of an argument: nothing of the guest has run, but for `alloc`
            self._keep(guest)
            raise
        except (Trap, LimitExceeded) as error:
            # What has not begun, or reaches nothing outside, may be done anew.
            full = wanted_room(error) if begun else isinstance(error, Trap) or wanted_room(error)
            if full and not new and not (begun and self.program.hosts):
                raise Full from error
            guest.finish()
            raise
        except BaseException:
            guest.finish()
            raise
        self._keep(guest)
        return result

    def _keep(self, guest: Guest) -> None:
        guest.end()
        self._thread.guest = guest
        if self._has_short_way:
            open_entrance(self._entrance, guest, self.export, self.convention)
