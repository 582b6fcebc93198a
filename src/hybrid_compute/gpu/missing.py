"""What is said where wgpu, or a driver for it, is not there."""

from __future__ import annotations

from hybrid_compute.errors import BackendUnavailable


def missing(error: ImportError) -> BackendUnavailable:
    """The error where wgpu cannot be imported."""
    return BackendUnavailable(
        f"the gpu needs wgpu, which is not there ({error}): pip install 'hybrid-compute[gpu]'", backend="gpu"
    )


def no_adapter(why: str) -> BackendUnavailable:
    """The error where wgpu is there, and finds nothing that it could drive."""
    return BackendUnavailable(
        f"no gpu adapter: {why}; on Linux a driver for Vulkan is needed, of the card's maker or Mesa's "
        f"(apt-get install mesa-vulkan-drivers has one in software); `hybrid-compute doctor` lists what is found",
        backend="gpu",
    )
