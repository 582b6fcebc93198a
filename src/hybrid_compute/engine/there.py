"""An engine that lives in a worker: what is dispatched goes there in order, and its outcome comes back in order.

    do ──> sent ──> done: into the log, told, answered
             │
             ├── the worker has gone, or was stopped, and the state with it ──> held ──> sent again, if it had not begun
             │                                              a new worker ──> backup, log ──┘
             └── the worker could not be started ──> the engine is here from the beginning

The log is kept on this side: what is in it was done, and what is not will not have been.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol
from uuid import uuid4

from hybrid_compute.engine import host
from hybrid_compute.engine.answer import Answer
from hybrid_compute.engine.carrier import Carrier
from hybrid_compute.engine.core import Done, Failed, Outcome, Plan, Request
from hybrid_compute.engine.host import Brief, Logged, pack
from hybrid_compute.engine.messages import Action, Batch, Fail, Message, Question
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.engine.turn import Told
from hybrid_compute.engine.watchers import Unwatched, Watcher
from hybrid_compute.engine.window import Collected, Window
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
from hybrid_compute.links.ticket import Ticket
from hybrid_compute.tasks import AnyTask

_BACKUP_AFTER: Final = 1000
"""Entries in the log, and at least as many as the backup has, after which a new one is taken."""


class Side(Protocol):
    """What an engine does with what comes from its worker."""

    def tell(self, told: Iterable[Told]) -> None: ...

    def stopped(self, error: HybridComputeError) -> None:
        """The state is gone for good."""
        ...


class There:
    """The worker that the engine of this name lives in, as it is now."""

    def __init__(
        self, plan: Plan, options: WorkerOptions, workers: Carrier, side: Side, now: Callable[[], int]
    ) -> None:
        self._name = uuid4().hex
        self._name_before: str | None = None
        self._plan = plan
        self._options = options
        self._workers = workers
        self._side = side
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._window: Window | None = None
        if options.batching:
            self._window = Window(self._loop, options.batch_window, options.batch_limit, self._do_collected)
        self._number = 0
        self._under_way: dict[int, Message] = {}  # what was sent, by its number
        self._held: list[Message] | None = None  # while the state is being brought back
        self._dead: EngineStopped | None = None
        self._wanted: frozenset[str] = frozenset()
        self._watchers: dict[str, Watcher] = {}
        self._backup: bytes | None = None
        self._in_backup = 0
        self._log: list[Logged] = []
        self._taking_backup = False
        self._deaths = 0

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
        return (self._name_before, self._plan, self._now(), self._wanted, watchers, self._backup, self._log)

    # Doing.

    def do(self, request: Request, answer: Answer) -> None:
        """Send one action, whose outcome goes to `answer`; with others, if there is a window for them."""
        packed = self._pack(request)
        if isinstance(packed, Failed):
            answer.settle(packed)
        elif self._window is not None:
            self._window.add(packed, answer)
        else:
            message = Action(self, packed, self._options.timeout, answer)
            self._put(message)
            if not message.over:
                answer.message = message

    def do_now(self, request: Request, answer: Answer) -> None:
        """Send one action, and wait for its outcome while the event loop does not turn; there may be none then.

        Raises `EngineError` to a listener: what it waits for comes after what is being told.
        """
        if not self._workers.can_hold:
            raise EngineError("a listener cannot wait for an engine in a worker: use dispatch_async")
        packed = self._pack(request)
        if isinstance(packed, Failed):
            return answer.settle(packed)
        self.close_window()
        message = Action(self, packed, self._options.timeout, answer)
        self._put(message)
        message.hold()

    def do_many(
        self,
        requests: Sequence[Request],
        atomic: bool,
        settle: Callable[[list[Outcome]], None],
        fail: Fail,
    ) -> None:
        """Send several in one message."""
        self.close_window()
        asked = [self._pack(each) for each in requests]
        packed = [each for each in asked if isinstance(each, bytes)]
        refused: list[Outcome] = [each for each in asked if isinstance(each, Failed)]

        def settle_all(outcomes: list[Outcome]) -> None:
            done = iter(outcomes)
            settle([each if isinstance(each, Failed) else next(done) for each in asked])

        if not refused:
            self._put(Batch(self, packed, atomic, settle, fail))
        elif atomic or not packed:
            settle(refused)
        else:
            self._put(Batch(self, packed, atomic, settle_all, fail))

    def _pack(self, request: Request) -> bytes | Failed:
        """The request as it travels, or its outcome if it cannot."""
        try:
            return pack(request)
        except NotTransferable as error:
            return Failed(error, [], [])

    def _do_collected(self, actions: Collected) -> None:
        self._put(Batch(self, actions.packed, self._options.atomic, actions.settle, actions.fail))

    def close_window(self) -> None:
        """Send what was collected: what is sent next comes after it."""
        if self._window is not None:
            self._window.close()

    def ask(self, verb: str, *args: Any, settle: Callable[[Any], None], fail: Fail) -> None:
        """Send a question to the core."""
        self._ask(host.ask, (verb, *args), lambda answer: settle(answer[0]), fail)

    def go_back(self, verb: str, *args: Any, settle: Callable[[Any], None], fail: Fail) -> None:
        """The same for what does not only add to the log: from here on the log begins with the state after it."""

        def gone_back(answer: tuple[Any, bytes, int]) -> None:
            self._begin_log_with(answer[1], answer[2])
            settle(answer[0])

        self._ask(host.go_back, (verb, *args), gone_back, fail)

    def _ask(self, task: AnyTask, args: tuple[Any, ...], settle: Callable[[Any], None], fail: Fail) -> None:
        def answered(answer: Any) -> None:
            fail(answer) if isinstance(answer, EngineError | NotTransferable) else settle(answer)

        self._send(task, args, answered, fail)

    def keep(self, packed: bytes, brief: Brief) -> Outcome:
        """Log what was done, and tell of it; the outcome, as the caller needs it."""
        well, value, entries, told = brief
        if isinstance(entries, int):
            self._log.append((entries, packed))
        else:
            self._log += entries
        if told:
            for each in told:
                if isinstance(each, Unwatched):
                    self._watchers.pop(each.payload["name"], None)
            self._side.tell(told)
        if len(self._log) > max(_BACKUP_AFTER, self._in_backup) and not self._taking_backup:
            self._take_backup()
        return Done(value, [], told) if well else Failed(value, [], told)

    def _take_backup(self) -> None:
        """Have the log begin anew. All that was done before comes before this in line, and is in the log by then."""
        self._taking_backup = True

        def taken(backup: bytes) -> None:
            self._taking_backup = False
            self._begin_log_with(backup, self._in_backup + len(self._log))

        def not_taken(_: HybridComputeError) -> None:
            self._taking_backup = False

        self.ask("backup", settle=taken, fail=not_taken)

    def _begin_log_with(self, backup: bytes, length: int) -> None:
        self._backup, self._in_backup = backup, length
        self._log.clear()

    def listen(self, wanted: frozenset[str]) -> None:
        """From now on have events of these types told."""
        self._wanted = wanted

        def failed(error: HybridComputeError) -> None:
            if self._dead is None:
                what = {"action": None, "phase": "listen", "error": str(error)}
                self._side.tell([Told("engine:error", what, "engine")])

        if self._dead is None:
            self.ask("listen", wanted, settle=_nothing, fail=failed)

    def watch(self, watcher: Watcher, settle: Callable[[None], None], fail: Fail) -> None:
        """Have the watcher look on there, and wherever the engine goes on."""

        def watching(_: None) -> None:
            self._watchers[watcher.name] = watcher
            settle(None)

        self.ask("watch", watcher, settle=watching, fail=fail)

    def unwatch(self, name: str, settle: Callable[[None], None], fail: Fail) -> None:
        """Have it look on no more."""

        def gone(_: None) -> None:
            self._watchers.pop(name, None)
            settle(None)

        self.ask("unwatch", name, settle=gone, fail=fail)

    # Messages.

    def _send(
        self,
        task: AnyTask,
        args: tuple[Any, ...],
        settle: Callable[[Any], None],
        fail: Fail,
    ) -> None:
        self.close_window()
        self._put(Question(self, task, args, settle, fail))

    def count(self) -> int:
        """The number of the next message."""
        self._number += 1
        return self._number

    def _put(self, message: Message) -> None:
        if self._dead is not None:
            message.fail(self._dead)
        elif self._held is not None and not message.begins:
            self._held.append(message)
        else:
            self._go(message)

    def _go(self, message: Message) -> None:
        ticket = message.ticket = Ticket(message.task, (self._name, *message.args))
        if message.timeout is not None:
            ticket.timeout = message.timeout
            ticket.deadline = self._workers.clock.time() + message.timeout
        try:
            message.line = self._workers.begin(ticket, message, self._loop)
            if message.line is None:
                raise LimitExceeded("too much waits for the worker of this engine already", backend="worker")
        except HybridComputeError as error:
            message.over = True
            self.failed(message, error)
            return
        self._under_way[message.number] = message
        if isinstance(message, Batch) and self._options.timeout is not None:
            message.seen = 1
            self._look_later(message, self._options.timeout)

    def answered(self, message: Message) -> None:
        """It is under way no more."""
        self._under_way.pop(message.number, None)

    def _look_later(self, batch: Batch, seconds: float) -> None:
        clock = self._workers.clock
        batch.timer = clock.call_at(clock.time() + seconds, partial(self._look_after, batch, seconds))

    def _look_after(self, batch: Batch, seconds: float) -> None:
        """The time of one action has passed: the worker should have come further, or have begun."""
        if batch.over:
            return
        come_to = batch.look()
        if come_to in (0, batch.seen):
            assert batch.line is not None
            batch.seen = come_to
            batch.line.expire(batch.ticket, seconds)
        else:
            batch.seen = come_to
            self._look_later(batch, seconds)

    # When the worker goes, and the state with it.

    def lost(self, message: Message) -> None:
        """The engine does not live where this was sent: its worker has gone."""
        if self._held is None and self._dead is None:
            if self._workers.stats().lost == self._deaths:
                self._recover("its worker was stopped")  # by a timeout of another engine in it, say
            elif self._options.durable:
                self._recover("its worker died")
            else:
                error = WorkerLost("the worker died, and the state of the engine with it: durable=True would keep it")
                self._die(error)
                return message.fail(error)
        self._put(message.again())

    def failed(self, message: Message, error: HybridComputeError) -> None:
        """There is no answer to this one."""
        if isinstance(error, BackendClosed):
            self._die(error)
        error = self._dead or error
        culprit = isinstance(message, Batch) and message.find(error)
        message.explain(error)
        sent = message.line is not None
        started = not isinstance(error, BackendError | TaskTimeout) or error.started
        gone = started and isinstance(error, BackendError | TaskTimeout | NotTransferable) and sent
        if message.begins:
            self._die(error)
        elif gone and self._dead is None and self._held is None:
            self._give_up(error)
        if self._dead is not None:
            message.fail(error)
        elif gone and culprit and isinstance(message, Batch):
            self._tell_of(error, message.actions[message.seen - 1 : message.seen])
            if message.fail_one(error):
                self._put(message.again())
        else:
            self._tell_of(error, message.actions if sent else [])
            message.fail(error)

    def _give_up(self, error: HybridComputeError) -> None:
        """The worker has gone, or has to go: go on in another one, if that may be."""
        if isinstance(error, TaskTimeout):
            self._recover(f"{error}")
        elif isinstance(error, NotTransferable):
            self._recover(f"it has done what cannot be told here: {error}")
        elif self._options.durable:
            self._recover(f"its worker died: {error}")
        else:
            self._die(error)

    def _tell_of(self, error: HybridComputeError, actions: list[str]) -> None:
        """As the core tells of actions that fail there."""
        self._side.tell([Told("engine:error", {"action": each, "error": str(error)}, "engine") for each in actions])

    def _recover(self, reason: str) -> None:
        """Bring the state back in another worker. What was under way, and what is dispatched meanwhile, waits."""
        self._held = [message.again() for message in self._under_way.values()]
        self._under_way.clear()
        self._name, self._name_before = uuid4().hex, self._name

        def back(_: object) -> None:
            held, self._held = self._held or [], None
            self._deaths = self._workers.stats().lost
            length = self._in_backup + len(self._log)
            for message in sorted(held, key=lambda each: each.number):
                self._put(message)
            self._side.tell([Told("engine:recovered", {"reason": reason, "entries": length}, "engine")])

        self._send(host.begin, self._beginning(), back, self._die)

    def _die(self, error: HybridComputeError) -> None:
        if self._dead is None:
            self.kill(EngineStopped(f"the engine has stopped, because its worker was lost with the state: {error}"))
            self._side.stopped(error)

    def end(self, settle: Callable[[Any], None], fail: Fail) -> None:
        """Forget the engine there, after all that was dispatched before."""
        self._send(host.end, (), settle, fail)

    def kill(self, error: EngineStopped) -> None:
        """Take nothing more, and answer what is held."""
        self._dead = self._dead or error
        held, self._held = self._held or [], None
        for message in held:
            message.fail(self._dead)


def _nothing(_: object) -> None:
    pass
