"""What a guest was denied of its tables, as `tables.py` has it tell us."""

from __future__ import annotations

from ctypes import addressof, c_uint64, create_string_buffer

from hybrid_compute.wasm import capi
from hybrid_compute.wasm.traps import Denied


class DeniedElements:
    """The global of a guest at the address `at`, to which it writes how many elements it wanted in vain."""

    def __init__(self, context: int, at: int, limit: int) -> None:
        self._context, self._at, self._limit = context, at, limit
        self._value = create_string_buffer(capi.VALUE_SIZE)
        self._number = c_uint64.from_buffer(self._value, capi.VALUE_AT)

    def forget(self) -> None:
        """Another call begins."""
        self._value[0] = bytes([capi.KINDS["i64"]])
        self._number.value = 0
        capi.check(capi.global_set(self._context, self._at, addressof(self._value)))

    def denial(self) -> Denied | None:
        """What it was denied last, if that was for our limit, and not for want of memory."""
        capi.global_get(self._context, self._at, addressof(self._value))
        wanted = self._number.value
        return Denied("table", f"{self._limit} elements", f"{wanted} elements") if wanted > self._limit else None
