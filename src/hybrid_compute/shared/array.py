"""`SharedArray`: an array that all places see, and the leases by which they keep out of each other's way."""

from __future__ import annotations

import asyncio
import math
import operator
import os
from collections.abc import Generator
from contextlib import contextmanager
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_compute.errors import HalfWritten, InvalidInput, LeaseHeld
from hybrid_compute.shared.block import PAGE, WRITER, Holder, Share, make, whole_pages
from hybrid_compute.shared.claims import Claim

if TYPE_CHECKING:
    import numpy.typing as npt

Shape = int | tuple[int, ...]
_LEASE = 0
"""The byte of a block that leases are claims on."""


class SharedArray:
    """An array of zeros that all processes of this machine and their sandboxes see, wherever it is passed to.

        with SharedArray((1080, 1920), "float32") as image:
            rt.run(draw, image)  # no byte of it is copied
            with image.reading() as pixels:
                print(pixels.mean())

    It pickles as a handle. `with array.writing() as values` is for one at a time, `with array.reading() as values` for
    many, in all processes and threads together; `async with` waits without holding up the event loop. `array.values`
    can be looked at without a lease, and then anybody may be writing to it.

    Who makes an array keeps it as long as others are to find it. Raises `BackendUnavailable` where there is no Linux,
    `LimitExceeded` where there is no memory, and `InvalidInput` for elements that are objects of Python.
    """

    __slots__ = ("_share", "dtype", "nbytes", "shape")

    def __init__(self, shape: Shape, dtype: npt.DTypeLike = float, *, share: Share | None = None) -> None:
        self.shape, self.dtype = checked(shape, dtype)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self._share = share or Share(make(max(1, self.nbytes)))

    # What is in it.

    def writing(self, timeout: float | None = None, *, anew: bool = False) -> Lease:
        """A block in which nobody else reads or writes: `with array.writing() as values`.

        Waits for `timeout` seconds, or for as long as it takes. Raises `LeaseHeld` when the time is up, `HalfWritten`
        if who wrote last did not come to an end, unless all is to be written `anew`, and `StaleHandle`. A block that is
        left by an error leaves the array half written.
        """
        return Lease(self, self._share, timeout, writes=True, anew=anew)

    def reading(self, timeout: float | None = None) -> Lease:
        """A block in which nobody writes: `with array.reading() as values`. Waits and raises like `writing`."""
        return Lease(self, self._share, timeout, writes=False, anew=False)

    @property
    def values(self) -> npt.NDArray[Any]:
        """All of it, read-only, as it is at each moment. Raises `StaleHandle`."""
        self._share.insist(self)
        return self._share.view(self.shape, self.dtype, writable=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.values, dtype, copy=copy)

    # How long it is there.

    @property
    def stale(self) -> bool:
        """Whether its memory was given back, or given to another array."""
        return self._share.stale

    def reuse(self, shape: Shape, dtype: npt.DTypeLike = float) -> SharedArray:
        """Another array in the same memory, which is warm: much quicker than new memory. It begins with what is there.

        Waits until nobody reads or writes this one; all its handles are stale from then on, wherever they are. What
        somebody took out of it without a lease shows the other array. Raises `InvalidInput` if there is no room.
        """
        lengths, kind = checked(shape, dtype)
        if (wanted := math.prod(lengths) * kind.itemsize) > self._share.block.size:
            raise InvalidInput(f"{wanted} bytes do not fit into the {self._share.block.size} of {self!r}")
        with self.writing(anew=True):
            share = self._share.next()
        return SharedArray(lengths, kind, share=share)

    def close(self) -> None:
        """Give the memory back: all handles are stale from now on, everywhere. It is gone once nobody sees it any more.

        Only in the process that has made it; elsewhere, and when repeated, it does nothing.
        """
        self._share.close()

    def __enter__(self) -> SharedArray:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # An object as others.

    def pages(self) -> tuple[int, int, int]:
        """Where it lies, for who maps it once more: a file, where in it, how many bytes. Raises `StaleHandle`.

        They are whole pages. Behind it on the last one there is nothing, also where another array was larger.
        """
        self._share.insist(self)
        block, size = self._share.block, whole_pages(max(1, self.nbytes))
        block.map[PAGE + self.nbytes : PAGE + size] = bytes(size - self.nbytes)
        return block.fd, PAGE, size

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<SharedArray {self.dtype}{list(self.shape)}{', stale' if self.stale else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        self._share.insist(self)
        return _found, (self.shape, self.dtype, self._share)


class Lease:
    """A turn with an array: the block between `with` and its end."""

    def __init__(self, array: SharedArray, share: Share, timeout: float | None, *, writes: bool, anew: bool) -> None:
        self._array = array
        self._share = share
        self._timeout = timeout
        self._writes = writes
        self._anew = anew
        self._claim: Claim | None = None
        self._holder: Holder | None = None
        self._values: npt.NDArray[Any] | None = None

    def __enter__(self) -> npt.NDArray[Any]:
        with self._claimed() as claim:
            if not claim.take():
                if any(thread == get_ident() for thread, _ in self._share.block.holders):
                    raise RuntimeError(f"this thread has a lease on {self._array!r} already, and would wait for itself")
                self._insist(claim.wait(self._timeout))
            return self._begin(claim)

    async def __aenter__(self) -> npt.NDArray[Any]:
        with self._claimed() as claim:
            if not claim.take():
                if _holder() in self._share.block.holders:
                    raise RuntimeError(f"this task has a lease on {self._array!r} already, and would wait for itself")
                self._insist(await claim.wait_async(self._timeout))
            return self._begin(claim)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        claim, values, block = self._claim, self._values, self._share.block
        assert claim is not None
        assert values is not None
        values.flags.writeable = False
        self._claim = self._values = None
        if not claim.held:  # this is a fork of the process whose turn it is
            return
        if self._writes and kind is None:
            block.words[WRITER] = 0
        assert self._holder is not None
        block.holders.remove(self._holder)
        claim.give_up()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @contextmanager
    def _claimed(self) -> Generator[Claim]:
        """A claim that is given up if nothing comes of it: whoever looks at the error may want to try again."""
        self._share.insist(self._array)
        if self._claim is not None:
            raise RuntimeError(f"this lease on {self._array!r} is in use: ask the array for another one")
        claim = self._share.block.claim(_LEASE, exclusive=self._writes)
        try:
            yield claim
        except BaseException:
            claim.give_up()
            raise

    def _insist(self, taken: bool) -> None:
        if not taken:
            writer = self._share.block.words[WRITER]
            raise LeaseHeld(
                f"{self._array!r} could not be {'written' if self._writes else 'read'} within {self._timeout:g} s, "
                f"because it is {f'written by process {writer}' if writer else 'read by somebody'}"
            )

    def _begin(self, claim: Claim) -> npt.NDArray[Any]:
        """The turn has come: see that there is still something to have, and say who has it."""
        array, block = self._array, self._share.block
        self._share.insist(array)
        writer = block.words[WRITER]
        if writer and not self._anew:
            raise HalfWritten(
                f"{array!r} is half written: process {writer} did not come to the end of its writing(). "
                f"Write all of it, in writing(anew=True), or look at what there is, by .values"
            )
        if self._writes:
            block.words[WRITER] = os.getpid()
        self._claim, self._holder = claim, (holder := _holder())
        block.holders.append(holder)
        self._values = self._share.view(array.shape, array.dtype, writable=self._writes)
        return self._values


def _holder() -> Holder:
    try:
        return get_ident(), asyncio.current_task()
    except RuntimeError:  # no event loop runs here
        return get_ident(), None


def _found(shape: Shape, dtype: np.dtype[Any], share: Share) -> SharedArray:
    """The array, in the process that it came to. Raises `StaleHandle` if it is no more."""
    array = SharedArray(shape, dtype, share=share)
    share.insist(array)
    return array


def checked(shape: Shape, dtype: npt.DTypeLike) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Raises `InvalidInput` for an array that no other process could see."""
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise InvalidInput(f"an array of {kind} cannot be shared: its elements are objects of Python")
    lengths = tuple(map(operator.index, shape if isinstance(shape, tuple | list) else (shape,)))
    if any(length < 0 for length in lengths):
        raise InvalidInput(f"an array of shape {shape} cannot be: a length is negative")
    return lengths, kind
