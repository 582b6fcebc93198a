"""What a device can do, as far as it matters to who gives it work."""

from __future__ import annotations

from dataclasses import dataclass

FRAME = 64 << 20
"""Bytes that go to a device in one go, unless a single call has more."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device can do."""

    features: frozenset[str]
    binding: int
    """Bytes of the largest array."""
    buffer: int
    """Bytes of the largest buffer: all arrays that one call sends, or gets back, lie in one."""
    workgroups: int
    """Workgroups in one direction."""
    invocations: int
    """Invocations in one workgroup."""
    alignment: int
    """Of what is bound: bytes."""
    shared: int
    """Bytes of memory that a workgroup shares."""
    software: bool
    """Whether it computes on the processor."""
