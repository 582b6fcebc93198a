"""What a program in a sandbox may use. Whoever exceeds one is stopped, and told which."""

from __future__ import annotations

from dataclasses import dataclass, fields

LEAST_MEMORY = 32 << 20
"""Bytes: the interpreter and its library have 25 MiB from the beginning."""


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    One that needs more ends with `LimitExceeded`, which names the limit and its value. Its sandbox is thrown away, and
    nobody else notices.

        >>> Limits(time=2.0, memory=64 << 20).output
        1048576
    """

    time: float = 10.0
    """Seconds that it may run."""
    memory: int = 256 << 20
    """Bytes of memory, the interpreter's own 25 MiB included, most of which all sandboxes share."""
    output: int = 1 << 20
    """Characters that it may print."""
    result: int = 4 << 20
    """Characters of its result, and of the arguments of each call of a function that it was granted, as JSON, or as
    base64 if it is bytes. As objects of Python they may take thirty times as much here."""
    host_calls: int = 1000
    """How often it may call functions that it was granted."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = float | int if field.name == "time" else int
            if isinstance(value, bool) or not isinstance(value, number):
                whole = "" if field.name == "time" else "whole "
                raise TypeError(f"Limits.{field.name} must be a {whole}number, not {value!r}")
            if not value > 0:
                raise ValueError(f"Limits.{field.name} must be positive, not {value!r}")
        if self.memory < LEAST_MEMORY:
            raise ValueError(f"Limits.memory must be at least {LEAST_MEMORY >> 20} MiB, which the interpreter needs")
