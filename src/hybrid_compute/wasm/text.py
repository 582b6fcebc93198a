"""WebAssembly as text."""

from __future__ import annotations

from hybrid_compute.errors import BackendUnavailable, InvalidInput


def binary(text: str, name: str) -> bytes:
    """The same in the binary format. Raises `InvalidInput` that points to what is wrong in it."""
    try:
        import wasmtime
    except ImportError as error:
        raise BackendUnavailable(
            f"WebAssembly as text needs wasmtime ({error}): pip install 'hybrid-compute[wasm]'", backend="wasm"
        ) from error
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise InvalidInput(f"{name}: {error}") from error
