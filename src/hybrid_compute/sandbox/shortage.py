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


def reason(error: wasmtime.WasmtimeError) -> str:
    """The last thing that wasmtime says, which is why all the others happened."""
    return re.sub(r"^\d+: ", "", str(error).strip().rpartition("\n")[2].strip())
