"""Linear memories, as wasmtime asks us for them: it calls these functions when a guest is made, grows and goes."""

from __future__ import annotations

import threading
from typing import Any

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.wasm import capi
from hybrid_compute.wasm.limits import in_units
from hybrid_compute.wasm.mappings import reason
from hybrid_compute.wasm.slots import SIZE, Room, prepared, used

_making = threading.local()


def making(room: Room | None) -> Room | None:
    """The memories that wasmtime makes in this thread from now on are for this guest. Gives what it was before.

    Who is done sets that again: the handler of a signal may have made its guest in the middle of making another.
    """
    before: Room | None = getattr(_making, "room", None)
    _making.room = room
    return before


def _denied(text: bytes) -> int:
    return capi.error_new(text) or 0


signalled: list[BaseException] = []
"""What handlers of signals have raised while a memory was made or given back, or a guest was thrown away."""


def interruption() -> BaseException | None:
    """What the main thread is to raise now that the memory is made or given back; None in all other threads."""
    if signalled and threading.current_thread() is threading.main_thread():
        return signalled.pop()
    return None


@capi.callback(capi.NewMemory)
def _new(_env: Any, _type: Any, least: int, most: int, _reserved: int, _guard: int, result: Any) -> int:
    try:
        room: Room = _making.room
        if not room.take(least):
            return _denied(b"memory")
        try:
            slot = prepared(room, least, most or SIZE)
        except BackendUnavailable as error:
            room.give_back(least, error)
            return _denied(b"trouble")
        slot.enter(room)
        made = result[0]
        made.env, made.get_memory, made.grow_memory, made.finalizer = slot.number, _get, _grow, _leave
        return 0
    except BaseException as error:
        signalled.append(error)
        return _denied(b"interrupted")


@capi.callback(capi.GetMemory)
def _get(number: int, size: Any, most: Any) -> int:
    try:
        slot = used[number]
        size[0], most[0] = slot.size, SIZE
    except BaseException as error:  # without an answer the guest would write anywhere
        signalled.append(error)
        slot = used[number]
        size[0], most[0] = slot.size, SIZE
    return int(slot.base)


@capi.callback(capi.GrowMemory)
def _grow(number: int, size: int) -> int:
    try:
        slot = used[number]
        room = slot.room
        more = size - slot.size
        if room is None or size > SIZE or not room.take(more):
            return _denied(b"memory")
        if not slot.resize(size):
            text = f"the system gives a sandbox of {in_units(slot.size)} no {in_units(size)}: {reason()}"
            room.give_back(more, BackendUnavailable(text, backend="wasm", started=True))
            return _denied(b"trouble")
        return 0
    except BaseException as error:
        signalled.append(error)
        return _denied(b"interrupted")


@capi.callback(capi.Finalizer)
def _leave(number: int) -> None:
    try:
        used[number].leave()
    except BaseException as error:  # the block is lost, which is better than one that was not cleared
        signalled.append(error)


creator: Any = capi.MemoryCreator()
creator.env, creator.new_memory, creator.finalizer = None, _new, capi.NO_FINALIZER
