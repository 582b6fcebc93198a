"""A device as it is opened: what it can do, its memory, and the frames in which things go there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.gpu.adapters import Adapter, choose, look_again
from hybrid_compute.gpu.constants import Constants
from hybrid_compute.gpu.facts import Facts
from hybrid_compute.gpu.frame import Frame
from hybrid_compute.gpu.memory import Memory
from hybrid_compute.gpu.pipelines import Pipelines

DEPTH = 2
"""So many frames may be with the device at once: one is encoded while the other is computed."""
_USEFUL = ("shader-f16", "subgroup", "timestamp-query", "mappable-primary-buffers")


@dataclass(frozen=True, slots=True)
class Opened:
    """All that there is of a device that is open."""

    wgpu: Any
    adapter: Adapter
    facts: Facts
    memory: Memory
    constants: Constants
    pipelines: Pipelines
    frames: list[Frame]


def open_device(
    name: str | None, memory: int, *, direct: bool, without: Iterable[str], limits: Mapping[str, int]
) -> Opened:
    """Open the best adapter, or one of this name. Raises `BackendUnavailable`, and `ValueError` for unknown limits."""
    adapter = choose(name)
    unknown = sorted(limits.keys() - adapter.wgpu.limits.keys())
    if unknown:
        raise ValueError(f"a gpu has no limit {unknown[0]!r}: there are {', '.join(sorted(adapter.wgpu.limits))}")
    features = [each for each in _USEFUL if each in adapter.features and each not in without]
    try:
        device = adapter.wgpu.request_device_sync(
            required_features=features, required_limits={**adapter.wgpu.limits, **limits}
        )
    except RuntimeError as error:
        look_again()
        raise BackendUnavailable(f"{adapter} cannot be opened: {error}", backend="gpu") from error
    facts = _facts(device.limits, features, software=adapter.is_software)
    mapped = direct and adapter.shares_memory and "mappable-primary-buffers" in features
    own = Memory(device, memory, facts.buffer, direct=mapped)
    constants, pipelines = Constants(own), Pipelines(device)
    frames = [Frame(device, own, constants, pipelines, facts.alignment) for _ in range(DEPTH)]
    return Opened(device, adapter, facts, own, constants, pipelines, frames)


def _facts(limits: Mapping[str, int], features: Iterable[str], *, software: bool) -> Facts:
    return Facts(
        frozenset(features),
        limits["max-storage-buffer-binding-size"] // 4 * 4,
        limits["max-buffer-size"] // 4 * 4,
        limits["max-compute-workgroups-per-dimension"],
        limits["max-compute-invocations-per-workgroup"],
        max(limits["min-storage-buffer-offset-alignment"], limits["min-uniform-buffer-offset-alignment"]),
        limits["max-compute-workgroup-storage-size"],
        software,
    )
