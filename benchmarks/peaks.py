"""What a gpu could do at most: products of float32 without tensor cores, and bytes to and from its memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peak:
    """Per second."""

    operations: float
    nbytes: float

    def seconds(self, operations: float, nbytes: float) -> float:
        """The least that work of so many operations and bytes takes."""
        return max(operations / self.operations, nbytes / self.nbytes)


# Of data sheets, by what a driver calls the device.
# https://www.nvidia.com/en-us/data-center/h200/, and the same for h100, a100, l4 and tesla-t4;
# https://www.nvidia.com/en-us/geforce/graphics-cards/40-series/rtx-4090/, and the same for 30-series/rtx-3090-3090ti.
_PEAKS = {
    "NVIDIA H200": Peak(67e12, 4.8e12),
    "NVIDIA H100 PCIe": Peak(51e12, 2e12),
    "NVIDIA H100 80GB HBM3": Peak(67e12, 3.35e12),
    "NVIDIA A100-SXM4-80GB": Peak(19.5e12, 2.039e12),
    "NVIDIA A100-SXM4-40GB": Peak(19.5e12, 1.555e12),
    "NVIDIA L4": Peak(30.3e12, 300e9),
    "Tesla T4": Peak(8.1e12, 320e9),
    "NVIDIA GeForce RTX 4090": Peak(82.6e12, 1008e9),
    "NVIDIA GeForce RTX 3090": Peak(35.6e12, 936e9),
}


def peak_of(name: str) -> Peak:
    """Raises `LookupError` for a device that is not in the table."""
    if name not in _PEAKS:
        raise LookupError(f"the peak of {name!r} is unknown: add it to benchmarks/peaks.py")
    return _PEAKS[name]
