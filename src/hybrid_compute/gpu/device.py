"""A device, and the one thread that owns it: everything that wgpu is asked to do for it is done there.

    any thread ── submit ──> inbox ──> frame, frame ──> Reply.done, Reply.failed
                             (the thread of the device)

What came in while the device was busy goes together in the next frame.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import BackendClosed, BackendUnavailable, HybridComputeError, InvalidInput, LimitExceeded
from hybrid_compute.gpu.adapters import Adapter, choose
from hybrid_compute.gpu.errors import InvalidShader
from hybrid_compute.gpu.work import Work

if TYPE_CHECKING:
    from hybrid_compute.gpu.frame import Frame
    from hybrid_compute.gpu.memory import Memory
    from hybrid_compute.gpu.pipelines import Pipelines

DEPTH = 2
"""So many frames may be with the device at once: one is encoded while the other is computed."""
FRAME = 64 << 20
"""Bytes of works that are put into one frame, unless a single one is larger."""
_USEFUL = ("shader-f16", "subgroup", "timestamp-query", "mappable-primary-buffers")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device can do."""

    features: frozenset[str]
    binding: int
    """Bytes of the largest array."""
    workgroups: int
    """Workgroups in one direction."""
    invocations: int
    """Invocations in one workgroup."""
    alignment: int


