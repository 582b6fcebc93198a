"""WebAssembly: code that is not trusted, in a sandbox that is made, called and thrown away in microseconds.

    score = wasm.task("plugin.wasm", "score")
    await runtime.run(score, 3, 4)

Importing this loads neither wasmtime nor numpy.
"""

from __future__ import annotations

from hybrid_compute.wasm.componentfunction import WasmComponent
from hybrid_compute.wasm.function import WasmFunction
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.module import WasmModule, task
from hybrid_compute.wasm.trap import GuestError, Trap
from hybrid_compute.wasm.wasi import Output, Wasi

__all__ = ["GuestError", "Limits", "Output", "Trap", "Wasi", "WasmComponent", "WasmFunction", "WasmModule", "task"]
