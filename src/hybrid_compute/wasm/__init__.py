"""WebAssembly: code that is not trusted, in a sandbox that is made, called and thrown away in microseconds.

    score = wasm.task("plugin.wasm", "score")
    await runtime.run(score, 3, 4)

Importing this loads neither wasmtime nor numpy.
"""

from __future__ import annotations

from hybrid_compute.wasm.function import WasmFunction
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.module import WasmModule, task
from hybrid_compute.wasm.trap import Trap

__all__ = ["Limits", "Trap", "WasmFunction", "WasmModule", "task"]
