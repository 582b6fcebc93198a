"""What the package root offers is this list."""

import pytest

import hybrid_compute

PUBLIC = [
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


def test_the_package_root_offers_exactly_the_public_names() -> None:
    """A name is public because it is written down here, never by accident."""
    assert sorted(hybrid_compute.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves(name: str) -> None:
    """A public name can be had from the package root, also when it resolves on first use."""
    assert getattr(hybrid_compute, name) is not None
