"""What is said where wasmtime is not installed."""

from __future__ import annotations

from hybrid_compute.errors import BackendUnavailable


def missing(what: str, error: ImportError) -> BackendUnavailable:
    """The error for something that runs in wasmtime, where that cannot be imported."""
    return BackendUnavailable(
        f"{what} runs in wasmtime, which is not there ({error}): pip install 'hybrid-compute[wasm]'", backend="wasm"
    )
