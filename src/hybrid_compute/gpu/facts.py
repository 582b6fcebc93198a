"""What a device can do, as far as it matters to who gives it work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device can do."""

    features: frozenset[str]
    binding: int
    """Bytes of the largest array."""
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
