"""What all the verbs of one runtime share: its places, rules, hooks and measurements."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from hybrid_compute.backends.base import Backend, LimitOfRule
from hybrid_compute.backends.local import LocalBackend
from hybrid_compute.calls import Call
from hybrid_compute.clock import Clock
from hybrid_compute.errors import BackendClosed, BackendError, NoBackendAvailable, PolicyRefused
from hybrid_compute.events import CallFinished, CallStarted, Hooks
from hybrid_compute.links.codec import OF_THE_TASK, failure_of
from hybrid_compute.policy import Policy, private_stays_here
from hybrid_compute.reporting import asker
from hybrid_compute.routing import Route
from hybrid_compute.tasks import AnyTask, TaskRegistry, as_task
from hybrid_compute.timings import LEAVING, Profile, Timings

YIELD_AFTER = 1e-3
"""Seconds that calls in the event loop may take in a row before everybody else gets a turn."""


class Core:
    """What all the verbs of one runtime share."""

    def __init__(
        self,
        backends: Sequence[Backend],
        registry: TaskRegistry,
        policies: Sequence[Policy],
        hooks: Hooks,
        clock: Clock,
    ) -> None:
        names = [backend.name for backend in backends]
        if len(set(names)) != len(names):
            raise ValueError(f"every backend needs a name of its own, but these were given: {', '.join(names)}")
        self.backends = tuple(backends)
        self.registry = registry
        self.policies = (private_stays_here, *policies)
        self.fixed_rules = not policies
        self.hooks = hooks
        self.clock = clock
        self.timings = Timings()
        self.inline = next((each for each in backends if isinstance(each, LocalBackend)), None)
        self.closed = False
        self.in_a_row = 0.0

    def check_open(self) -> None:
        """Raise `BackendClosed` if the runtime was closed."""
        if self.closed:
            raise BackendClosed("this runtime is closed: make a new one")

    def find(self, task: Callable[..., Any] | str) -> AnyTask:
        return self.registry[task] if isinstance(task, str) else as_task(task)

    def refuse(self, task: AnyTask, decided: Route) -> Exception:
        if decided.forbidden:
            return PolicyRefused(f"no place may run {task.name!r}: {decided.error}", refusals=decided.refusals)
        asked = decided.error or "the strategy named no place"
        return NoBackendAvailable(f"no backend can run {task.name!r}: {asked}", refusals=decided.refusals)

    def forbids(self, error: BackendError) -> bool:
        """Whether a place that failed with `error` was bound by one of our policies."""
        return isinstance(error, LimitOfRule) and error.rule in self.policies

    async def run_inline(self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], profile: Profile) -> Any:
        """Run a task that is known to be quick right here, and keep an eye on it."""
        try:
            return self.run_now(task, args, kwargs, profile)
        finally:
            if self.in_a_row > YIELD_AFTER:
                self.in_a_row = 0.0
                await asyncio.sleep(0)

    def run_now(self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], profile: Profile) -> Any:
        """The same for who gives the event loop its turns: each call adds to what they took `in_a_row`."""
        self.check_open()
        if self.hooks:
            return self._run_watched(task, args, kwargs, profile)
        assert self.inline is not None
        tally = self.timings.tasks[task].tally(self.inline.name)
        began = perf_counter()
        try:
            return task.fn(*args, **kwargs)
        except (*OF_THE_TASK, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # typed by somebody
            tally.failed += 1
            raise failure_of(error, task.name) from error
        finally:
            took = perf_counter() - began
            if took > profile.limit:
                profile.slow(took)
            tally.calls += 1
            self.in_a_row += took + 1e-6

    def _run_watched(self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], profile: Profile) -> Any:
        """The same, told to the hooks."""
        assert self.inline is not None
        call = Call(task, args, kwargs)
        call.listener = asker()
        self.hooks.emit(CallStarted(call.number, task.name, self.inline.name))
        began = perf_counter()
        failure: BaseException | None = None
        try:
            return self.inline.run_now(call)
        except BaseException as error:
            failure = error
            raise
        finally:
            seconds = perf_counter() - began
            if seconds > profile.limit + LEAVING:
                profile.slow(seconds)
            self.note(call, self.inline, seconds, failure)

    def note(self, call: Call, backend: Backend, seconds: float, error: BaseException | None, count: int = 1) -> None:
        """Count a finished call and tell the hooks."""
        tally = self.timings.tasks[call.task].tally(backend.name)
        tally.calls += count
        tally.sent += call.sent
        tally.received += call.received
        if error is not None:
            tally.failed += 1
        if self.hooks:
            self.hooks.emit(
                CallFinished(
                    call.number, call.task.name, backend.name, seconds, call.ran, call.sent, call.received, error
                )
            )
