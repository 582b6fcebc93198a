"""WASI preview 1 without files: arguments, environment, clocks, chance, waiting, and the end."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hybrid_compute.wasm.guest import Guest
from hybrid_compute.wasm.preview1.files import refuse
from hybrid_compute.wasm.preview1.process import Process
from hybrid_compute.wasm.trap import Trap

PIECE = 1 << 16
"""Bytes of chance that are made at once: in between, the guest can be stopped."""
_MOST_WAITED_FOR = 1024
_SUBSCRIPTION = struct.Struct("<QB7xI4xQQH6x")
_EVENT = struct.Struct("<QHB5xQH6x")
_WHEN, _CLOCK = 1, 0


class Exited(Trap):
    """The guest has ended itself."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def process_of(guest: Guest) -> Process:
    assert guest.system is not None, "a module that imports WASI has one"
    return guest.system


def put(guest: Guest, at: int, *numbers: int) -> None:
    """Write 32-bit numbers, one after the other."""
    guest.write(at, struct.pack(f"<{len(numbers)}I", *numbers))


# Arguments and environment: texts that end with a zero, and where each begins.


def args_sizes_get(guest: Guest, count: int, size: int) -> None:
    _put_sizes(guest, process_of(guest).args, count, size)


def args_get(guest: Guest, pointers: int, texts: int) -> None:
    _put_texts(guest, process_of(guest).args, pointers, texts)


def environ_sizes_get(guest: Guest, count: int, size: int) -> None:
    _put_sizes(guest, process_of(guest).env, count, size)


def environ_get(guest: Guest, pointers: int, texts: int) -> None:
    _put_texts(guest, process_of(guest).env, pointers, texts)


def _put_sizes(guest: Guest, texts: Sequence[bytes], count: int, size: int) -> None:
    put(guest, count, len(texts))
    put(guest, size, sum(len(text) + 1 for text in texts))


def _put_texts(guest: Guest, texts: Sequence[bytes], pointers: int, at: int) -> None:
    for index, text in enumerate(texts):
        put(guest, pointers + 4 * index, at)
        guest.write(at, text + b"\0")
        at += len(text) + 1


# Time and chance.


def clock_res_get(guest: Guest, clock: int, result: int) -> None:
    if clock > 3:
        refuse(errno.EINVAL)
    guest.write(result, struct.pack("<Q", 1000))


def clock_time_get(guest: Guest, clock: int, _precision: int, result: int) -> None:
    guest.write(result, struct.pack("<Q", _time(process_of(guest), clock) & (1 << 64) - 1))


def _time(process: Process, clock: int) -> int:
    """Of the wall, or for the other three of WASI's clocks that which only goes on."""
    if clock > 3:
        refuse(errno.EINVAL)
    return process.clock.wall() if clock == 0 else process.clock.monotonic()


def random_get(guest: Guest, at: int, size: int) -> None:
    process = process_of(guest)
    guest.view(at, size)  # all of it is there, or nothing is written
    for start in range(at, at + size, PIECE):
        guest.write(start, process.random(min(PIECE, at + size - start)))
        insist_on_going_on(guest)


class _Wait(NamedTuple):
    userdata: int
    type: int
    clock: int
    timeout: int
    precision: int
    flags: int


def poll_oneoff(guest: Guest, at: int, events: int, count: int, result: int) -> None:
    """Wait for a time. Files are always ready."""
    if not 0 < count <= _MOST_WAITED_FOR:
        refuse(errno.EINVAL)
    waits = [_Wait(*each) for each in _SUBSCRIPTION.iter_unpack(guest.read(at, count * _SUBSCRIPTION.size))]
    ready = [wait for wait in waits if wait.type != _CLOCK]
    if not ready:
        ready = _slept(guest, waits)
    guest.write(events, b"".join(_EVENT.pack(wait.userdata, 0, wait.type, 1, 0) for wait in ready))
    put(guest, result, len(ready))


def _slept(guest: Guest, waits: Sequence[_Wait]) -> list[_Wait]:
    """Sleep until the first of these times, and give those that are over."""
    process = process_of(guest)
    left = [wait.timeout - (_time(process, wait.clock) if wait.flags & _WHEN else 0) for wait in waits]
    process.clock.sleep(max(0, min(left)), guest.leash.may_go_on)
    insist_on_going_on(guest)
    return [wait for wait, time in zip(waits, left, strict=True) if time <= max(0, min(left))]


def insist_on_going_on(guest: Guest) -> None:
    """Within what may take long: raise what the guest is to end with, if it is to end."""
    if not guest.leash.may_go_on():
        raise guest.leash.error or AssertionError("what stops a guest says why")


# The end.


def proc_exit(guest: Guest, code: int) -> None:
    raise Exited(f"{guest.name} ended itself, with exit code {code}", code)


def proc_raise(guest: Guest, signal: int) -> None:
    raise Trap(f"{guest.name} ended itself by signal {signal}")


def sched_yield(guest: Guest) -> None:
    insist_on_going_on(guest)


def refused(number: int) -> Callable[..., int]:
    """A function that only fails."""

    def function(_guest: Guest, *_numbers: int) -> int:
        refuse(number)

    return function


_no_network = refused(errno.ENOTSUP)

FUNCTIONS: dict[str, tuple[str, Callable[..., int | None]]] = {
    "args_get": ("ii", args_get),
    "args_sizes_get": ("ii", args_sizes_get),
    "environ_get": ("ii", environ_get),
    "environ_sizes_get": ("ii", environ_sizes_get),
    "clock_res_get": ("ii", clock_res_get),
    "clock_time_get": ("iIi", clock_time_get),
    "poll_oneoff": ("iiii", poll_oneoff),
    "proc_exit": ("i", proc_exit),
    "proc_raise": ("i", proc_raise),
    "random_get": ("ii", random_get),
    "sched_yield": ("", sched_yield),
    "sock_accept": ("iii", _no_network),
    "sock_recv": ("iiiiii", _no_network),
    "sock_send": ("iiiii", _no_network),
    "sock_shutdown": ("ii", _no_network),
}
"""By name: the types of the parameters (`i` for i32, `I` for i64), and what is called."""
