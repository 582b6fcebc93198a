"""Shared arrays in the memory of a guest: the pages that others see, in place of some of its own, for a while."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import InvalidInput
from hybrid_compute.wasm.instances.arrays import Block
from hybrid_compute.wasm.instances.gate import Gate
from hybrid_compute.wasm.signature import Taken, allocated, give_back
from hybrid_compute.wasm.trap import Trap

if TYPE_CHECKING:
    import numpy.typing as npt

    from hybrid_compute.shared.array import SharedArray


@contextmanager
def showing(gate: Gate, block: Block, array: SharedArray) -> Generator[npt.NDArray[Any]]:
    """The array, as an array in the memory of the guest."""
    from hybrid_compute.shared.block import PAGE

    _insist_on_what_a_guest_can_read(gate, array)
    fd, start, size = array.pages()
    block.view(0, 0, array.dtype)  # raises where there can be none
    slot = block.slot
    assert slot is not None
    if slot.common is not None:
        raise InvalidInput(
            f"{gate.name} was opened with shared=True, so that workers see all its memory as it is: show {array!r} to "
            f"an instance that was not"
        )
    taken, offset = None, 0
    block.shown += 1  # before its turn: whoever restores in a turn of his own sees it, or is done before
    try:
        with gate.calling() as guest:
            room = allocated(guest, size + PAGE), size + PAGE
            guest.view(*room)  # raises if that is not all its own
            place = range(at := -(-room[0] // PAGE) * PAGE, at + size)
            if any(place.start < other.stop and other.start < place.stop for other in block.places):
                raise Trap(f"{gate.name} names {room[1]} bytes at {room[0]}, where it is shown another array already")
            taken, offset = room, place.start
            block.places.append(place)
            slot.show(offset, size, fd, start)
        values = block.view(offset, array.shape, array.dtype)
        values.flags.writeable = False
        yield values
    finally:
        if taken is not None:
            with gate.turn():
                slot.hide(offset, size)
                block.places.remove(range(offset, offset + size))
        block.shown -= 1
        if taken is not None:
            _give_back(gate, taken)


def _insist_on_what_a_guest_can_read(gate: Gate, array: SharedArray) -> None:
    """Raises `InvalidInput` for all else."""
    from hybrid_compute.shared.array import SharedArray

    if not isinstance(array, SharedArray):
        raise InvalidInput(f"{gate.name} can be shown a SharedArray, and not {type(array).__name__}: copy it into one")
    if array.dtype != array.dtype.newbyteorder("<"):
        raise InvalidInput(f"{gate.name} reads numbers from their lowest byte on, and {array!r} has them the other way")


def _give_back(gate: Gate, taken: Taken) -> None:
    """Tell the guest that it may use these bytes for something else, if it can still be told anything."""
    guest = gate.guest
    if not (gate.closed or guest.spoiled or guest.suspended is not None):
        with gate.calling():
            give_back(guest, [taken])
