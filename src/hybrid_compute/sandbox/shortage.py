"""What the system is short of, where wasmtime or a program could not have what it asked for."""

from __future__ import annotations

import re

import wasmtime

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.wasm.limits import in_units

_NO_ADDRESSES = re.compile(r"mmap failed to (?:reserve|allocate) 0x([0-9a-f]+) bytes")


def no_addresses(error: wasmtime.WasmtimeError) -> BackendUnavailable | None:
    """The error to raise where wasmtime could map nothing; None if it has failed for another reason."""
    asked = _NO_ADDRESSES.search(str(error))
    if asked is None:
        return None
    return BackendUnavailable(
        f"no {in_units(int(asked[1], 16))} of addresses (not of memory) for a sandbox: {reason(error)}; "
        f"see `ulimit -v`",
        backend="wasm",
    )


def no_memory(name: str, limit: int) -> BackendUnavailable:
    """The error to raise for a program that needed memory which it may have, and the system has not."""
    return BackendUnavailable(
        f"{name} needed more memory than the system gives it, which is less than the {in_units(limit)} that it may "
        f"have (Limits.memory): see `ulimit -d`, and how much memory is free",
        backend="wasm",
        started=True,
    )


def reason(error: wasmtime.WasmtimeError) -> str:
    """The last thing that wasmtime says, which is why all the others happened."""
    return re.sub(r"^\d+: ", "", str(error).strip().rpartition("\n")[2].strip())
