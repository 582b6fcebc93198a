"""How a kernel is made and run, apart from what it computes."""

from __future__ import annotations

from typing import Any, NamedTuple


class Options(NamedTuple):
    """Those that the decorator takes, and that go with a kernel to another process."""

    interruptible: bool = True
    deterministic: bool = False
    fuel: int | None = None
    """Of one call, in units of wasmtime: about one for each instruction."""


def checked(options: Options) -> Options:
    """These, if they make sense."""
    fuel: Any = options.fuel
    if fuel is not None and (isinstance(fuel, bool) or not isinstance(fuel, int)):
        raise TypeError(f"the fuel of a kernel is a number of units, not {fuel!r}")
    if fuel is not None and not 0 < fuel < 1 << 63:
        raise ValueError(f"the fuel of a kernel must be positive, and less than 2**63: it is {fuel}")
    return options
