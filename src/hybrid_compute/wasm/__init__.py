"""WebAssembly: code that is not trusted, in a sandbox that is made, called and thrown away in microseconds.

    score = wasm.task("plugin.wasm", "score")
    await runtime.run(score, 3, 4)

Importing this loads neither wasmtime nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybrid_compute.wasm.components.function import WasmComponent
from hybrid_compute.wasm.function import WasmFunction
from hybrid_compute.wasm.instances.run import Run, in_turns
from hybrid_compute.wasm.limits import Limits
from hybrid_compute.wasm.module import WasmModule, task
from hybrid_compute.wasm.trap import GuestError, Trap
from hybrid_compute.wasm.wasi import Output, Wasi

if TYPE_CHECKING:
    from hybrid_compute.wasm.instances.instance import Instance
    from hybrid_compute.wasm.instances.snapshot import Snapshot

__all__ = [
    "GuestError",
    "Instance",
    "Limits",
    "Output",
    "Run",
    "Snapshot",
    "Trap",
    "Wasi",
    "WasmComponent",
    "WasmFunction",
    "WasmModule",
    "in_turns",
    "task",
]


def __getattr__(name: str) -> Any:
    if name == "Instance":  # with these comes wasmtime
        from hybrid_compute.wasm.instances.instance import Instance

        return Instance
    if name == "Snapshot":
        from hybrid_compute.wasm.instances.snapshot import Snapshot

        return Snapshot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
