"""Hybrid Compute: run a task wherever it runs best.

    async with Runtime() as rt:
        result = await rt.run(resize, image, width=640)

These are the public names. Each is loaded on first use, so importing the package is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_compute import errors as errors
    from hybrid_compute.arrays import empty as empty
    from hybrid_compute.backends.base import Backend as Backend
    from hybrid_compute.backends.crew import Lifetime as Lifetime
    from hybrid_compute.backends.gpu import GpuBackend as GpuBackend
    from hybrid_compute.backends.local import LocalBackend as LocalBackend
    from hybrid_compute.backends.mcp import McpBackend as McpBackend
    from hybrid_compute.backends.priced import Budget as Budget
    from hybrid_compute.backends.priced import Priced as Priced
    from hybrid_compute.backends.queue import QueueLimits as QueueLimits
    from hybrid_compute.backends.remote.backend import RemoteBackend as RemoteBackend
    from hybrid_compute.backends.remote.nearest import Nearest as Nearest
    from hybrid_compute.backends.tenants import PerTenant as PerTenant
    from hybrid_compute.backends.wasm import WasmBackend as WasmBackend
    from hybrid_compute.backends.worker import WorkerBackend as WorkerBackend
    from hybrid_compute.blocking import BlockingRuntime as BlockingRuntime
    from hybrid_compute.engine.actions import ActionRegistry as ActionRegistry
    from hybrid_compute.engine.engine import Engine as Engine
    from hybrid_compute.engine.options import WorkerOptions as WorkerOptions
    from hybrid_compute.engine.pool import EnginePool as EnginePool
    from hybrid_compute.futures import WorkerExecutor as WorkerExecutor
    from hybrid_compute.gpu.function import gpu_task as gpu_task
    from hybrid_compute.kernels.kernel import Kernel as Kernel
    from hybrid_compute.kernels.kernel import kernel as kernel
    from hybrid_compute.outbox.box import Outbox as Outbox
    from hybrid_compute.pipelines.pipeline import pipeline as pipeline
    from hybrid_compute.reporting import progress as progress
    from hybrid_compute.runtime import Runtime as Runtime
    from hybrid_compute.tasks import Task as Task
    from hybrid_compute.tasks import TaskRegistry as TaskRegistry
    from hybrid_compute.tasks import task as task
    from hybrid_compute.wasm.module import WasmModule as WasmModule

_WHERE = {
    "ActionRegistry": "hybrid_compute.engine.actions",
    "Backend": "hybrid_compute.backends.base",
    "BlockingRuntime": "hybrid_compute.blocking",
    "Budget": "hybrid_compute.backends.priced",
    "Engine": "hybrid_compute.engine.engine",
    "EnginePool": "hybrid_compute.engine.pool",
    "GpuBackend": "hybrid_compute.backends.gpu",
    "Kernel": "hybrid_compute.kernels.kernel",
    "Lifetime": "hybrid_compute.backends.crew",
    "LocalBackend": "hybrid_compute.backends.local",
    "McpBackend": "hybrid_compute.backends.mcp",
    "Nearest": "hybrid_compute.backends.remote.nearest",
    "Outbox": "hybrid_compute.outbox.box",
    "PerTenant": "hybrid_compute.backends.tenants",
    "Priced": "hybrid_compute.backends.priced",
    "QueueLimits": "hybrid_compute.backends.queue",
    "RemoteBackend": "hybrid_compute.backends.remote.backend",
    "Runtime": "hybrid_compute.runtime",
    "Task": "hybrid_compute.tasks",
    "TaskRegistry": "hybrid_compute.tasks",
    "WasmBackend": "hybrid_compute.backends.wasm",
    "WasmModule": "hybrid_compute.wasm.module",
    "WorkerBackend": "hybrid_compute.backends.worker",
    "WorkerExecutor": "hybrid_compute.futures",
    "WorkerOptions": "hybrid_compute.engine.options",
    "empty": "hybrid_compute.arrays",
    "gpu_task": "hybrid_compute.gpu.function",
    "kernel": "hybrid_compute.kernels.kernel",
    "pipeline": "hybrid_compute.pipelines.pipeline",
    "progress": "hybrid_compute.reporting",
    "task": "hybrid_compute.tasks",
}

__all__ = [
    "ActionRegistry",
    "Backend",
    "BlockingRuntime",
    "Budget",
    "Engine",
    "EnginePool",
    "GpuBackend",
    "Kernel",
    "Lifetime",
    "LocalBackend",
    "McpBackend",
    "Nearest",
    "Outbox",
    "PerTenant",
    "Priced",
    "QueueLimits",
    "RemoteBackend",
    "Runtime",
    "Task",
    "TaskRegistry",
    "WasmBackend",
    "WasmModule",
    "WorkerBackend",
    "WorkerExecutor",
    "WorkerOptions",
    "empty",
    "errors",
    "gpu_task",
    "kernel",
    "pipeline",
    "progress",
    "task",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("hybrid_compute.errors")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value
