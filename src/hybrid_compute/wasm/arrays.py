"""Arrays that lie in the memory of a guest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import BackendUnavailable, InvalidInput
from hybrid_compute.links.arena import address_of
from hybrid_compute.wasm.signature import Convention, Signature
from hybrid_compute.wasm.slots import Slot

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hybrid_compute.wasm.guest import Guest

Shape = int | tuple[int, ...]


class InPlace(Convention):
    """The same convention, by which an array that lies in the memory of its guest stays where it is."""

    def __init__(
        self, slot: Slot | None, what: str, signature: Signature, parameters: Sequence[str], results: Sequence[str]
    ) -> None:
        super().__init__(what, signature, parameters, results)
        self._slot = slot

    def place(self, guest: Guest, data: bytes | memoryview) -> int:
        slot = self._slot
        if slot is not None and isinstance(data, memoryview):
            address = address_of(data)
            if address is not None and slot.base <= address <= slot.base + slot.size - len(data):
                return address - slot.base
        return super().place(guest, data)


def size_of(shape: Shape, dtype: np.dtype[Any]) -> int:
    """Bytes of such an array. Raises `InvalidInput` for one that no guest could have."""
    if dtype.hasobject:
        raise InvalidInput(f"an array of {dtype} cannot lie in a guest's memory: its elements are objects of Python")
    lengths = (shape,) if isinstance(shape, int) else shape
    if any(length < 0 for length in lengths):
        raise InvalidInput(f"an array of shape {shape} cannot be: a length is negative")
    return math.prod(lengths) * dtype.itemsize


def view(name: str, slot: Slot | None, offset: int, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array over the guest's memory, from `offset` on. It may outlive the guest.

    Raises `InvalidInput` if not all of it is in that memory, `BackendUnavailable` where there can be no such array.
    """
    import numpy as np

    if slot is None:
        raise BackendUnavailable(
            f"{name}: no array can lie in its memory: it exports no `memory`, or this system lets nobody see it",
            backend="wasm",
        )
    wanted = np.dtype(dtype).newbyteorder("<")
    size = size_of(shape, wanted)
    if not 0 <= offset <= offset + size <= slot.size:
        raise InvalidInput(f"{name}: {size} bytes at {offset} are asked for, and its memory has {slot.size}")
    return np.ndarray(shape, wanted, slot.arrays, offset)