class Device:
    """A device that is open. `number` tells it from all others, also from one that took its place."""

    def __init__(
        self, name: str | None = None, *, memory: int = 1 << 30, direct: bool = True, without: Iterable[str] = ()
    ) -> None:
        self.number = next(_numbers)
        self.adapter: Adapter | None = None
        self.facts: Facts | None = None
        self.memory: Memory | None = None
        self.lost: str = ""
        """Why it can no longer be used."""
        self._name = name
        self._budget = memory
        self._direct = direct
        self._without = frozenset(without)
        self._inbox: queue.SimpleQueue[Sequence[Work] | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._frames: list[Frame] = []
        self._under_way: deque[Frame] = deque()
        self._thread = threading.Thread(target=self._main, name=f"hybrid-compute-gpu-{self.number}", daemon=True)

    def open(self) -> Future[None]:
        """Begin. What is waited for has the reason if there is no such device."""
        self._thread.start()
        return self._opened

    def submit(self, works: Sequence[Work]) -> None:
        """Have these done, in this order. Any thread may ask; their replies come from the device's own."""
        if self.lost:
            self._refuse(works)
        else:
            self._inbox.put(works)

    def close(self) -> None:
        """What is under way is finished, what waits is refused, and the thread ends."""
        self.lost = self.lost or "it was closed"
        self._inbox.put(None)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended. Whether it has."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # In its thread.

    def _main(self) -> None:
        try:
            device, memory, pipelines = self._open()
        except BaseException as error:  # whatever it is, somebody waits to hear it
            self.lost = str(error) or type(error).__name__
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            self._serve(device, memory, pipelines)
        finally:
            self._finish_all()
            self._refuse_waiting()
            for frame in self._frames:
                frame.drop()
            device.destroy()

    def _open(self) -> tuple[Any, Memory, Pipelines]:
        adapter = self.adapter = choose(self._name)
        from hybrid_compute.gpu.memory import Memory
        from hybrid_compute.gpu.pipelines import Pipelines

        features = [name for name in _USEFUL if name in adapter.features and name not in self._without]
        try:
            device = adapter.wgpu.request_device_sync(required_features=features, required_limits=adapter.wgpu.limits)
        except RuntimeError as error:
            raise BackendUnavailable(f"{adapter} cannot be opened: {error}", backend="gpu") from error
        limits = device.limits
        self.facts = Facts(
            frozenset(features),
            limits["max-storage-buffer-binding-size"],
            limits["max-compute-workgroups-per-dimension"],
            limits["max-compute-invocations-per-workgroup"],
            max(limits["min-storage-buffer-offset-alignment"], limits["min-uniform-buffer-offset-alignment"]),
        )
        self.memory = Memory(device, self._budget, self.facts.binding)
        return device, self.memory, Pipelines(device)

    def _serve(self, device: Any, memory: Memory, pipelines: Pipelines) -> None:
        from hybrid_compute.gpu.frame import Frame

        assert self.facts is not None
        direct = self._direct and "mappable-primary-buffers" in self.facts.features
        alignment = self.facts.alignment
        self._frames = [Frame(device, memory, pipelines, alignment=alignment, direct=direct) for _ in range(DEPTH)]
        free = deque(self._frames)
        while (works := self._come(wait=not self._under_way)) is not None:
            for some in portions(self._fit(works, pipelines)):
                if not free:
                    free.append(self._finish(self._under_way.popleft()))
                frame = free.popleft()
                if self._launch(frame, some):
                    self._under_way.append(frame)
                else:
                    free.append(frame)
            if self._under_way and self._inbox.empty():
                free.append(self._finish(self._under_way.popleft()))

    def _come(self, *, wait: bool) -> list[Work] | None:
        """All that has come in; None when it is time to go."""
        come: list[Work] = []
        try:
            while True:
                more = self._inbox.get(block=wait and not come)
                if more is None:
                    self._refuse(come)
                    return None
                come += more
        except queue.Empty:
            return come

    def _fit(self, works: Iterable[Work], pipelines: Pipelines) -> list[Work]:
        """Those that the device can do; the others are told why not."""
        assert self.facts is not None
        fitting: list[Work] = []
        for work in works:
            try:
                for step in work.steps:
                    pipelines[step.kernel]
                    check_groups(step.kernel.name, step.groups, self.facts.workgroups)
                for place in work.places:
                    check_size(place.nbytes, self.facts.binding)
            except (InvalidShader, HybridComputeError) as error:
                work.reply.failed(error, started=False)
            else:
                fitting.append(work)
        return fitting

    def _launch(self, frame: Frame, works: list[Work]) -> bool:
        try:
            frame.launch(works)
        except Exception as error:
            if len(works) == 1:
                works[0].reply.failed(translated(error), started=False)
                return False
            for work in works:  # one of them it was, and the others shall not suffer for it
                if self._launch(frame, [work]):
                    self._finish(frame)
            return False
        return True

    def _finish(self, frame: Frame) -> Frame:
        works = frame.works
        try:
            results = frame.finish()
        except Exception as error:
            for work in works:
                work.reply.failed(translated(error), started=True)
        else:
            for work, result in zip(works, results, strict=True):
                work.reply.done(result)
        return frame

    def _finish_all(self) -> None:
        while self._under_way:
            self._finish(self._under_way.popleft())

    def _refuse_waiting(self) -> None:
        try:
            while True:
                self._refuse(self._inbox.get_nowait() or ())
        except queue.Empty:
            pass

    def _refuse(self, works: Iterable[Work]) -> None:
        for work in works:
            work.reply.failed(BackendClosed(f"the device cannot be used: {self.lost}", backend="gpu"), started=False)


def portions(works: Iterable[Work]) -> list[list[Work]]:
    """Works that fit together in a frame."""
    made: list[list[Work]] = []
    size = FRAME
    for work in works:
        nbytes = sum(place.nbytes for place in work.places)
        if size + nbytes > FRAME:
            made.append([])
            size = 0
        made[-1].append(work)
        size += nbytes
    return made


def check_groups(name: str, groups: Sequence[int], most: int) -> None:
    """Raises `InvalidInput` for more workgroups than a device takes."""
    if max(groups) > most:
        raise InvalidInput(
            f"{name} would need {groups} workgroups, and a device takes {most:,} in each direction: use more of "
            f"them, or have each invocation do several elements (with @builtin(num_workgroups))"
        )


def check_size(nbytes: int, most: int) -> None:
    """Raises `LimitExceeded` for an array that cannot be bound."""
    if nbytes > most:
        raise LimitExceeded(
            f"an array of {nbytes:,} bytes is more than the device binds at once, {most:,}: split it", backend="gpu"
        )


def translated(error: Exception) -> Exception:
    """One of our errors for what wgpu raised."""
    if isinstance(error, HybridComputeError):
        return error
    import wgpu

    if isinstance(error, wgpu.GPUOutOfMemoryError):
        return LimitExceeded(f"the device has no memory left: {error}", backend="gpu")
    if isinstance(error, wgpu.GPUError):
        return InvalidInput(f"the device refuses this: {error}")
    return error

