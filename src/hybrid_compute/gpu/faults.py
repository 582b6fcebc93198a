"""What goes wrong on a device, as one of our errors."""

from __future__ import annotations

from hybrid_compute.errors import BackendError, HybridComputeError, InvalidInput, LimitExceeded
from hybrid_compute.gpu.errors import InvalidShader
from hybrid_compute.gpu.shader_errors import is_lost


class DeviceLost(BackendError):
    """The device is gone, with all that lay on it: its driver gave up, or somebody unplugged it."""


def translated(error: Exception) -> Exception:
    """One of our errors for what wgpu raised."""
    if isinstance(error, HybridComputeError | InvalidShader):
        return without_frames(error)
    import wgpu

    if is_lost(error):
        return DeviceLost(f"the device was lost: {error}", backend="gpu")
    if isinstance(error, wgpu.GPUOutOfMemoryError):
        return LimitExceeded(f"the device has no memory left: {error}", backend="gpu")
    if isinstance(error, wgpu.GPUError):
        return InvalidInput(f"the device refuses this: {error}")
    return error


def without_frames(error: Exception) -> Exception:
    """The same, and it does not hold what was sent: arrays would stay on the device as long as somebody has it."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error
