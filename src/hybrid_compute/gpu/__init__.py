"""The gpu: tasks that are shaders, arrays that stay on the device, many calls in one go.

Importing this loads neither wgpu nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybrid_compute.gpu.errors import InvalidShader
from hybrid_compute.gpu.function import GpuFunction, gpu_task

if TYPE_CHECKING:
    from hybrid_compute.gpu.array import GpuArray

__all__ = ["GpuArray", "GpuFunction", "InvalidShader", "gpu_task"]


def __getattr__(name: str) -> Any:
    if name == "GpuArray":  # with it comes numpy
        from hybrid_compute.gpu.array import GpuArray

        return GpuArray
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
