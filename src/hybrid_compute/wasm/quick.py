"""The shortest way into a guest that a thread keeps, for functions of numbers. What takes microseconds here is Python.

All that is the same for each call is looked up before. Whatever is out of the ordinary (an argument that does not fit,
a trap, a call that takes milliseconds) is left to the long way.
"""

from __future__ import annotations

import sys
from ctypes import addressof, create_string_buffer
from faulthandler import is_enabled
from threading import get_ident
from time import monotonic
from typing import Any

from hybrid_compute.errors import LimitExceeded
from hybrid_compute.wasm import capi
from hybrid_compute.wasm.entrance import NOT_HERE, Entrance
from hybrid_compute.wasm.guest import Guest
from hybrid_compute.wasm.leash import NEVER, Leash
from hybrid_compute.wasm.memories import signalled
from hybrid_compute.wasm.signals import taken_away
from hybrid_compute.wasm.signature import Convention
from hybrid_compute.wasm.stack import here, lacks, occupied
from hybrid_compute.wasm.traps import wanted_room
from hybrid_compute.wasm.watch import leashes, watch


def open_entrance(entrance: Entrance, guest: Guest, export: bytes, convention: Convention) -> None:
    """From now on this thread enters this guest by the short way, until something goes wrong.

    Whoever goes the long way shuts it before, and opens it anew after.
    """
    values = create_string_buffer(convention.size)
    call, context, function = capi.func_call, guest.context, guest.export(export, capi.EXTERN_FUNC)
    address, slots, trap, trap_at = addressof(values), convention.slots, guest.trap, guest.trap_at
    pack, unpack, gives = convention.pack_into, convention.unpack_from, convention.signature.result is not None

    room, running, number, seconds = guest.room, watch.running, guest.number, guest.limits.time or NEVER
    needed, safe, recursion_limit = guest.limits.stack, here.stack.safe_limit(guest.limits.stack), sys.getrecursionlimit
    guest.leash = leashes[number] = leash = Leash()
    leash.tick, leash.late, leash.thread = guest.engine.tick, guest.late, get_ident()

    def enter(*args: Any) -> Any:
        if (
            number in running  # this is the handler of a signal, or an argument's own code, in the middle of a call
            or (is_enabled() and taken_away())
            or (occupied and get_ident() in occupied)
            or (recursion_limit() > safe and lacks(needed))
        ):
            return NOT_HERE
        try:
            running[number] = leash  # from here on nobody else comes in
            if entrance.enter is not enter:  # somebody has been here since, and may have closed the guest
                return NOT_HERE
            try:
                pack(values, 0, *args)
            except Exception:  # whatever it is, the long way says what is wrong
                return NOT_HERE
            leash.until = monotonic() + seconds
            room.denied = None
            if watch.asleep:
                watch.wake()
            error = call(context, function, address, slots, trap_at)
            if not (error or trap.value or signalled):
                return unpack(values)[0] if gives else None
        except BaseException:
            entrance.enter = None
            raise
        finally:
            running.pop(number, None)
        entrance.enter = None
        try:
            guest.check(error)
        except LimitExceeded as exceeded:
            if wanted_room(exceeded):  # which it had used up before: a new one has more
                return NOT_HERE
            raise
        return unpack(values)[0] if gives else None

    entrance.enter = enter
