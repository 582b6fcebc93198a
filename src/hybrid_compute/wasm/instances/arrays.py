"""Arrays that lie in the memory of a guest."""

from __future__ import annotations

import ctypes
import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import BackendClosed, BackendUnavailable, InvalidInput
from hybrid_compute.links.arena import address_of
from hybrid_compute.wasm.signature import Convention, Signature, Taken
from hybrid_compute.wasm.slots import ARRAYS, Slot

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

    def place(self, guest: Guest, data: bytes | memoryview, taken: list[Taken]) -> int:
        slot = self._slot
        if slot is not None and isinstance(data, memoryview):
            address = address_of(data)
            if address is not None and slot.base <= address <= slot.base + slot.size - len(data):
                return address - slot.base
        return super().place(guest, data, taken)


def size_of(shape: Shape, dtype: np.dtype[Any]) -> int:
    """Bytes of such an array. Raises `InvalidInput` for one that no guest could have."""
    if dtype.hasobject:
        raise InvalidInput(f"an array of {dtype} cannot lie in a guest's memory: its elements are objects of Python")
    # As our own integers, which have no end: those of numpy would overflow.
    lengths = tuple(map(operator.index, shape if isinstance(shape, tuple | list) else (shape,)))
    if any(length < 0 for length in lengths):
        raise InvalidInput(f"an array of shape {shape} cannot be: a length is negative")
    return math.prod(lengths) * dtype.itemsize


class Block:
    """The memory of a guest, for arrays to lie in. They stay valid when it is closed, and keep that memory."""

    def __init__(self, name: str, slot: Slot | None) -> None:
        self._name = name
        self.slot = slot
        self.shown = 0
        """So many shared arrays lie in it for a while."""
        self.places: list[range] = []
        """Where they lie."""
        self._buffer = slot.hold(ARRAYS) if slot is not None else None

    @property
    def size(self) -> int:
        return self.slot.size if self.slot is not None else 0

    def view(self, offset: int, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array over it, from `offset` on.

        Raises `InvalidInput` if it is not all in there, `BackendUnavailable` where there can be no such array, and
        `BackendClosed` once it is closed.
        """
        import numpy as np

        slot, buffer = self.slot, self._buffer  # from here on the memory is that of no other guest
        if slot is None:
            raise BackendUnavailable(
                f"{self._name}: no array can lie in its memory: it exports no `memory`, or this system lets nobody see "
                f"it",
                backend="wasm",
            )
        if buffer is None:
            raise closed(self._name)
        wanted = np.dtype(dtype).newbyteorder("<")
        offset, size = operator.index(offset), size_of(shape, wanted)
        if not 0 <= offset <= offset + size <= slot.size:
            raise InvalidInput(f"{self._name}: {size} bytes at {offset} are asked for, and its memory has {slot.size}")
        usable: Any = (ctypes.c_char * slot.size).from_address(slot.base)
        usable.held = buffer  # which lasts as long; what lies beyond the size cannot be touched
        return np.ndarray(shape, wanted, usable, offset)

    def close(self) -> None:
        self._buffer = None


def closed(name: str) -> BackendClosed:
    return BackendClosed(f"this instance of {name} is closed", backend="wasm")
