"""What a device takes for an array: one of numpy, or one that lies on a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybrid_compute.gpu.array import OnDevice


def not_an_array(value: Any) -> str:
    """What this is instead of an array, and what to do about it; an empty text if a device can take it for one."""
    if type(value) is np.ndarray or isinstance(value, OnDevice):
        return ""
    if isinstance(value, np.ma.MaskedArray):
        return "a masked array, whose mask no gpu sees: give what its filled(...) gives"
    if isinstance(value, np.ndarray):
        return ""
    if isinstance(value, np.generic):
        return f"a plain {type(value).__name__}: numpy.asarray makes an array of it"
    from hybrid_compute.shared import SharedArray

    if isinstance(value, SharedArray):
        return "a SharedArray: give what its lease gives, `with array.reading() as values`"
    return type(value).__name__
