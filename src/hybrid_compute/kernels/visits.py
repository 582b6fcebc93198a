"""Arrays, for the time of a call, where the kernel finds them.

Those that lie in the kernels' memory are used where they are. Others are copied in before the call, and those that the
kernel stores into are copied back, whether it succeeds or not. Arrays that share memory share their copy too, and calls
in several threads that store into one share it with each other (see `copies`).
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING

from hybrid_compute.kernels.arguments import Signature
from hybrid_compute.kernels.copies import Copy, Piece, Region
from hybrid_compute.kernels.regions import padded
from hybrid_compute.wasm.shield import shielded

if TYPE_CHECKING:
    from hybrid_compute.kernels.machine import Machine


class _PyBuffer(ctypes.Structure):
    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("rest", ctypes.c_char * 128),
    )


_NOWHERE = Region()


class Visit:
    """Arrays, while they are in the memory of kernels: from `begin` to `end`, which has to come in any case."""

    def __init__(self, signature: Signature, machine: Machine) -> None:
        self._signature = signature
        self._memory = machine.memory
        self._among = machine.copies
        self.thread = 0
        self.copies: list[Copy] = []
        self._own = _NOWHERE
        self._back: list[tuple[int, int, int]] = []
        """(to, from, size), in addresses."""

    def begin(self, views: list[memoryview]) -> list[int]:
        """Where each array is."""
        memory, offsets = self._memory, [0] * len(views)
        away: dict[int, Piece] = {}
        for number, view in enumerate(views):
            size = view.nbytes
            if size:
                address = address_of(view)
                offset = memory.find(address, size)
                if offset is None:
                    away[number] = address, size, self._signature.stores[number]
                else:
                    offsets[number] = offset
        if away:
            self._move(union(list(away.values())))
            for number, block in away.items():
                offsets[number] = self._place(block)
        return offsets

    def _move(self, pieces: list[Piece]) -> None:
        """Copy them in, unless they are there."""
        if not any(written for _, _, written in pieces):
            self._copy(pieces)
            return
        among = self._among
        with among.lock:
            self.thread = threading.get_ident()
            if among.active:
                self.copies = among.find(pieces, self._signature.name)
                found = [piece for piece, _, _ in self.copies]
                pieces = [piece for piece in pieces if piece not in found]
            if pieces:
                self._copy(pieces)
            among.active.append(self)

    def _copy(self, pieces: list[Piece]) -> None:
        """Have copies of our own."""
        memory = self._memory
        region, base = Region(), memory.base
        self._own = region  # a signal may be handled as soon as there is more than a name for it
        region.start = start = memory.allocate(sum([padded(size) for _, size, _ in pieces]))
        for piece in pieces:
            address, size, _ = piece
            ctypes.memmove(base + start, address, size)
            self.copies.append((piece, start, region))
            start += padded(size)

    def _place(self, block: Piece) -> int:
        """Where an array is in the copy of its piece. If it is stored into, it is to be copied back."""
        address, size, written = block
        for (first, all, _), start, _ in self.copies:
            if first <= address < first + all:
                place = start + address - first
                if written:
                    self._back.append((address, self._memory.base + place, size))
                return place
        raise AssertionError(block)

    @shielded
    def end(self) -> None:
        """Copy back what was written, and make room."""
        try:
            self._end()
        except BaseException:  # of a signal, say: a copy that stays would be what the next call works on
            self.end()
            raise

    def _end(self) -> None:
        """Each step may be done twice."""
        if not self.thread:
            self._give_back()
            return
        with self._among.lock:
            for to, start, size in self._back:
                ctypes.memmove(to, start, size)
            self._back = []
            self._among.leave(self)
            self._give_back()

    def _give_back(self) -> None:
        """Give back what nobody else uses."""
        for region in (self._own, *[each[2] for each in self.copies]):
            start = region.start
            if start is not None and not self._among.use(region):
                region.start = None
                self._memory.release(start)


def union(blocks: list[Piece]) -> list[Piece]:
    """The pieces of memory in which all these lie, without any overlap."""
    if len(blocks) == 1:
        return blocks
    pieces: list[Piece] = []
    end = 0
    for address, size, written in sorted(blocks):
        if pieces and address < end:
            start, before, also = pieces[-1]
            pieces[-1] = start, max(before, address + size - start), also or written
        else:
            pieces.append((address, size, written))
        end = max(end, address + size)
    return pieces


def address_of(view: memoryview) -> int:
    """Where in this process the memory of a view begins."""
    if not view.nbytes:
        return 0
    if not view.readonly:
        return ctypes.addressof(ctypes.c_char.from_buffer(view))
    buffer = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    try:
        return int(buffer.buf or 0)
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
