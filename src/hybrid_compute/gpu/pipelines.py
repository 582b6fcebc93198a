"""What a device has compiled, and what was bound to it before: found again in a microsecond."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from hybrid_compute.gpu import native
from hybrid_compute.gpu.shader_errors import is_lost, understood
from hybrid_compute.gpu.wgsl import Access
from hybrid_compute.gpu.work import Kernel, Place, Series

if TYPE_CHECKING:
    from hybrid_compute.gpu.memory import Buffer

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
        self._series: dict[object, Sequence[Any]] = {}
        self._bound = 0  # how many groups there are

    def __contains__(self, kernel: Kernel) -> bool:
        return kernel in self._known

    def __getitem__(self, kernel: Kernel) -> Pipeline:
        return self._known[kernel]

    def compile(self, kernel: Kernel) -> None:
        """Have it from now on. Raises `InvalidShader`, and `wgpu.GPUError` where the device is lost."""
        key = kernel.source, kernel.entry
        made = self._by_source.get(key)
        if made is None:
            made = self._by_source[key] = self._compiled(kernel)
        self._known[kernel] = made

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
            self._make_room(1)
            known = self._groups[key] = self._made(
                pipeline, [(place.buffer, place.offset, place.nbytes) for place in places]
            )
        return known

    def series(self, pipeline: Pipeline, step: Series) -> Sequence[Any]:
        """A bind group for each dispatch of a series."""
        key = pipeline.number, step.count, step.pieces, *((place.buffer.number, place.offset) for place in step.places)
        known = self._series.get(key)
        if known is None:
            self._make_room(step.count)
            both = list(zip(step.places, step.pieces, strict=True))
            known = self._series[key] = [
                self._made(
                    pipeline,
                    [(place.buffer, place.offset + number * piece.stride, piece.nbytes) for place, piece in both],
                )
                for number in range(step.count)
            ]
        return known

    def _made(self, pipeline: Pipeline, bound: Sequence[tuple[Buffer, int, int]]) -> Any:
        self._bound += 1
        entries = [
            (number, buffer.raw, offset, nbytes)
            for number, (buffer, offset, nbytes) in zip(pipeline.numbers, bound, strict=True)
        ]
        return native.bind_group(self._raw, pipeline.layout, entries)

    def _make_room(self, count: int) -> None:
        if self._bound + count > _MOST_GROUPS:
            self.forget_groups()

    def forget_groups(self) -> None:
        """Let go of what is bound, so that the buffers can go."""
        for group in chain(self._groups.values(), *self._series.values()):
            native.release_group(group)
        self._groups.clear()
        self._series.clear()
        self._bound = 0
