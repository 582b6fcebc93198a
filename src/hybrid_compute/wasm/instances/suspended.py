"""A call that can be left in the middle, and taken up again, in the same thread or another one."""

from __future__ import annotations

import ctypes
from ctypes import addressof, c_void_p, create_string_buffer, memmove
from typing import NamedTuple

from hybrid_compute.wasm import capi


class FunctionType(NamedTuple):
    parameters: tuple[str, ...]
    results: tuple[str, ...]


class Suspended:
    """A function of a guest that is called, but runs only while it is polled.

    Arguments and results lie in slots at `values`, as for a call at once; the memory there must live as long.
    """

    def __init__(self, context: int, function: int, type: FunctionType, values: int) -> None:
        self._type = type
        self._values = values
        self._given = create_string_buffer(max(1, len(type.parameters)) * capi.VALUE_SIZE)
        self._results = create_string_buffer(max(1, len(type.results)) * capi.VALUE_SIZE)
        self._trap, self._error = c_void_p(), c_void_p()
        for index, kind in enumerate(type.parameters):
            at = addressof(self._given) + index * capi.VALUE_SIZE
            ctypes.c_uint8.from_address(at).value = capi.KINDS[kind]
            memmove(at + capi.VALUE_AT, values + index * capi.SLOT, capi.SLOT)
        self._future: int | None = capi.call_async(
            context, function,
            addressof(self._given), len(type.parameters), addressof(self._results), len(type.results),
            addressof(self._trap), addressof(self._error),
        )  # fmt: skip

    def poll(self) -> bool:
        """Let it run until it yields; True if it is over."""
        if not capi.future_poll(self._future):
            return False
        self.drop()
        for index in range(len(self._type.results)):
            at = addressof(self._results) + index * capi.VALUE_SIZE
            memmove(self._values + index * capi.SLOT, at + capi.VALUE_AT, capi.SLOT)
        return True

    def failure(self) -> tuple[int | None, int | None]:
        """The error and the trap that it has ended with, which are the caller's from now on."""
        error, trap = self._error.value, self._trap.value
        self._error.value = self._trap.value = None
        return error, trap

    def drop(self) -> None:
        """It is not taken up again. To be said before its store is deleted."""
        future, self._future = self._future, None
        if future is not None:
            capi.future_delete(future)
