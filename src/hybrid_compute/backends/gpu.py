"""The gpu: tasks that are shaders, computed by one device that one thread owns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendClosed, BackendError, BackendUnavailable, LimitExceeded
from hybrid_compute.gpu.blame import acquitted, blame
from hybrid_compute.gpu.computable import Computable
from hybrid_compute.gpu.desk import Desk
from hybrid_compute.gpu.device import Device, Taker
from hybrid_compute.gpu.progress import PATIENCE
from hybrid_compute.gpu.replies import Answer, Asked, Batch, refuse
from hybrid_compute.gpu.watch import Watch
from hybrid_compute.gpu.work import Work
from hybrid_compute.tasks import AnyTask

if TYPE_CHECKING:
    from hybrid_compute.gpu.array import GpuArray
    from hybrid_compute.gpu.facts import Facts
    from hybrid_compute.gpu.recording import Recording

SOFTWARE = 8
"""The rank of an adapter in software: after all that computes on a processor without a detour."""
STILLBORN = 3
"""So many devices in a row may be lost before they have done anything. Then there is something wrong with the gpu."""
STUCK = 8
"""So many devices that were given up may still be at it. Each has a thread, and a part of the gpu."""
IDLE = 30.0
"""Seconds without calls after which a device gives memory back that it keeps only to be quick."""

CLOSING = 10.0
"""Seconds that a device has, when it is closed, to finish what it is at."""


class GpuBackend(Backend):
    """Runs tasks of `@gpu_task` on the best gpu there is, or on one whose name or api contains `adapter`.

    Calls that come in the same turn of the event loop, or while the device is busy, go to it together; those of a
    `batchable` task as one. `memory` is how many bytes of the device may be used, and `time_limit` how many seconds a
    call may take there, or a playing of a recording: beyond them it raises `LimitExceeded`. Those that go together have
    that time for each of them, for sixteen at most. A device that takes longer, or is lost, is opened again. Calls that
    had not begun go on there, and so do those that were with it together, one at a time, until it is found which of
    them it was.

    Nothing larger than the device takes goes to it: of calls that are joined, as many as fit, and a single array that
    does not fit raises `LimitExceeded`. `limits` are lower ones than the device has, by their names in WebGPU:
    `{"max-storage-buffer-binding-size": 1 << 20}` shows how a program fares on a smaller one. `start` raises
    `ValueError` for a name that there is not.

    Where there is no gpu, it refuses its tasks with the reason, and they run elsewhere. `auto` does not take an adapter
    in software either as long as there is another place: that is for tests.
    """

    name = "gpu"
    rank = -1
    provides = frozenset({"gpu"})
    batches = True

    def __init__(
        self,
        adapter: str | None = None,
        *,
        memory: int = 1 << 30,
        time_limit: float = 10.0,
        limits: Mapping[str, int] | None = None,
        name: str = "gpu",
    ) -> None:
        if not memory > 0:
            raise ValueError(f"memory must be a positive number of bytes, not {memory!r}")
        if not time_limit > 0:
            raise ValueError(f"time_limit must be a positive number of seconds, not {time_limit!r}")
        self.name = name
        self.time_limit = time_limit
        self._adapter = adapter
        self._memory = memory
        self._limits = limits
        self._device: Device | None = None
        self._known: Facts | None = None
        self._lock = threading.Lock()
        self._opened: Future[None] = Future()
        self._desks: dict[asyncio.AbstractEventLoop, Desk] = {}
        self._watch = Watch(self._look, f"hybrid-compute-{name}-watch")
        self._used_at = 0.0
        self._stillborn = 0
        self._stuck: list[Device] = []

    @property
    def device(self) -> Device:
        """The device. Raises `BackendUnavailable` if there is none."""
        if self._device is None or self._known is None or self._device.lost:
            raise BackendUnavailable(f"backend {self.name!r} has no gpu: {self._reason}", backend=self.name)
        return self._device

    @property
    def _reason(self) -> str:
        lost = self._device.lost if self._device is not None else "it was not started"
        return lost or "it was not started to the end"

    def can_run(self, task: AnyTask, /) -> bool:
        return not self.why_not(task)

    def why_not(self, task: AnyTask, /) -> str:
        if not isinstance(task.fn, Computable):
            return "it runs only what @gpu_task made"
        if self._device is None or self._device.lost:
            return self._reason
        missing = task.fn.lacks(self._known) if self._known is not None else ""
        return f"its shader needs {missing}, and {self._device.adapter} has not" if missing else ""

    @property
    def _facts(self) -> Facts:
        """Those of the device; of the first, while another is opened in its place."""
        assert self._known is not None
        return self._known

    async def start(self) -> None:
        if self._device is None:
            self._opened = self._open()
            self._given()
        with suppress(BackendUnavailable):  # the device knows why, and says so whenever it is asked for something
            await asyncio.shield(asyncio.wrap_future(self._opened))
        facts = self._device.facts if self._device is not None else None
        if self._known is None and facts is not None:
            self._known = facts
            self.rank = SOFTWARE if facts.software else self.rank

    async def aclose(self) -> None:
        await super().aclose()
        self._watch.end()
        for desk in list(self._desks.values()):
            desk.box.post(desk.refuse, BackendClosed(self._is_closed, backend=self.name, started=True))
        with self._lock:  # a device that is about to be replaced is so before this, or not at all
            device = self._device
        if device is not None:
            await self._end(device)

    async def _end(self, device: Device) -> None:
        """Close it. Who waits for what it does not come to an end with is told so."""
        device.close()
        try:
            if not device.is_given_up:
                await asyncio.to_thread(device.join, CLOSING)
        finally:
            if not device.join(0):
                left = device.give_up()
                device.say_lost(self._is_closed)
                for work in left.guilty if left is not None else ():
                    work.reply.failed(BackendClosed(self._is_closed, backend=self.name), started=True)
                device.refuse(left.others if left is not None else ())

    async def to_device(self, array: Any) -> GpuArray:
        """A copy of the array on the device, to be given to tasks of it. It may be of any memory of this process."""
        from hybrid_compute.gpu.calls import upload

        self.check_open()
        self.device  # noqa: B018  # there must be one
        asked = Asked((), self._desk().box)
        self._submit([upload(array, asked)])
        kept: GpuArray = await asked.answer
        return kept

    def record(self) -> Recording:
        """A block in which tasks are not computed but written down, to be done in one go as often as you like.

        >>> with place.record() as g:
        ...     x = g.input("x", (1000,))
        ...     g.returns(along(along(x, 2.0), 0.5))
        >>> await g(x=array)
        """
        from hybrid_compute.gpu.recording import Recording

        self.check_open()
        self.device  # noqa: B018  # there must be one
        return Recording(self._facts, self._play)

    def _play(self, work: Work) -> None:
        self.check_open()
        self._submit([work])

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self.run_call(Call(task, args, kwargs))

    async def run_call(self, call: Call, /) -> Any:
        self.check_open()
        self.device  # noqa: B018  # there must be one
        function: Computable = call.task.fn  # type: ignore[assignment]
        desk = self._desk()
        asked = Asked(function.positional(call.args, call.kwargs), desk.box)
        desk.ask(asked, function, self._send)
        return await self._answered(call, asked.answer, desk)

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        if not inputs:
            return []
        self.check_open()
        self.device  # noqa: B018  # there must be one
        desk = self._desk()
        function: Computable = call.task.fn  # type: ignore[assignment]
        batch = Batch(len(inputs), desk.box)
        self._submit(function.works(function.all_positional(inputs), self._facts, batch.part))
        results: list[Any] = await self._answered(call, batch.answer, desk)
        return results

    async def _answered(self, call: Call, answer: Answer, desk: Desk) -> Any:
        """Wait for it, until the call's time is up or the place is closed."""
        began = perf_counter()
        timer = None
        if call.deadline is not None:
            timer = self.clock.call_at(call.deadline, lambda: refuse(answer, self.too_late(call)))
        desk.awaited.add(answer)
        try:
            return await answer
        except BackendError as error:
            error.backend = self.name
            raise
        finally:
            call.ran = perf_counter() - began
            desk.awaited.discard(answer)
            if timer is not None:
                timer.cancel()

    def _desk(self) -> Desk:
        """That of the event loop in which this is called."""
        loop = asyncio.get_running_loop()
        desk = self._desks.get(loop)
        if desk is None:
            self._desks = {each: desk for each, desk in self._desks.items() if not each.is_closed()}
            desk = self._desks[loop] = Desk(loop)
        return desk

    def _send(self, desk: Desk) -> None:
        self._submit(desk.works(self._facts))

    def _submit(self, works: Sequence[Work]) -> None:
        """Give them to the device, or to the one that takes its place just now."""
        assert self._device is not None
        if not self._device.offer(works):
            with self._lock:
                device = self._device
            device.submit(works)

    # A device that is lost, or does not come to an end, and the one that takes its place.

    def _open(self, before: Device | None = None) -> Future[None]:
        device = Device(
            self._adapter,
            memory=self._memory,
            limits=self._limits,
            before=before,
            given=self._given,
            gone=self._replace,
        )
        opened = device.open()
        self._device = device
        return opened

    def _given(self) -> None:
        """The device has something to do. In any thread."""
        self._used_at = self.clock.time()
        self._watch.begin(self._interval)

    @property
    def _interval(self) -> float:
        """Seconds after which something may be overdue."""
        return min(self.time_limit, PATIENCE)

    def _replace(self, gone: Device) -> Taker:
        """Have another device in the place of one that was lost. Who takes what that leaves; in any thread."""
        with self._lock:
            self._stuck = [device for device in self._stuck if device is not gone]
            took = self._succeed(gone) if self._device is gone and not self.closed else None
            take = took or (self._device.submit if self._device is not None else gone.refuse)
        self._given()  # outside of the lock, which somebody who is looking may wait for
        return take

    def _succeed(self, gone: Device) -> Taker:
        """Open the successor, if another is worth while."""
        self._stillborn = 0 if gone.has_worked else self._stillborn + 1
        self._stuck = [device for device in self._stuck if not device.join(0)]
        if self._stillborn > STILLBORN:
            gone.lost = f"{self._stillborn} devices in a row were lost before they had done anything"
        elif len(self._stuck) > STUCK:
            gone.lost = f"{len(self._stuck)} devices were given up, and have not come to an end since"
        else:
            try:
                self._open(gone)
                assert self._device is not None
                return self._device.submit
            except RuntimeError as error:  # there are no more threads
                gone.lost = f"another device could not be opened: {error}"
        return gone.refuse

    def _look(self) -> float | None:
        """Give a device up that has been at the same for too long. Seconds after which to look again; in any thread."""
        device = self._device
        assert device is not None
        left = device.time_left(self.time_limit)
        if left is None:
            left = self._rest(device)
        elif left <= 0:
            self._give_up(device, self.time_limit)
            left = self.time_limit
        return None if left is None else min(left, self._interval)  # it may be at something else by then

    def _rest(self, device: Device) -> float | None:
        """Have it give back what it does not need, if nothing was asked of it for long."""
        left = self._used_at + IDLE - self.clock.time()
        if left > 0:
            return left
        device.rest()
        return None

    def _give_up(self, device: Device, limit: float | None = None) -> None:
        """If it still is late: who is to blame is told so, and all others go on with another device."""
        with self._lock:  # who is not taken by this one waits for the next
            left = device.give_up(limit)
            if left is None:
                return
            take: Taker = device.refuse
            if (device.is_open or device.is_successor) and not self.closed:
                device.has_worked = device.is_open  # it was at something, and its successor may fare better
                self._stuck.append(device)
                take = self._succeed(device)
            again = ", and opened again; arrays that lay on it are gone" if self._device is not device else ""
            error = LimitExceeded(f"the gpu did not {left.why}: it was given up{again}", backend=self.name)
            device.say_lost(str(error))
        take(acquitted([*blame(left.guilty, error), *left.others], error))
