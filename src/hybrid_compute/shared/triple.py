"""`TripleBuffer`: the newest frame that a producer has made, for consumers that neither wait nor are waited for."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_compute.errors import InvalidInput, LeaseHeld, StaleHandle
from hybrid_compute.shared.array import Shape, checked
from hybrid_compute.shared.block import Share, make
from hybrid_compute.shared.claims import Claim, is_claimed
from hybrid_compute.shared.frames import MOST, Consumer, Producer

if TYPE_CHECKING:
    import numpy.typing as npt

_WRITER, _READER = 1, 2
"""The bytes of a block that the ends are claims on; those of further readers follow."""


class TripleBuffer:
    """The newest frame, an array of this shape: one process writes at its own pace, others read at theirs.

        with TripleBuffer((480, 640), "uint8") as buffer:
            pending = rt.run(film, buffer)  # with buffer.writing() as writer: ...
            with buffer.reading() as reader:
                frame = reader.latest()

    Nobody waits, nothing is locked, and no frame is copied, or ever seen in part; those that nobody has looked at in
    time are passed over. It takes the memory of `readers + 2` frames, with so many readers at most at a time. It is
    passed on, kept and closed like a `SharedArray`, and raises what that raises.
    """

    __slots__ = ("_share", "dtype", "nbytes", "readers", "shape")

    def __init__(
        self, shape: Shape, dtype: npt.DTypeLike = float, *, readers: int = 1, share: Share | None = None
    ) -> None:
        if not 1 <= readers <= MOST:
            raise InvalidInput(f"a triple buffer has 1 to {MOST} readers, not {readers}")
        self.shape, self.dtype = checked(shape, dtype)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self.readers = readers
        self._share = share or Share(make(max(1, (readers + 2) * self.nbytes)))

    def writing(self) -> Writer:
        """The end that writes: `with buffer.writing() as writer`. Raises `LeaseHeld` if somebody has it.

        When its holder dies another one may go on; what he was writing at that moment is never seen.
        """
        return Writer(self, self._share)

    def reading(self) -> Reader:
        """An end that reads: `with buffer.reading() as reader`. Raises `LeaseHeld` if all of them are taken."""
        return Reader(self, self._share)

    @property
    def has_writer(self) -> bool:
        """Whether somebody has the end that writes at this moment. Raises `StaleHandle`."""
        self._share.insist(self)
        return is_claimed(self._share.block.fd, _WRITER)

    @property
    def stale(self) -> bool:
        """Whether its memory was given back."""
        return self._share.stale

    def close(self) -> None:
        """Give the memory back: whoever uses it gets `StaleHandle` from now on. For the process that has made it."""
        self._share.close()

    def __enter__(self) -> TripleBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TripleBuffer {self.dtype}{list(self.shape)}{', stale' if self.stale else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        self._share.insist(self)
        return _found, (self.shape, self.dtype, self.readers, self._share)


class _End:
    """An end, taken from `with` on, for one thread."""

    _writes: bool

    def __init__(self, buffer: TripleBuffer, share: Share) -> None:
        self._buffer = buffer
        self._share = share
        self._claim: Claim | None = None
        slots = (buffer.readers + 2, *buffer.shape)
        self._slots = share.view(slots, buffer.dtype, writable=self._writes)

    def _take(self, which: range, what: str) -> int:
        """Have the first of these that nobody has."""
        self._share.insist(self._buffer)
        for byte in which:
            claim = self._share.block.claim(byte, exclusive=True)
            if claim.take():
                self._claim = claim
                return byte
            claim.give_up()
        raise LeaseHeld(f"{self._buffer!r} has {what} already")

    def __exit__(self, *_: object) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.give_up()

    def _insist(self) -> None:
        self._share.insist(self._buffer)
        if self._claim is None:
            raise StaleHandle(f"this end of {self._buffer!r} was left: it is for use in its `with` block")


class Writer(_End):
    """The end that writes."""

    _writes = True

    def __enter__(self) -> Writer:
        self._take(range(_WRITER, _READER), "a writer")
        self._producer = Producer(self._share.block.words, self._buffer.readers)
        self._busy = False
        return self

    @property
    def number(self) -> int:
        """Of the frame that was published last, counted from 1; 0 if there is none."""
        return self._producer.number

    @contextmanager
    def frame(self) -> Generator[npt.NDArray[Any]]:
        """The next frame, to be filled: `with writer.frame() as values`. It begins with what an older one has left.

        It is published at the end of the block; not at all, if that is left by an error. Raises `StaleHandle`.
        """
        self._insist()
        if self._busy:
            raise RuntimeError("the frame before is not done: a writer has one at a time")
        slot = self._producer.vacant()
        values: npt.NDArray[Any] = self._slots[slot, ...]
        self._busy = True
        try:
            yield values
        finally:
            values.flags.writeable = self._busy = False
        self._insist()
        self._producer.publish(slot)


class Reader(_End):
    """An end that reads."""

    _writes = False

    def __enter__(self) -> Reader:
        count = self._buffer.readers
        byte = self._take(range(_READER, _READER + count), "a reader" if count == 1 else f"{count} readers")
        self._consumer = Consumer(self._share.block.words, byte - _READER)
        return self

    def __exit__(self, *_: object) -> None:
        if self._claim is not None:
            self._consumer.leave()
        super().__exit__()

    def latest(self) -> Frame | None:
        """The newest frame, which takes the place of the one before; None if there is none that is newer than that.

        Raises `StaleHandle`.
        """
        self._insist()
        slot = self._consumer.newest()
        return None if slot is None else Frame(self, self._consumer.number, self._slots[slot, ...])

    def insist_on(self, number: int) -> None:
        """Raise `StaleHandle` unless it looks at the frame with this number."""
        self._insist()
        if self._consumer.number != number:
            raise StaleHandle(f"frame {number} was replaced by frame {self._consumer.number}")


class Frame:
    """A frame, until its reader takes a newer one: from then on `values` raises `StaleHandle`.

    `number` counts the frames from 1. Copy what you keep: an array that was taken out of it shows other frames later.
    """

    __slots__ = ("_reader", "_values", "number")

    def __init__(self, reader: Reader, number: int, values: npt.NDArray[Any]) -> None:
        self._reader = reader
        self._values = values
        self.number = number

    @property
    def values(self) -> npt.NDArray[Any]:
        """What is in it, read-only, not copied. Raises `StaleHandle`."""
        self._reader.insist_on(self.number)
        return self._values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.values, dtype, copy=copy)

    def __repr__(self) -> str:
        return f"<Frame {self.number} {self._values.dtype}{list(self._values.shape)}>"


def _found(shape: Shape, dtype: np.dtype[Any], readers: int, share: Share) -> TripleBuffer:
    """The buffer, in the process that it came to. Raises `StaleHandle` if it is no more."""
    buffer = TripleBuffer(shape, dtype, readers=readers, share=share)
    share.insist(buffer)
    return buffer
