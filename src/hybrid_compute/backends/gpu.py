"""The gpu: tasks that are shaders, computed by one device that one thread owns."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendError, BackendUnavailable, HybridComputeError
from hybrid_compute.gpu.device import Device
from hybrid_compute.gpu.function import GpuFunction
from hybrid_compute.gpu.replies import Answer, Asked, Batch, Joined, Mailbox, refuse
from hybrid_compute.gpu.work import Work
from hybrid_compute.tasks import AnyTask

SOFTWARE = 8
"""The rank of an adapter in software: after all that computes on a processor without a detour."""


class GpuBackend(Backend):
    """Runs tasks of `@gpu_task` on the best gpu there is, or on one whose name or api contains `adapter`.

    Calls that come in the same turn of the event loop, or while the device is busy, go to it together; those of a
    `batchable` task as one. `memory` is how many bytes of the device may be used: beyond it calls raise `LimitExceeded`.

    Where there is no gpu, it refuses its tasks with the reason, and they run elsewhere. `auto` does not take an adapter
    in software either as long as there is another place: that is for tests.
    """

    name = "gpu"
    rank = -1
    provides = frozenset({"gpu"})
    batches = True

    def __init__(self, adapter: str | None = None, *, memory: int = 1 << 30, name: str = "gpu") -> None:
        self.name = name
        self._adapter = adapter
        self._memory = memory
        self._device: Device | None = None
        self._why_not = "it was not started"
        self._mailbox: Mailbox | None = None
        self._coming: defaultdict[GpuFunction[..., Any], list[Asked]] = defaultdict(list)

    @property
    def device(self) -> Device:
        """The device. Raises `BackendUnavailable` if there is none."""
        if self._device is None:
            raise BackendUnavailable(f"backend {self.name!r} has no gpu: {self._why_not}", backend=self.name)
        return self._device

    def can_run(self, task: AnyTask, /) -> bool:
        return isinstance(task.fn, GpuFunction) and self._device is not None

    def why_not(self, task: AnyTask, /) -> str:
        return self._why_not if isinstance(task.fn, GpuFunction) else "it runs only what @gpu_task made"

    async def start(self) -> None:
        if self._device is not None:
            return
        device = Device(self._adapter, memory=self._memory)
        try:
            await asyncio.wrap_future(device.open())
        except BackendUnavailable as error:
            self._why_not = str(error)
            return
        self._device = device
        assert device.adapter is not None
        if device.adapter.is_software:
            self.rank = SOFTWARE

    async def aclose(self) -> None:
        await super().aclose()
        if self._device is not None:
            self._device.close()
            await asyncio.to_thread(self._device.join, 10.0)

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self.run_call(Call(task, args, kwargs))

    async def run_call(self, call: Call, /) -> Any:
        async with self.within_limits(call):
            function: GpuFunction[..., Any] = call.task.fn  # type: ignore[assignment]
            box = self._box()
            asked = Asked(function.positional(call.args, call.kwargs), box)
            if not self._coming:
                box.loop.call_soon(self._send, box)
            self._coming[function].append(asked)
            return await self._answered(call, asked.answer)

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        if not inputs:
            return []
        async with self.within_limits(call):
            function: GpuFunction[..., Any] = call.task.fn  # type: ignore[assignment]
            batch = Batch(len(inputs), self._box())
            inputs = [function.positional(args, {}) for args in inputs]
            work = function.joined(inputs, batch)
            works = [function.work(args, batch.part(at)) for at, args in enumerate(inputs)] if work is None else [work]
            self.device.submit(works)
            results: list[Any] = await self._answered(call, batch.answer)
            return results

    async def _answered(self, call: Call, answer: Answer) -> Any:
        began = perf_counter()
        try:
            return await answer
        except BackendError as error:
            error.backend = self.name
            raise
        finally:
            call.ran = perf_counter() - began

    def _box(self) -> Mailbox:
        """The mailbox of the event loop that this is called in: whoever runs in a new one gets another."""
        loop = asyncio.get_running_loop()
        if self._mailbox is None or self._mailbox.loop is not loop or self._mailbox.device is not self._device:
            self._mailbox = Mailbox(loop, self.device)
        return self._mailbox

    def _send(self, box: Mailbox) -> None:
        """Give the device all that was asked for since it was last given something."""
        coming, self._coming = self._coming, defaultdict(list)
        box.device.submit([work for function, asked in coming.items() for work in works_of(function, asked, box)])


def works_of(function: GpuFunction[..., Any], asked: Sequence[Asked], box: Mailbox) -> list[Work]:
    """The works for all that was asked of a function: one where they can be joined."""
    if len(asked) > 1:
        work = function.joined([each.args for each in asked], Joined(asked, box))
        if work is not None:
            return [work]
    works: list[Work] = []
    for each in asked:
        try:
            works.append(function.work(each.args, each))
        except HybridComputeError as error:
            refuse(each.answer, error)
    return works
