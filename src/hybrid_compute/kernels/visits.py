"""Arrays, for the time of a call, where the kernel finds them.

Those that lie in the kernels' memory are used where they are. Others are copied in before the call, and those that the
kernel stores into are copied back, whether it succeeds or not. Arrays that share memory share their copy too.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from hybrid_compute.kernels.arguments import Signature
from hybrid_compute.kernels.memory import Memory
from hybrid_compute.kernels.regions import padded


class _PyBuffer(ctypes.Structure):
    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("rest", ctypes.c_char * 128),
    )


class Block(NamedTuple):
    """The bytes of an array."""

    address: int
    size: int
    written: bool


class Visit:
    """Arrays, while they are in the memory of kernels."""

    def __init__(self, signature: Signature, memory: Memory, views: list[memoryview]) -> None:
        self._memory = memory
        self._region: int | None = None
        self._back: list[tuple[int, int, int]] = []
        """(to, from, size), in addresses."""
        blocks = [
            Block(address_of(view), view.nbytes, name in signature.written)
            for view, (_, name, _) in zip(views, signature.arrays, strict=True)
        ]
        found = [memory.find(block.address, block.size) if block.size else 0 for block in blocks]
        away = [block for block, offset in zip(blocks, found, strict=True) if offset is None]
        moved = self._move(away) if away else {}
        self.offsets = [moved[block] if offset is None else offset for block, offset in zip(blocks, found, strict=True)]

    def _move(self, blocks: list[Block]) -> dict[Block, int]:
        """Copy them in; where they are then."""
        pieces = union(blocks)
        self._region = start = self._memory.allocate(sum(padded(size) for _, size in pieces))
        base, moved = self._memory.base, {}
        for address, size in pieces:
            ctypes.memmove(base + start, address, size)
            for block in blocks:
                if address <= block.address < address + size:
                    moved[block] = start + block.address - address
                    if block.written:
                        self._back.append((block.address, base + moved[block], block.size))
            start += padded(size)
        return moved

    def end(self) -> None:
        """Copy back what was written, and make room."""
        for to, start, size in self._back:
            ctypes.memmove(to, start, size)
        if self._region is not None:
            self._memory.release(self._region)


def union(blocks: list[Block]) -> list[tuple[int, int]]:
    """The pieces of memory, address and size, in which all these lie, without any overlap."""
    pieces: list[tuple[int, int]] = []
    for address, size, _ in sorted(blocks):
        if pieces and address < sum(pieces[-1]):
            start = pieces[-1][0]
            pieces[-1] = start, max(sum(pieces[-1]), address + size) - start
        else:
            pieces.append((address, size))
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
