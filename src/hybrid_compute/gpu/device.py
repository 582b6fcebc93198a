"""A device, and the one thread that owns it: everything that wgpu is asked to do for it is done there.

    any thread ── submit ──> inbox ──> frame, frame ──> Reply.done, Reply.failed
                             (the thread of the device)

What came in while the device was busy goes together in the next frame. A device that was lost, or does not come to an
end, is given up: who is to blame is told so, and all others are left to its successor.
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
from time import monotonic
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import BackendClosed, BackendUnavailable, LimitExceeded
from hybrid_compute.gpu.blame import acquitted, blame
from hybrid_compute.gpu.facts import FRAME, Facts
from hybrid_compute.gpu.faults import DeviceLost, translated
from hybrid_compute.gpu.fitting import check_groups, check_size, portions
from hybrid_compute.gpu.memory import Copied
from hybrid_compute.gpu.once_more import once_more
from hybrid_compute.gpu.progress import PATIENCE, Progress, Stuck
from hybrid_compute.gpu.work import Fetch, Kept, Output, Resident, Upload, Work

if TYPE_CHECKING:
    from hybrid_compute.gpu.adapters import Adapter
    from hybrid_compute.gpu.array import GpuArray
    from hybrid_compute.gpu.constants import Constants
    from hybrid_compute.gpu.frame import Frame
    from hybrid_compute.gpu.memory import Buffer, Memory
    from hybrid_compute.gpu.opening import Opened
    from hybrid_compute.gpu.pipelines import Pipelines
    from hybrid_compute.gpu.work import Kernel

Taker = Callable[[Sequence[Work]], None]
"""Whoever takes works over."""
_numbers = itertools.count(1)


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
        before: Device | None = None,
        given: Callable[[], None] = lambda: None,
        gone: Callable[[Device], Taker] | None = None,
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
        self._is_closed = False
        self._is_to_rest = False
        self._why: DeviceLost | None = None  # it is known to be lost
        self._wgpu: Any = None
        self._name = name
        self._budget = memory
        self._direct = direct
        self._without = frozenset(without)
        self._limits = limits or {}
        self._before = before  # that was given up, and may still be at the same gpu
        self._is_successor = before is not None
        self._hopeless: set[Kernel] = before._hopeless if before is not None else set()  # they are never compiled
        self._compiling: Kernel | None = None
        self._before_until = monotonic() + PATIENCE
        self._given = given  # told whenever it has something to do; in any thread
        self._gone = gone  # told when it was lost; says who takes the works that go on
        self._inbox: queue.SimpleQueue[Sequence[Work] | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._door = threading.Lock()
        self._frames: Sequence[Frame] = ()
        self._free: deque[Frame] = deque()
        self._progress = Progress()
        self._going_on: list[Work] = []  # that were with it when it was lost
        _devices.add(self)
        self._thread = threading.Thread(target=self._main, name=f"hybrid-compute-gpu-{self.number}", daemon=True)

    def open(self) -> Future[None]:
        """Begin. What is waited for has the reason if there is no such device."""
        self._thread.start()
        return self._opened

    def submit(self, works: Sequence[Work]) -> None:
        """Have these done, in this order, or those who wait for them told why not. Any thread may ask."""
        if not self.offer(works):
            self.refuse(works)

    def offer(self, works: Sequence[Work]) -> bool:
        """The same. False if nothing is done here any more; then nobody was told."""
        if self.lost or not self._progress.add(works):
            return False
        self._inbox.put(works)
        self._given()
        return True

    def give_back(self, buffer: Buffer) -> None:
        """An array has gone, and its buffer can be used for another. Any thread may say so, at any time."""
        if self.memory is not None:
            self.memory.give_back(buffer)

    def leave(self) -> None:
        """This is a forked child, which has no thread of it."""
        self._progress.leave()
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

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended. Whether it has."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def refuse(self, works: Iterable[Work]) -> None:
        """Tell who waits for these that there is no device any more."""
        kind = BackendClosed if self._is_closed else BackendUnavailable
        for work in works:
            work.reply.failed(kind(f"the device is gone: {self.lost}", backend="gpu"), started=False)

    # For those who watch it.

    @property
    def is_open(self) -> bool:
        """Whether it was opened, at any time."""
        return self._opened.done() and self._opened.exception() is None

    @property
    def is_successor(self) -> bool:
        """Whether it was opened in the place of another."""
        return self._is_successor

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._progress.is_over

    @property
    def is_busy(self) -> bool:
        """Whether there is a frame that it is at."""
        return self._progress.first is not None

    @property
    def copied(self) -> Copied:
        """What was copied on the way to it and back, since it was opened."""
        memory = self.memory
        return Copied(memory.by_host, memory.by_device) if memory is not None else Copied(0, 0)

    def time_left(self, limit: float) -> float | None:
        """Seconds until it has had `limit` for each call in the frame that it is at; None if there is nothing to do.

        Its time begins anew as long as the one before it is still at what it was given up for.
        """
        if self._before is not None:
            if self._before.join(0) or monotonic() > self._before_until:
                self._before = None
            self._progress.begin_anew()
        return self._progress.time_left(limit)

    def give_up(self, limit: float | None = None) -> Stuck | None:
        """Wait for it no longer; with a limit, only if it is late. What it was at, and what it had not begun.

        Nobody was told anything. These are copies: its thread may still be at the works themselves.
        """
        left = self._progress.give_up(limit)
        if left is None:
            return None
        for frame in self._frames:
            frame.is_given_up = True
        if self._compiling is not None and left.why.startswith("compile"):
            self._hopeless.add(self._compiling)
        self._inbox.put(None)
        guilty, others = ([once_more(work) for work in works] for works in (left.guilty, left.others))
        return Stuck(guilty, others, left.why)

    def say_lost(self, why: str) -> None:
        """Why it was given up: to who still asks, and to who waits for it to open."""
        self.lost = self.lost or why
        self._tell(BackendUnavailable(self.lost, backend="gpu"))

    # In its thread.

    def _main(self) -> None:
        try:
            with self._progress.doing("open"):
                opened = self._open()
        except BaseException as error:  # whatever it is, somebody waits to hear it
            take = self._gone(self) if self._is_successor and self._gone is not None else self.refuse
            left = self._progress.give_up()
            self.lost = self.lost or str(error) or type(error).__name__
            self._tell(error)
            take(left.others if left is not None else ())
            return
        try:
            if self._tell(None):
                self._serve(opened.pipelines)
        finally:
            self._end(opened)

    def _tell(self, error: BaseException | None) -> bool:
        """Say how the opening went, to those who wait for it. Whether they were not told before."""
        with self._door:
            is_first = not self._opened.done()
            if is_first and error is None:
                self._opened.set_result(None)
            elif is_first:
                self._opened.set_exception(error)
            return is_first

    def _open(self) -> Opened:
        from hybrid_compute.gpu.opening import open_device

        opened = open_device(self._name, self._budget, direct=self._direct, without=self._without, limits=self._limits)
        self._wgpu = opened.wgpu
        self.adapter, self.facts = opened.adapter, opened.facts
        self.memory, self.constants = opened.memory, opened.constants
        self._frames = opened.frames
        self._free.extend(opened.frames)
        return opened

    def _serve(self, pipelines: Pipelines) -> None:
        while not self._is_done and self._turn(pipelines):
            pass

    @property
    def _is_done(self) -> bool:
        """Whether nothing of it may be touched any more."""
        return self._why is not None or self._progress.is_over

    def _turn(self, pipelines: Pipelines) -> bool:
        """Begin what has come in, or finish what was begun. Nothing of it is held while there is nothing to do."""
        works = self._come(wait=not self.is_busy)
        if works is None:
            return False
        for some in portions([work for work in works if self._fits(work, pipelines)], self._frame):
            self._launch(some)
        if self.is_busy and self._inbox.empty():
            self._finish()
        if self._is_to_rest and not self.is_busy:
            self._rest()
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
                    return None
                come += more
                wait = False
        except queue.Empty:
            return come

    def _fits(self, work: Work, pipelines: Pipelines) -> bool:
        """Whether somebody wants it and the device can do it; if not, who waits is told why."""
        if not work.reply.is_wanted:
            self._progress.take(work)
            return False
        try:
            self._check(work, pipelines)
        except Exception as error:
            self._not_begun([work], error)
            return False
        return True

    def _check(self, work: Work, pipelines: Pipelines) -> None:
        """Compile what it needs. Raises one of our errors, or wgpu's, if it cannot be done."""
        assert self.facts is not None
        for step in work.steps:
            if step.kernel not in pipelines:
                self._compile(step.kernel, work, pipelines)
            check_groups(step.kernel.name, step.groups, self.facts.workgroups)
        for place in work.places:
            is_in_pieces = isinstance(place, Upload | Output) and place.stride
            if not is_in_pieces:
                check_size(place.nbytes, self.facts.binding)
            lies = place.source if isinstance(place, Fetch) else place
            if isinstance(lies, Resident) and lies.device is not self:
                raise BackendClosed("this array lies on another device, or on one that is gone", backend="gpu")

    def _compile(self, kernel: Kernel, work: Work, pipelines: Pipelines) -> None:
        if kernel in self._hopeless:
            raise LimitExceeded(f"the driver was given up over the shader of {kernel.name} before", backend="gpu")
        self._compiling = kernel
        try:
            with self._progress.doing(f"compile {kernel.name}", [work]):
                pipelines.compile(kernel)
        finally:
            self._compiling = None

    def _launch(self, works: list[Work], *, again: bool = False) -> None:
        """Have the device begin with them, in a frame; a free one, or that of what it was given first."""
        while self.is_busy and (not self._free or self._are_alone(works)):
            self._finish()
        if self._is_done:
            return
        frame = self._free.popleft()
        try:
            with self._progress.doing("begin with it", works, alone=False):
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
            self._progress.launch(frame, works)

    def _are_alone(self, works: Sequence[Work]) -> bool:
        """Whether nothing may be with the device beside them, or beside what it is at: one of them is suspected."""
        first = self._progress.first
        beside = (*works, *(first.works if first is not None else ()))
        return any(work.suspects is not None for work in beside)

    def _not_begun(self, works: list[Work], error: Exception) -> None:
        """Tell who waits for them; of several it was one, and the others shall not suffer for it."""
        ours = translated(error)
        if isinstance(ours, DeviceLost):
            self._why = self._why or ours
        elif len(works) > 1:
            for work in works:
                self._launch([work])
        elif isinstance(ours, LimitExceeded) and works[0].split is not None:
            self._launch_apart(works[0], works[0].split())
        elif self._progress.take(works[0]):
            works[0].reply.failed(ours, started=False)

    def _launch_apart(self, work: Work, parts: list[Work]) -> None:
        """There is no room for all of its calls together."""
        if self._progress.replace(work, parts):
            for part in parts:
                self._launch([part])

    def _make_room(self) -> None:
        """Give up all that is kept only to be quick, when what is under way is done."""
        while self.is_busy:
            self._finish()
        self._rest()

    def _finish(self) -> None:
        """Wait for what the device was given first."""
        launched = self._progress.first
        if launched is None:  # it was given up, a moment ago
            return
        try:
            results = launched.frame.finish() if self._why is None else []
        except Exception as error:
            self._has_failed(self._progress.end(), translated(error))
        else:
            self._has_ended(self._progress.end(), results)
        self._free.append(launched.frame)

    def _has_ended(self, works: Sequence[Work], results: Sequence[Sequence[Any]]) -> None:
        if self._why is not None:  # since then nothing is done any more
            self._going_on += works
            return
        self.has_worked = True
        for work, result in zip(works, results, strict=False):  # without works if it was given up
            work.reply.done([self._array(each) if isinstance(each, Kept) else each for each in result])

    def _has_failed(self, works: Sequence[Work], error: Exception) -> None:
        if isinstance(error, DeviceLost):
            self._why = error
            self._going_on += blame(works, error)
        else:
            for work in works:
                work.reply.failed(error, started=True)

    def _array(self, place: Kept) -> GpuArray:
        from hybrid_compute.gpu.array import GpuArray

        return GpuArray(self, place.buffer, place.shape, place.dtype, place.nbytes)

    def _end(self, opened: Opened) -> None:
        """Finish what was begun, if that is still possible, and leave the rest to who comes next."""
        while self.is_busy:
            self._finish()
        # First there is a successor, and then nothing comes in here any more: nobody comes between the two.
        take = self._gone(self) if self._why is not None and self._gone is not None else self.refuse
        waiting = self._progress.give_up()
        self.lost = self.lost or str(self._why or "its thread has failed")
        left = [*self._going_on, *(waiting.others if waiting is not None else ())]
        take(acquitted(left, self._why) if self._why is not None else left)
        for frame in self._free:
            frame.drop()
        opened.wgpu.destroy()


_devices: weakref.WeakSet[Device] = weakref.WeakSet()


def _leave() -> None:
    """A forked child has the thread of no device."""
    for device in list(_devices):
        device.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave)
