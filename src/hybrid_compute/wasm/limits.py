"""What a guest may use: time, fuel, memory and more. Whoever exceeds one is stopped, and told which."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

PAGE = 1 << 16
MOST = (1 << 63) - 1
"""Of whatever is counted: wasmtime takes signed numbers of 64 bits."""


@dataclass(frozen=True)
class Limits:
    """What one call of a sandboxed task may use; None means no limit, where there may be none.

    A call that needs more ends with `LimitExceeded`, which names the limit and its value. The sandbox is thrown away,
    and nobody else notices.

        >>> Limits(time=0.5, memory=16 << 20).fuel is None
        True
    """

    time: float | None = 10.0
    """Seconds that the guest may run."""
    fuel: int | None = None
    """Units of wasmtime's fuel, about one for each instruction: the same number on every machine."""
    memory: int = 64 << 20
    """Bytes of linear memory, all memories of the guest together. `memory.grow` beyond it gives -1; a guest that fails
    after that has exceeded this limit."""
    table: int = 10_000
    """Elements of each of its tables, of which it may have eight. `table.grow` beyond it gives -1, as for memory."""
    stack: int = 256 << 10
    """Bytes of stack; 4 MiB at most. What it needs depends on the compiler: a recursion of some thousand calls fits."""
    output: int = 16 << 20
    """Bytes of a result, of each of stdout and stderr, and of all that is written to files."""
    host_calls: int | None = 100_000
    """How often it may call functions of the host that it was granted; those of WASI do not count."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if value is None and field.name in ("time", "fuel", "host_calls"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float if field.name == "time" else int):
                raise TypeError(f"Limits.{field.name} must be a number, not {value!r}")
            if not value > 0:
                raise ValueError(f"Limits.{field.name} must be positive, not {value!r}")
            if field.name != "time" and value > MOST:
                raise ValueError(f"Limits.{field.name} must be at most {MOST}, not {value!r}")
        if not PAGE <= self.stack <= 4 << 20:
            raise ValueError(f"Limits.stack must be between 64 KiB and 4 MiB, not {self.stack} bytes")


def in_units(size: int) -> str:
    """Bytes as a person says them."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.4g} {unit}"
    return f"{size} bytes"
