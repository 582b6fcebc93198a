"""What WASM has as an instruction and Python has not: numbers that wrap around, single precision, indexes that fail.

The Python that `python` writes calls these, and gives to the last bit what the compiled kernel gives.
"""

from __future__ import annotations

import math
from ctypes import c_float
from typing import NoReturn

from hybrid_compute.kernels.tree import Site

BEYOND = "a float that is infinite or beyond 64 bits cannot become an integer here"
_EXACT = 1 << 53
"""Up to here an integer is the same as a float."""


def wrap64(value: int) -> int:
    return (value + (1 << 63) & (1 << 64) - 1) - (1 << 63)


def wrap32(value: int) -> int:
    return (value + (1 << 31) & (1 << 32) - 1) - (1 << 31)


def single(value: float) -> float:
    """The nearest number in single precision; for one operation on such numbers, rounding twice is rounding once."""
    return c_float(value).value


def single_of(value: int) -> float:
    """The same for an integer, which is rounded once: as a float it might be rounded before."""
    if -_EXACT <= value <= _EXACT:
        return c_float(value).value
    # 53 bits are left, of which the last one says whether any that were cut off was set. That decides between equals.
    return c_float(value >> 11 | (value & 0x7FF != 0)).value * 2048.0


def whole(value: float, site: Site) -> int:
    """A float that has been rounded as an integer of 64 bits."""
    if value != value:
        fail(site)
    if not -(2.0**63) <= value < 2.0**63:
        raise blamed(OverflowError(BEYOND), site)
    return int(value)


def floor(value: float) -> float:
    return float(math.floor(value)) if math.isfinite(value) else value


def ceil(value: float) -> float:
    return float(math.ceil(value)) if math.isfinite(value) else value


def trunc(value: float) -> float:
    return float(math.trunc(value)) if math.isfinite(value) else value


def nearest(value: float) -> float:
    return float(round(value)) if math.isfinite(value) else value


def place(index: int, length: int, site: Site) -> int:
    """The place of an index that may count from the end."""
    if not -length <= index < length:
        fail(site, index, length)
    return index % length


def fail(site: Site, index: int = 0, length: int = 0) -> NoReturn:
    raise blamed(site.error(site.text.format(index=index, length=length)), site)


def blamed(error: Exception, site: Site) -> Exception:
    """The error, with the line of the source that is to blame."""
    error.add_note(f"in a kernel, {site.where}")
    return error
