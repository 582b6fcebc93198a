"""`GpuArray`: an array that stays on a device between calls."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_compute.errors import BackendClosed
from hybrid_compute.gpu.replies import Waiting
from hybrid_compute.gpu.work import Fetch, Resident, Work

if TYPE_CHECKING:
    from hybrid_compute.gpu.device import Device
    from hybrid_compute.gpu.memory import Buffer


class GpuArray:
    """An array on a device, with `shape`, `dtype` and `nbytes` as numpy has them. Its content is never changed.

    The device has its memory back when the last reference has gone, or after `release`. Sent to another process, it
    goes as an ordinary array.
    """

    __slots__ = ("__weakref__", "_device", "_free", "_place", "dtype", "nbytes", "shape")

    def __init__(self, device: Device, buffer: Buffer, shape: tuple[int, ...], dtype: str, nbytes: int) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.nbytes = nbytes
        self._device = device
        self._place: tuple[Buffer, int] | None = (buffer, nbytes)
        assert device.memory is not None
        self._free = weakref.finalize(self, device.memory.give_back, buffer)
        self._free.atexit = False

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def resident(self) -> Resident:
        """Where it lies. Raises `BackendClosed` if it does not any more."""
        if self._place is None:
            raise BackendClosed("this array was released", backend="gpu")
        if self._device.lost:
            raise BackendClosed(f"this array went with its device: {self._device.lost}", backend="gpu")
        buffer, nbytes = self._place
        return Resident(buffer, nbytes, self)

    def fetched(self) -> np.ndarray[Any, np.dtype[Any]]:
        """A copy of it here; waits for all that the device has to do before."""
        source = self.resident()
        place = Fetch(source, self.shape, self.dtype.name)
        waiting = Waiting(self._device)
        self._device.submit([Work((), [place], [place], waiting)])
        return waiting.future.result()  # type: ignore[no-any-return]

    def release(self) -> None:
        """Give its memory back now. It cannot be used afterwards."""
        self._place = None
        self._free()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, np.dtype[Any]]:
        found = self.fetched()
        return found if dtype is None else found.astype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.fetched(),)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        where = "released" if self._place is None else f"on device {self._device.number}"
        return f"<GpuArray {self.dtype.name}{list(self.shape)} {where}>"


def _itself(array: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    return array

