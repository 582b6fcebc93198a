"""What a device has compiled, and what was bound to it before: found again in a microsecond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybrid_compute.gpu import native
from hybrid_compute.gpu.shader_errors import is_lost, understood
from hybrid_compute.gpu.wgsl import Access
from hybrid_compute.gpu.work import Kernel, Place

_COMPUTE = 4
_TYPES: dict[Access, str] = {"read": "read-only-storage", "read_write": "storage", "uniform": "uniform"}
_MOST_GROUPS = 4096


class Pipeline:
    """A kernel as the device runs it."""

    __slots__ = ("keep", "layout", "number", "numbers", "raw")

    def __init__(self, number: int, pipeline: Any, layout: Any, numbers: Sequence[int]) -> None:
        self.number = number
        self.raw = pipeline._internal
        self.layout = layout._internal
        self.numbers = tuple(numbers)
        self.keep = pipeline, layout


class Pipelines:
    """All kernels that a device has met, compiled."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._raw = device._internal
        self._known: dict[Kernel, Pipeline] = {}
        self._by_source: dict[tuple[str, str], Pipeline] = {}
        self._groups: dict[object, Any] = {}

    def __getitem__(self, kernel: Kernel) -> Pipeline:
        """Compiled now, if it was not. Raises `InvalidShader`, and `wgpu.GPUError` where the device is lost."""
        known = self._known.get(kernel)
        return known if known is not None else self._compile(kernel)

    def _compile(self, kernel: Kernel) -> Pipeline:
        key = kernel.source, kernel.entry
        made = self._by_source.get(key)
        if made is None:
            made = self._by_source[key] = self._compiled(kernel)
        self._known[kernel] = made
        return made

    def _compiled(self, kernel: Kernel) -> Pipeline:
        import wgpu

        entries = [
            {"binding": number, "visibility": _COMPUTE, "buffer": {"type": _TYPES[access]}}
            for number, access in kernel.bindings
        ]
        try:
            module = self._device.create_shader_module(code=kernel.source)
            layout = self._device.create_bind_group_layout(entries=entries)
            whole = self._device.create_pipeline_layout(bind_group_layouts=[layout])
            pipeline = self._device.create_compute_pipeline(
                layout=whole, compute={"module": module, "entry_point": kernel.entry}
            )
        except wgpu.GPUError as error:
            if is_lost(error):
                raise
            raise understood(kernel.name, str(error)) from error
        return Pipeline(len(self._by_source), pipeline, layout, [number for number, _ in kernel.bindings])

    def group(self, pipeline: Pipeline, places: Sequence[Place]) -> Any:
        """A bind group that binds these places, in the order of the bindings."""
        key: object = pipeline.number
        for place in places:
            key = key, place.buffer.number, place.offset, place.nbytes
        known = self._groups.get(key)
        if known is None:
            if len(self._groups) >= _MOST_GROUPS:
                self.forget_groups()
            entries = [
                (number, place.buffer.raw, place.offset, place.nbytes)
                for number, place in zip(pipeline.numbers, places, strict=True)
            ]
            known = self._groups[key] = native.bind_group(self._raw, pipeline.layout, entries)
        return known

    def forget_groups(self) -> None:
        """Let go of what is bound, so that the buffers can go."""
        for group in self._groups.values():
            native.release_group(group)
        self._groups.clear()
