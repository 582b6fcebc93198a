"""An engine that lives in a worker: what is dispatched goes there in order, and its outcome comes back in order.

    do ──> sent ──> done: into the log, told, answered
             │
             ├── the worker has gone, or was stopped, and the state with it ──> held ──> sent again, if it had not begun
             │                                              a new worker ──> snapshot, log ──┘
             └── the worker could not be started ──> the engine is here from the beginning

The log is kept on this side: what is in it was done, and what is not will not have been.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pickle import loads
from typing import Any, Final, Protocol, TypeAlias

from hybrid_compute.engine import host
from hybrid_compute.engine.carrier import Carrier, Line
from hybrid_compute.engine.core import Done, Failed, Outcome, Plan
from hybrid_compute.engine.host import Brief, Logged
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.turn import Told
from hybrid_compute.engine.watchers import Watcher
from hybrid_compute.errors import (
    BackendClosed,
    BackendError,
    EngineError,
    EngineStopped,
    HybridComputeError,
    LimitExceeded,
    NotTransferable,
    TaskTimeout,
    WorkerLost,
)
from hybrid_compute.links.codec import READING_FAILED
from hybrid_compute.links.ticket import Ticket
from hybrid_compute.tasks import AnyTask

_SNAPSHOT_AFTER: Final = 1000
"""Entries in the log, and at least as many as the snapshot has, after which a new one is taken."""


Fail: TypeAlias = Callable[[HybridComputeError], None]


class Side(Protocol):
    """What an engine does with what comes from its worker."""

    def tell(self, told: Iterable[Told]) -> None: ...

    def stopped(self, error: HybridComputeError) -> None:
        """The state is gone for good."""
        ...


@dataclass(eq=False, slots=True)
class Pending:
    """One message to the worker, and who waits for its outcome."""

    home: There
    number: int
    call: tuple[AnyTask, tuple[Any, ...]]
    timeout: float | None
    settle: Callable[[Any], None]
    fail: Fail
    over: bool = False
    life: int = 0
    """Which life of the engine it was sent to: it has another one after each recovery."""
    ticket: Ticket | None = None
    line: Line | None = None

    @property
    def begins(self) -> bool:
        """Whether this is what makes the engine."""
        return self.call[0] is host.begin

    def wait_here(self) -> None:
        """Wait a moment for the answer, if the event loop would only wait as well."""
        if self.line is not None and self.ticket is not None and not self.over:
            self.line.wait_here(self.ticket)

    # As the pool sees it.

    def done(self) -> bool:
        return self.over

    def cancel(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        self.over = True
        if result is None or self.life != self.home.life:
            self.home.lost(self)
        else:
            try:
                self.settle(result)
            except NotTransferable as error:
                self.home.failed(self, error)

    def set_exception(self, exception: BaseException, /) -> None:
        self.over = True
        assert isinstance(exception, HybridComputeError)
        self.home.failed(self, exception)


class There:
    """The worker that the engine of this name lives in, as it is now."""

    def __init__(
        self, name: str, plan: Plan, options: WorkerOptions, workers: Carrier, side: Side, now: Callable[[], int]
    ) -> None:
        self._name = name
        self._plan = plan
        self._options = options
        self._workers = workers
        self._side = side
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._held: list[Pending] | None = None  # while the state is being brought back
        self._dead: EngineStopped | None = None
        self._wanted: frozenset[str] = frozenset()
        self._watchers: dict[str, Watcher] = {}
        self._snapshot: bytes | None = None
        self._in_snapshot = 0
        self._log: list[Logged] = []
        self._taking_snapshot = False
        self._deaths = 0
        self.life = 0

    def begin(self, wanted: frozenset[str], settle: Callable[[None], None], fail: Fail) -> None:
        """Have the engine made, which tells events of these types.

        `fail` is told if the worker cannot be started, or its first actions fail.
        """
        self._wanted = wanted

        def began(entries: list[Logged]) -> None:
            self._deaths = self._workers.stats().lost
            self._log += entries
            settle(None)

        self._send(host.begin, self._beginning(), began, fail)

    def _beginning(self) -> tuple[Any, ...]:
        watchers = list(self._watchers.values())
        return (self._name, self._plan, self._now(), self._wanted, watchers, self._snapshot, self._log)

    # Doing.

    def do(self, packed: bytes, settle: Callable[[Outcome], None], fail: Fail) -> Pending:
        """Send one action. `settle` gets its outcome, or `fail` why there is none."""

        def done(reply: bytes) -> None:
            settle(self._keep(packed, _read(reply)))

        return self._send(host.do, (self._name, packed), done, fail, self._options.timeout)

    def do_many(
        self,
        packed: Sequence[bytes],
        atomic: bool,
        settle: Callable[[list[Outcome]], None],
        fail: Fail,
    ) -> None:
        """Send several in one message, which has the time of all of them."""

        def done(reply: bytes) -> None:
            settle([self._keep(*each) for each in zip(packed, _read(reply), strict=False)])

        timeout = None if self._options.timeout is None else self._options.timeout * len(packed)
        self._send(host.do_many, (self._name, list(packed), atomic), done, fail, timeout)

    def ask(self, verb: str, *args: Any, settle: Callable[[Any], None], fail: Fail) -> None:
        """Send a question to the core."""
        self._ask(host.ask, (self._name, verb, *args), lambda answer: settle(answer[0]), fail)

    def go_back(self, verb: str, *args: Any, settle: Callable[[Any], None], fail: Fail) -> None:
        """The same for what does not only add to the log: from here on the log begins with the state after it."""

        def gone_back(answer: tuple[Any, bytes, int]) -> None:
            self._begin_log_with(answer[1], answer[2])
            settle(answer[0])

        self._ask(host.go_back, (self._name, verb, *args), gone_back, fail)

    def _ask(self, task: AnyTask, args: tuple[Any, ...], settle: Callable[[Any], None], fail: Fail) -> None:
        def answered(answer: Any) -> None:
            fail(answer) if isinstance(answer, EngineError | NotTransferable) else settle(answer)

        self._send(task, args, answered, fail)

    def _keep(self, packed: bytes, brief: Brief) -> Outcome:
        """Log what was done, and tell of it; the outcome, as the caller needs it."""
        well, value, entries, told = brief
        if isinstance(entries, int):
            self._log.append((entries, packed))
        else:
            self._log += entries
        if told:
            self._side.tell(told)
        if len(self._log) > max(_SNAPSHOT_AFTER, self._in_snapshot) and not self._taking_snapshot:
            self._take_snapshot()
        return Done(value, [], told) if well else Failed(value, [], told)

    def _take_snapshot(self) -> None:
        """Have the log begin anew. All that was done before comes before this in line, and is in the log by then."""
        self._taking_snapshot = True

        def taken(snapshot: bytes) -> None:
            self._taking_snapshot = False
            self._begin_log_with(snapshot, self._in_snapshot + len(self._log))

        def not_taken(_: HybridComputeError) -> None:
            self._taking_snapshot = False

        self.ask("snapshot", settle=taken, fail=not_taken)

    def _begin_log_with(self, snapshot: bytes, length: int) -> None:
        self._snapshot, self._in_snapshot = snapshot, length
        self._log.clear()

    def listen(self, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        if self._dead is None:
            self.ask("listen", wanted, settle=_nothing, fail=_nothing)

    def watch(self, watcher: Watcher) -> None:
        self._watchers[watcher.name] = watcher
        self.ask("watch", watcher, settle=_nothing, fail=_nothing)

    def unwatch(self, name: str) -> None:
        self._watchers.pop(name, None)
        self.ask("unwatch", name, settle=_nothing, fail=_nothing)

    # Messages.

    def _send(
        self,
        task: AnyTask,
        args: tuple[Any, ...],
        settle: Callable[[Any], None],
        fail: Fail,
        timeout: float | None = None,
    ) -> Pending:
        self._number += 1
        pending = Pending(self, self._number, (task, args), timeout, settle, fail)
        self._put(pending)
        return pending

    def _put(self, pending: Pending) -> None:
        if self._dead is not None:
            pending.fail(self._dead)
        elif self._held is not None and not pending.begins:
            self._held.append(pending)
        else:
            self._go(pending)

    def _go(self, pending: Pending) -> None:
        pending.over, pending.life = False, self.life
        ticket = pending.ticket = Ticket(*pending.call)
        if pending.timeout is not None:
            ticket.timeout = pending.timeout
            ticket.deadline = self._workers.clock.time() + pending.timeout
        try:
            pending.line = self._workers.begin(ticket, pending, self._loop)
            if pending.line is None:
                raise LimitExceeded("too much waits for the worker of this engine already", backend="worker")
        except HybridComputeError as error:
            pending.over = True
            self.failed(pending, error)

    # When the worker goes, and the state with it.

    def lost(self, pending: Pending) -> None:
        """The engine does not live where this was sent: its worker has gone, or its state was brought back since."""
        if self._held is None and pending.life == self.life:
            if self._workers.stats().lost == self._deaths:
                self._recover("its worker was stopped")  # by a timeout of another engine in it, say
            elif self._options.durable:
                self._recover("its worker died")
            else:
                return self._perish(pending)
        self._put(pending)

    def _perish(self, pending: Pending) -> None:
        error = WorkerLost("the worker died, and the state of the engine with it: durable=True would keep it")
        self._die(error)
        pending.fail(error)

    def failed(self, pending: Pending, error: HybridComputeError) -> None:
        """There is no answer to this one."""
        if isinstance(error, BackendClosed):
            self._die(error)
        error = self._dead or error
        gone = isinstance(error, TaskTimeout | NotTransferable) or (isinstance(error, BackendError) and error.started)
        if pending.begins:
            self._die(error)
        elif gone and self._dead is None and self._held is None:
            if isinstance(error, TaskTimeout):
                self._recover(f"{error}")
            elif isinstance(error, NotTransferable):
                self._recover(f"it has done what cannot be told here: {error}")
            elif self._options.durable:
                self._recover(f"its worker died: {error}")
            else:
                self._die(error)
        pending.fail(error)

    def _recover(self, reason: str) -> None:
        """Bring the state back in another worker; what is dispatched meanwhile waits."""
        self._held = []
        self.life += 1

        def back(_: object) -> None:
            held, self._held = self._held or [], None
            self._deaths = self._workers.stats().lost
            told = Told("engine:recovered", {"reason": reason, "entries": self._in_snapshot + len(self._log)}, "engine")
            self._side.tell([told])
            for pending in sorted(held, key=lambda each: each.number):
                self._put(pending)

        self._send(host.begin, self._beginning(), back, self._die)

    def _die(self, error: HybridComputeError) -> None:
        if self._dead is None:
            self.kill(EngineStopped(f"the engine has stopped, because its worker was lost with the state: {error}"))
            self._side.stopped(error)

    def end(self, settle: Callable[[Any], None], fail: Fail) -> None:
        """Forget the engine there, after all that was dispatched before."""
        self._send(host.end, (self._name,), settle, fail)

    def kill(self, error: EngineStopped) -> None:
        """Take nothing more, and answer what is held."""
        self._dead = self._dead or error
        held, self._held = self._held or [], None
        for pending in held:
            pending.fail(self._dead)


def _read(reply: bytes) -> Any:
    """What a worker has written. Raises `NotTransferable`: it was done there, and is not known here."""
    try:
        return loads(reply)
    except READING_FAILED as error:
        raise NotTransferable(f"what the action gave cannot be read here: {type(error).__name__}: {error}") from error


def _nothing(_: object) -> None:
    pass
