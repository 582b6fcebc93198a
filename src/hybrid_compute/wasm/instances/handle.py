"""A function of an instance, to be called: the shortest way where all is as usual, the long one otherwise.

What takes microseconds here is Python, so all that is the same for each call is looked up before. `quick.py` is the
same for guests that a thread keeps for itself.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from ctypes import addressof, c_size_t, c_void_p, create_string_buffer
from faulthandler import is_enabled
from threading import get_ident
from time import monotonic
from typing import Any

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm import capi
from hybrid_compute.wasm.arguments import by_position
from hybrid_compute.wasm.instances.gate import Gate
from hybrid_compute.wasm.kinds import LETTERS
from hybrid_compute.wasm.leash import NEVER
from hybrid_compute.wasm.memories import signalled
from hybrid_compute.wasm.signals import taken_away
from hybrid_compute.wasm.signature import Convention, give_back
from hybrid_compute.wasm.stack import here, lacks, occupied
from hybrid_compute.wasm.watch import watch


def handle(gate: Gate, export: bytes, convention: Convention, stub: Callable[..., Any] | None) -> Callable[..., Any]:
    """The function that calls this export."""

    def call(*args: Any, **kwargs: Any) -> Any:
        given = args if not kwargs and len(args) == convention.count else bound(convention, stub, args, kwargs)
        values = create_string_buffer(convention.size)
        with gate.calling() as guest:
            taken = convention.put(guest, values, given)
            guest.call(guest.export(export, capi.EXTERN_FUNC), addressof(values), convention.slots)
            result = convention.take(guest, values)
            give_back(guest, taken)
            return result

    program = gate.guest.program
    as_usual = convention.plain and not program.hosts and not program.tells
    quick = _quickly(gate, export, convention, call) if as_usual else call
    if stub is None:
        quick.__name__ = quick.__qualname__ = export.decode()
        return quick

    @functools.wraps(stub)
    def named(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs) if kwargs else quick(*args)

    return named


def bound(
    convention: Convention, stub: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """The arguments in their order. Raises `InvalidInput` if they are not those that the function takes."""
    if stub is None:
        raise InvalidInput(f"{convention.what} takes {convention.count} arguments by position, not {len(args)}")
    return by_position(convention.what, inspect.signature(stub), args, kwargs)


def _quickly(gate: Gate, export: bytes, convention: Convention, long: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a function of numbers, by position. Whatever is out of the ordinary goes the long way."""
    guest, leash, room = gate.guest, gate.leash, gate.guest.room
    values = create_string_buffer(convention.size)
    put = functools.partial(convention.pack_into, values, 0)
    _, types = guest.program.function_type(export.decode())
    letter: Any = LETTERS[types[0]] if types else None
    results: Sequence[Any] = memoryview(values).cast("B").cast(letter) if types else [None]
    enter, trap = capi.func_call_prepared, guest.trap
    context, function = c_void_p(guest.context), c_void_p(guest.export(export, capi.EXTERN_FUNC))
    address, slots, trap_at = c_void_p(addressof(values)), c_size_t(convention.slots), c_void_p(guest.trap_at)
    set_fuel, fuel = capi.set_fuel, guest.all_fuel if guest.engine.metered else 0
    running, number, seconds = watch.running, guest.number, guest.limits.time or NEVER
    lock, needed, recursion_limit = gate.lock, guest.limits.stack, sys.getrecursionlimit

    def call(*args: Any) -> Any:
        me = here.stack
        if (
            gate.quick is me is not gate.owner
            and not (is_enabled() and taken_away())
            and not (occupied and get_ident() in occupied)
            and not (recursion_limit() > gate.safe and lacks(needed))
        ):
            with lock:
                gate.owner = me
                try:
                    if gate.quick is me:
                        try:
                            put(*args)
                        except Exception:  # whatever it is, the long way says what is wrong
                            pass
                        else:
                            if fuel:
                                set_fuel(context, fuel)
                            room.denied = None
                            leash.until = monotonic() + seconds
                            try:
                                running[number] = leash
                                if watch.asleep:
                                    watch.wake()
                                error = enter(context, function, address, slots, trap_at)
                            finally:
                                running.pop(number, None)  # a child that was forked meanwhile has it no more
                            if error or trap or signalled:
                                gate.quick = None
                                guest.check(error)
                            return results[0]
                finally:
                    gate.owner = None
        return long(*args)

    return call
