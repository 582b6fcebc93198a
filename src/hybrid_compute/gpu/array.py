"""`GpuArray`: an array that stays on a device between calls."""

from __future__ import annotations

import asyncio
import math
import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hybrid_compute.errors import BackendClosed
from hybrid_compute.gpu.replies import Asked, Mailbox, Waiting
from hybrid_compute.gpu.work import Fetch, Home, Place, Reply, Resident, Work

if TYPE_CHECKING:
    from hybrid_compute.gpu.memory import Buffer

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class OnDevice(ABC):
    """What tasks take for an array on a device: one that is there, or one that will be."""

    __slots__ = ()
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int

    @abstractmethod
    def resident(self, nbytes: int = 0) -> Place:
        """Where it lies; at least so many bytes of it, for a shader that cannot be bound to fewer."""

    @abstractmethod
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """A copy of it in this process. Raises `BackendClosed` if it is gone, `InvalidInput` if it is not there yet."""

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]


class Held:
    """The memory of an array: the device has it back when nobody holds this any more, the array or a call."""

    __slots__ = ("__weakref__", "buffer", "nbytes")

    def __init__(self, device: Home, buffer: Buffer, nbytes: int) -> None:
        self.buffer = buffer
        self.nbytes = nbytes
        weakref.finalize(self, device.give_back, buffer).atexit = False


class GpuArray(OnDevice):
    """An array on a device, with `shape`, `dtype` and `nbytes` as numpy has them. Its content is never changed.

    `await array.to_host()` gives a copy here, and `numpy.asarray(array)` does, for who does not mind to wait in line.
    The device has its memory back when the last reference has gone, or after `release`, and no call needs it any more.
    Sent to another process, it goes as an ordinary array, which is waited for where it is sent: `to_host` before that
    keeps an event loop free.
    """

    __slots__ = ("__weakref__", "_device", "_held", "dtype", "nbytes", "shape")

    def __init__(self, device: Home, buffer: Buffer, shape: tuple[int, ...], dtype: str, nbytes: int) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.nbytes = math.prod(shape) * self.dtype.itemsize  # where it lies it may be rounded up to words
        self._device = device
        self._held: Held | None = Held(device, buffer, nbytes)

    def resident(self, nbytes: int = 0) -> Resident:
        """Where it lies. Raises `BackendClosed` if it does not any more."""
        held = self._held
        if held is None:
            raise BackendClosed("this array was released", backend="gpu")
        if self._device.lost:
            raise BackendClosed(f"this array went with its device: {self._device.lost}", backend="gpu")
        return Resident(held.buffer, max(nbytes, held.nbytes), self._device, held)

    async def to_host(self) -> Array:
        """A copy of it in this process, when all that was asked for before is done."""
        asked = Asked((), Mailbox(asyncio.get_running_loop()))
        self._fetch(asked)
        found: Array = await asked.answer
        return found

    def _fetch(self, reply: Reply) -> None:
        place = Fetch(self.resident(), self.shape, self.dtype.name)
        self._device.submit([Work((), [place], [place], reply)])

    def release(self) -> None:
        """Give its memory back, when the calls that it was given to are done. It cannot be used afterwards."""
        self._held = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an array on a device cannot be seen without a copy")
        waiting = Waiting()
        self._fetch(waiting)
        found: Array = waiting.future.result()
        return found if dtype is None else found.astype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.__array__(),)

    def __repr__(self) -> str:
        where = "released" if self._held is None else f"on device {self._device.number}"
        return f"<GpuArray {self.dtype.name}{list(self.shape)} {where}>"


def _itself(array: Array) -> Array:
    return array
