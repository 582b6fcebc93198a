"""The sandbox: threads that run guests of WebAssembly, and stop them when their time is up or nobody waits any more."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, perf_counter
from typing import Any

from hybrid_compute.backends.base import Backend
from hybrid_compute.calls import Call
from hybrid_compute.errors import BackendClosed, BackendError, BackendUnavailable, HybridComputeError
from hybrid_compute.links.codec import OF_THE_TASK, failure_of
from hybrid_compute.links.threads import Threads
from hybrid_compute.tasks import AnyTask, PerTask
from hybrid_compute.wasm.contained import Contained
from hybrid_compute.wasm.leash import Leash
from hybrid_compute.wasm.trap import Trap

_STACK = 8 << 20
_NONE: dict[str, Any] = {}
SHORT = 50e-6
"""Seconds. A call that takes no longer runs in the event loop: to wake a thread would take as long again."""
PATIENCE = 0.002
"""Seconds that a call may run in the event loop. One that takes longer is begun anew in a thread."""
ENOUGH = 16
"""So many calls must have been short before one runs in the event loop."""
QUICK = 0.005
"""Seconds. A call that takes no longer does not wait behind those that do."""
PIECE = 64
"""So many inputs of a batch are given to a thread at once."""


class WasmBackend(Backend):
    """Runs tasks of WebAssembly modules, and sandboxed Python, in `threads` threads; the interpreter lock is free then.

    A call that exceeds one of its limits raises `LimitExceeded`, a trap is a `TaskFailed` whose cause is a
    `wasm.Trap`. When a call's time is up, or it is cancelled, or the place is closed, its guest is stopped within
    milliseconds.

    Calls that take milliseconds do not wait behind longer ones: there is one thread more, for them alone. Tasks that
    take a few microseconds each time run in the event loop, if they touch nothing outside their sandbox:
    should one of them take longer all the same, it is stopped and begun anew in a thread, and never trusted again.
    """

    name = "wasm"
    rank = -1  # it takes nothing but what was made for it
    provides = frozenset({"cpu", "wasm"})
    isolates = True
    batches = True

    def __init__(self, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        count = threads if threads is not None else max(2, os.cpu_count() or 1)
        self._threads = Threads(count, stack=_STACK, name="hybrid-compute-wasm")
        self._spare = Threads(1, stack=_STACK, name="hybrid-compute-wasm-spare")  # for the quick, when all are busy
        self._seen: PerTask[_Seen] = PerTask(_Seen)
        self._leashes: set[Leash] = set()

    def can_run(self, task: AnyTask, /) -> bool:
        return isinstance(task.fn, Contained)

    def why_not(self, task: AnyTask, /) -> str:
        return "it runs only tasks of WASM modules, and Python of `@task(sandbox=True)`"

    async def start(self) -> None:
        try:
            importlib.import_module("wasmtime")  # to say so now, not at the first call
        except ImportError as error:
            raise BackendUnavailable(
                f"the wasm backend needs wasmtime, which is not there ({error}): pip install 'hybrid-compute[wasm]'",
                backend=self.name,
            ) from error

    async def aclose(self) -> None:
        await super().aclose()
        for leash in list(self._leashes):
            leash.stop(BackendClosed(self._is_closed, backend=self.name, started=True))
        self._threads.close()
        self._spare.close()

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        return await self.run_call(Call(task, args, kwargs))

    async def run_call(self, call: Call, /) -> Any:
        self.check_open()
        if self.time_left(call) == 0:
            raise self.too_late(call)
        seen = self._seen[call.task]
        if seen.is_short:
            try:
                return self._run_here(call, seen)
            except _TooLong:
                seen.trusted = False
        threads = self._spare if seen.is_quick and self._threads.busy else self._threads
        seen.begun += 1
        return await self._in_thread(call, lambda leash: self._run(call, leash, seen), threads)

    async def run_batch(self, call: Call, inputs: Sequence[tuple[Any, ...]], limit: int | None, /) -> list[Any]:
        self.check_open()
        room = asyncio.Semaphore(min(limit or self._threads.count, self._threads.count))

        def results(leash: Leash, some: Sequence[tuple[Any, ...]]) -> list[Any]:
            return [self._result(call.task, leash, args) for args in some]

        async def in_turn(some: Sequence[tuple[Any, ...]]) -> list[Any]:
            async with room:
                return list(await self._in_thread(call, lambda leash: results(leash, some), self._threads))

        pieces = [asyncio.ensure_future(in_turn(inputs[at : at + PIECE])) for at in range(0, len(inputs), PIECE)]
        try:
            return [result for piece in pieces for result in await piece]
        finally:
            for piece in pieces:
                piece.cancel()

    # Where a call runs.

    def _run_here(self, call: Call, seen: _Seen) -> Any:
        leash = Leash()
        leash.limit(monotonic() + PATIENCE, _TooLong)
        try:
            return self._run(call, leash, seen)
        finally:
            if call.ran is not None and call.ran > PATIENCE:  # with its arguments and its result, which no leash ends
                seen.trusted = False

    async def _in_thread(self, call: Call, work: Callable[[Leash], Any], threads: Threads) -> Any:
        leash = Leash()
        self._leashes.add(leash)
        timer = None
        if call.deadline is not None:
            timer = self.clock.call_at(call.deadline, lambda: leash.stop(self.too_late(call)))
        try:
            return await threads.run(lambda: work(leash))
        except asyncio.CancelledError:
            leash.stop(asyncio.CancelledError())
            raise
        finally:
            self._leashes.discard(leash)
            if timer is not None:
                timer.cancel()

    def _run(self, call: Call, leash: Leash, seen: _Seen) -> Any:
        was_ready, began = _contained(call.task).is_ready, perf_counter()
        try:
            return self._result(call.task, leash, call.args, call.kwargs)
        finally:
            call.ran = perf_counter() - began
            if was_ready:
                seen.add(call.ran)
            else:  # to compile took most of it, which says nothing of the next
                seen.begun -= 1

    def _result(self, task: AnyTask, leash: Leash, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NONE) -> Any:
        """What the guest gives. What it raises is one of our errors."""
        try:
            return _contained(task).run(leash, args, kwargs)
        except BackendError as error:
            error.backend = self.name
            raise
        except HybridComputeError:
            raise
        except Trap as trap:
            raise trap.as_failure(task.name) from trap
        except OF_THE_TASK as error:
            raise failure_of(error, task.name) from error


def _contained(task: AnyTask) -> Contained:
    return task.fn  # type: ignore[return-value]  # it can run nothing else


class _TooLong(BaseException):
    """A call that was begun in the event loop is not as short as those before it."""


class _Seen:
    """What has been seen of a task: whether its calls are short, and may be trusted to be."""

    def __init__(self, task: AnyTask) -> None:
        self.trusted = isinstance(task.fn, Contained) and task.fn.restartable
        self.begun = self.calls = 0
        self.mean = 0.0

    def add(self, seconds: float) -> None:
        self.calls += 1
        self.mean += (seconds - self.mean) / min(self.calls, ENOUGH)

    @property
    def is_quick(self) -> bool:
        """Whether it may pass those that wait; one call may before anything is known."""
        return self.mean <= QUICK if self.calls else not self.begun

    @property
    def is_short(self) -> bool:
        """Whether it may run in the event loop."""
        return self.trusted and self.calls >= ENOUGH and self.mean <= SHORT
