"""A device, and the one thread that owns it: everything that wgpu is asked to do for it is done there.

    any thread ── submit ──> inbox ──> frame, frame ──> Reply.done, Reply.failed
                             (the thread of the device)

What came in while the device was busy goes together in the next frame. A device that was lost, or does not come to an
end, is given up: those whose works were with it are told so, and what had not begun is left to its successor.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    BackendUnavailable,
    HybridComputeError,
    InvalidInput,
    LimitExceeded,
)
from hybrid_compute.gpu.adapters import Adapter, choose
from hybrid_compute.gpu.errors import InvalidShader
from hybrid_compute.gpu.facts import FRAME, Facts
from hybrid_compute.gpu.memory import Copied
from hybrid_compute.gpu.shader_errors import is_lost
from hybrid_compute.gpu.work import Kept, Resident, Work

if TYPE_CHECKING:
    from hybrid_compute.gpu.array import GpuArray
    from hybrid_compute.gpu.constants import Constants
    from hybrid_compute.gpu.frame import Frame
    from hybrid_compute.gpu.memory import Buffer, Memory
    from hybrid_compute.gpu.pipelines import Pipelines

DEPTH = 2
"""So many frames may be with the device at once: one is encoded while the other is computed."""
_USEFUL = ("shader-f16", "subgroup", "timestamp-query", "mappable-primary-buffers")
_numbers = itertools.count(1)


TOGETHER = 16
"""A frame may take as long as its calls one after the other, but not longer than so many of them."""


@dataclass(eq=False, slots=True)
class Launched:
    """A frame that is with the device. Once told to somebody its works are taken."""

    frame: Frame
    since: float
    """When the device could begin with it, by `monotonic`: the frame before it had ended."""
    works: Sequence[Work]
    calls: int
    """How many there are in it."""


class Device:
    """A device that is open. `number` tells it from all others, also from one that took its place."""

    def __init__(
        self,
        name: str | None = None,
        *,
        memory: int = 1 << 30,
        direct: bool = True,
        without: Iterable[str] = (),
        limits: Mapping[str, int] | None = None,
        gone: Callable[[Device], Callable[[list[Work]], None]] | None = None,
    ) -> None:
        self.number = next(_numbers)
        self.adapter: Adapter | None = None
        self.facts: Facts | None = None
        self.memory: Memory | None = None
        self.constants: Constants | None = None
        self.lost: str = ""
        """Why it can no longer be used."""
        self.has_worked = False
        """Whether it has come to the end of anything."""
        self._was_lost = False
        self._is_closed = False
        self._has_work = False  # which lies in the inbox, is looked at by the thread, or is under way
        self._why = ""
        self._is_to_rest = False
        self._wgpu: Any = None
        self._name = name
        self._budget = memory
        self._direct = direct
        self._without = frozenset(without)
        self._limits = limits or {}
        self._gone = gone  # told when it was lost; says who takes the works that it had not begun
        self._inbox: queue.SimpleQueue[Sequence[Work] | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._free: deque[Frame] = deque()
        self._under_way: deque[Launched] = deque()
        self._unbegun: list[Work] = []
        self._lock = threading.Lock()
        _devices.add(self)
        self._thread = threading.Thread(target=self._main, name=f"hybrid-compute-gpu-{self.number}", daemon=True)

    def open(self) -> Future[None]:
        """Begin. What is waited for has the reason if there is no such device."""
        self._thread.start()
        return self._opened

    def submit(self, works: Sequence[Work]) -> None:
        """Have these done, in this order. Any thread may ask; their replies come from the device's own."""
        with self._lock:  # or it could be lost between the question and the answer, and nobody would look again
            if not self.lost:
                self._has_work = True
                self._inbox.put(works)
                return
        self.refuse(works)

    def give_back(self, buffer: Buffer) -> None:
        """An array has gone, and its buffer can be used for another. Any thread may say so, at any time."""
        if self.memory is not None:
            self.memory.give_back(buffer)

    def leave(self) -> None:
        """This is a forked child, which has no thread of it; nor has it those that may have held the lock."""
        self._lock = threading.Lock()
        self.lost = "this process is a forked copy of the one that opened it"

    def rest(self) -> None:
        """Give the driver back what is kept only to be quick, once there is nothing to do. Any thread may ask."""
        self._is_to_rest = True
        self._inbox.put(())

    def close(self) -> None:
        """What is under way is finished, what waits is refused, and the thread ends."""
        self._is_closed = True
        self.lost = self.lost or "it was closed"
        self._inbox.put(None)

    @property
    def is_busy(self) -> bool:
        """Whether there is a frame that it is at."""
        return bool(self._under_way)

    def time_left(self, limit: float) -> float | None:
        """Seconds until it has had `limit` for each call in the frame that it is at; None if there is nothing to do."""
        with self._lock:
            if not self._under_way:
                return limit if self._has_work else None
            first = self._under_way[0]
            return first.since + limit * min(first.calls, TOGETHER) - monotonic()

    def give_up(self, error: BackendError) -> list[Work]:
        """Wait for it no longer: what it is at fails with `error`. What it had not begun, for another device."""
        self.lost = self.lost or str(error)
        with self._lock:
            stuck = [work for launched in self._under_way for work in _taken(launched)]
        for work in stuck:
            work.reply.failed(error, started=True)
        left = self._left()
        self._inbox.put(None)
        return left

    @property
    def copied(self) -> Copied:
        """What was copied on the way to it and back, since it was opened."""
        memory = self.memory
        return Copied(memory.by_host, memory.by_device) if memory is not None else Copied(0, 0)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended. Whether it has."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # In its thread.

    def _main(self) -> None:
        try:
            device, pipelines = self._open()
        except BaseException as error:  # whatever it is, somebody waits to hear it
            self.lost = str(error) or type(error).__name__
            self._opened.set_exception(error)
            self.refuse(self._left())
            return
        self._opened.set_result(None)
        try:
            self._serve(pipelines)
        finally:
            while self._under_way:
                self._finish()
            # First there is a successor, and then nothing comes in here any more: nobody comes between the two.
            take = self._gone(self) if self._was_lost and self._gone is not None else self.refuse
            take(self._left())
            for frame in self._free:
                frame.drop()
            device.destroy()

    def _open(self) -> tuple[Any, Pipelines]:
        adapter = self.adapter = choose(self._name)
        from hybrid_compute.gpu.constants import Constants
        from hybrid_compute.gpu.frame import Frame
        from hybrid_compute.gpu.memory import Memory
        from hybrid_compute.gpu.pipelines import Pipelines

        unknown = sorted(self._limits.keys() - adapter.wgpu.limits.keys())
        if unknown:
            raise ValueError(f"a gpu has no limit {unknown[0]!r}: there are {', '.join(sorted(adapter.wgpu.limits))}")
        features = [name for name in _USEFUL if name in adapter.features and name not in self._without]
        try:
            limits = {**adapter.wgpu.limits, **self._limits}
            device = adapter.wgpu.request_device_sync(required_features=features, required_limits=limits)
        except RuntimeError as error:
            raise BackendUnavailable(f"{adapter} cannot be opened: {error}", backend="gpu") from error
        limits = device.limits
        self.facts = Facts(
            frozenset(features),
            limits["max-storage-buffer-binding-size"] // 4 * 4,
            limits["max-buffer-size"] // 4 * 4,
            limits["max-compute-workgroups-per-dimension"],
            limits["max-compute-invocations-per-workgroup"],
            max(limits["min-storage-buffer-offset-alignment"], limits["min-uniform-buffer-offset-alignment"]),
            limits["max-compute-workgroup-storage-size"],
            adapter.is_software,
        )
        self._wgpu = device
        direct = self._direct and adapter.shares_memory and "mappable-primary-buffers" in features
        memory = self.memory = Memory(device, self._budget, self.facts.buffer, direct=direct)
        constants, pipelines = Constants(memory), Pipelines(device)
        self.constants = constants
        self._free.extend(Frame(device, memory, constants, pipelines, self.facts.alignment) for _ in range(DEPTH))
        return device, pipelines

    def _serve(self, pipelines: Pipelines) -> None:
        while not self._was_lost and self._turn(pipelines):
            pass

    def _turn(self, pipelines: Pipelines) -> bool:
        """Begin what has come in, or finish what was begun. Nothing of it is held while there is nothing to do."""
        works = self._come(wait=not self._under_way)
        if works is None:
            return False
        for some in portions(self._fit(works, pipelines), self._frame):
            self._launch(some)
        if self._under_way and self._inbox.empty():
            self._finish()
        if self._is_to_rest and not self._under_way:
            self._rest()
        with self._lock:
            self._has_work = bool(self._under_way) or not self._inbox.empty()
        return True

    def _rest(self) -> None:
        assert self.memory is not None
        self._is_to_rest = False
        for frame in self._free:
            frame.drop()
        self.memory.trim()

    @property
    def _frame(self) -> int:
        assert self.facts is not None
        return min(FRAME, self.facts.buffer)

    def _come(self, *, wait: bool) -> list[Work] | None:
        """All that has come in, perhaps nothing; None when it is time to go."""
        come: list[Work] = []
        try:
            while True:
                more = self._inbox.get(block=wait and not come)
                if more is None:
                    self.refuse(come)
                    return None
                come += more
                wait = False
        except queue.Empty:
            return come

    def _fit(self, works: Iterable[Work], pipelines: Pipelines) -> list[Work]:
        """Those that the device can do; the others are told why not."""
        fitting: list[Work] = []
        for work in works:
            if not work.reply.is_wanted:
                continue
            try:
                self._check(work, pipelines)
            except Exception as error:
                self._not_begun([work], error)
            else:
                fitting.append(work)
        return fitting

    def _check(self, work: Work, pipelines: Pipelines) -> None:
        """Compile what it needs. Raises one of our errors, or wgpu's, if it cannot be done."""
        assert self.facts is not None
        for step in work.steps:
            pipelines[step.kernel]
            check_groups(step.kernel.name, step.groups, self.facts.workgroups)
        for place in work.places:
            check_size(place.nbytes, self.facts.binding)
            if isinstance(place, Resident) and place.device is not self:
                raise BackendClosed("this array lies on another device, or on one that is gone", backend="gpu")

    def _launch(self, works: list[Work], *, again: bool = False) -> None:
        """Have the device begin with them, in a frame; a free one, or that of what it was given first."""
        if not self._free:
            self._finish()
        if self._was_lost:  # nothing of it may be touched
            self._unbegun += works
            return
        frame = self._free.popleft()
        try:
            frame.launch(works)
        except Exception as error:
            self._free.append(frame)
            ours = translated(error)
            if isinstance(ours, LimitExceeded) and len(works) == 1 and not again:
                self._make_room()
                self._launch(works, again=True)
            else:
                self._not_begun(works, ours)
        else:
            with self._lock:
                self._under_way.append(Launched(frame, monotonic(), works, sum(work.reply.calls for work in works)))

    def _not_begun(self, works: list[Work], error: Exception) -> None:
        """Tell who waits for them; of several it was one, and the others shall not suffer for it."""
        ours = translated(error)
        if isinstance(ours, DeviceLost):
            self._lose(ours)
            self._unbegun += works
        elif len(works) > 1:
            for work in works:
                self._launch([work])
        else:
            works[0].reply.failed(ours, started=False)

    def _make_room(self) -> None:
        """Give up all that is kept only to be quick, when what is under way is done."""
        while self._under_way:
            self._finish()
        self._rest()

    def _finish(self) -> None:
        """Wait for what the device was given first."""
        launched = self._under_way[0]
        try:
            if self._was_lost:
                raise DeviceLost(self._why, backend="gpu")
            results = launched.frame.finish()
        except Exception as error:
            ours = translated(error)
            if isinstance(ours, DeviceLost):
                self._lose(ours)
            for work in self._done_with(launched):
                work.reply.failed(ours, started=True)
        else:
            self.has_worked = True
            for work, result in zip(self._done_with(launched), results, strict=False):
                work.reply.done([self._array(each) if isinstance(each, Kept) else each for each in result])
        self._free.append(launched.frame)

    def _array(self, place: Kept) -> GpuArray:
        from hybrid_compute.gpu.array import GpuArray

        return GpuArray(self, place.buffer, place.shape, place.dtype, place.nbytes)

    def _lose(self, error: DeviceLost) -> None:
        self._was_lost = True
        self._why = self._why or str(error)

    def _done_with(self, launched: Launched) -> Sequence[Work]:
        """Its works; none if they were given up."""
        with self._lock:
            self._under_way.remove(launched)
            if self._under_way:
                self._under_way[0].since = monotonic()
            return _taken(launched)

    def _left(self) -> list[Work]:
        """All that waits to be begun. From here on nothing comes in any more."""
        with self._lock:
            self.lost = self.lost or self._why or "its thread has failed"
            left, self._unbegun = self._unbegun, []
            self._has_work = False
            while not self._inbox.empty():
                left += self._inbox.get_nowait() or ()
        return left

    def refuse(self, works: Iterable[Work]) -> None:
        """Tell who waits for these that there is no device any more."""
        kind = BackendClosed if self._is_closed else BackendUnavailable
        for work in works:
            work.reply.failed(kind(f"the device is gone: {self.lost}", backend="gpu"), started=False)


_devices: weakref.WeakSet[Device] = weakref.WeakSet()


def _leave() -> None:
    """A forked child has the thread of no device."""
    for device in list(_devices):
        device.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)


class DeviceLost(BackendError):
    """The device is gone, with all that lay on it: its driver gave up, or somebody unplugged it."""


def _taken(launched: Launched) -> Sequence[Work]:
    works, launched.works = launched.works, ()
    return works


def portions(works: Iterable[Work], most: int) -> list[list[Work]]:
    """Works that fit together in a frame of so many bytes; one that does not fit into any has its own."""
    made: list[list[Work]] = []
    size = most
    for work in works:
        nbytes = sum(place.nbytes for place in work.places)
        if size + nbytes > most:
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
            f"an array of {nbytes:,} bytes is more than the device binds at once, {most:,} "
            f"(max-storage-buffer-binding-size): split it",
            backend="gpu",
        )


def without_frames(error: Exception) -> Exception:
    """The same, and it does not hold what was sent: arrays would stay on the device as long as somebody has it."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


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
