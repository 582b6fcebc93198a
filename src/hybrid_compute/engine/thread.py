"""A worker that is a thread of this process.

    begin ──> line ──> the thread ──> its outcome, in the loop
                           └── out of time: the thread is left to itself, and another one takes its place

What crosses is copied, as to another process. A thread cannot be stopped: what it still does to an engine, it does to a
copy that nobody looks at any more, because the engine has begun anew under its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from pickle import loads

from hybrid_compute.backends.pool import PoolStats
from hybrid_compute.clock import Clock, SystemClock, Timer
from hybrid_compute.errors import BackendClosed, HybridComputeError, TaskTimeout
from hybrid_compute.links.codec import OF_THE_TASK, dumps, failure_of
from hybrid_compute.links.ticket import Answer, Ticket
from hybrid_compute.reporting import stepper


@dataclass(eq=False, slots=True)
class _Message:
    """A call on its way, and who waits for its outcome."""

    ticket: Ticket
    body: bytes
    answer: Answer
    loop: asyncio.AbstractEventLoop
    timer: Timer | None = None
    outcome: tuple[bytes, HybridComputeError | None] | None = None
    step: int = 0

    def begin_step(self, number: int) -> None:
        self.step = number

    def run(self) -> None:
        """In the thread."""
        task = self.ticket.task
        stepper.set(self.begin_step)
        try:
            self.outcome = dumps(task.fn(*loads(self.body)), None), None
        except HybridComputeError as failure:
            self.outcome = b"", failure
        except OF_THE_TASK as failure:
            self.outcome = b"", failure_of(failure, task.name)

    def settle(self, reply: bytes, error: HybridComputeError | None) -> None:
        """In the loop."""
        if self.timer is not None:
            self.timer.cancel()
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(loads(reply))


class ThreadWorker:
    """One thread that engines live in: what they do holds up nobody, as far as it lets other threads run."""

    name = "thread"
    size = 1

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self._changed = threading.Condition()  # guards all that follows
        self._line: deque[_Message] = deque()
        self._done: deque[_Message] = deque()  # and not told yet
        self._telling = False
        self._running: _Message | None = None
        self._thread: threading.Thread | None = None
        self._started = 0
        self._calls = 0
        self._closed = False

    def begin(self, ticket: Ticket, answer: Answer, loop: asyncio.AbstractEventLoop) -> ThreadWorker:
        """Take in a message. Raises `BackendClosed`, and `NotTransferable` if it cannot be copied."""
        message = _Message(ticket, dumps(ticket.args, None), answer, loop)
        with self._changed:
            if self._closed:
                raise BackendClosed("the thread of this engine is closed", backend=self.name)
            if self._thread is None:
                self._start()
            self._line.append(message)
            self._changed.notify_all()
        if ticket.deadline is not None:
            message.timer = self.clock.call_at(ticket.deadline, partial(self._late, message))
        return self

    def wait_here(self, ticket: Ticket) -> None:
        """A thread answers by way of the loop."""

    def step(self, ticket: Ticket) -> int:
        message = self._find(ticket)
        return 0 if message is None else message.step

    def expire(self, ticket: Ticket, seconds: float) -> None:
        ticket.timeout = seconds
        if (message := self._find(ticket)) is not None:
            self._late(message)

    def _find(self, ticket: Ticket) -> _Message | None:
        with self._changed:
            return next((each for each in (self._running, *self._line) if each and each.ticket is ticket), None)

    def hold(self, ticket: Ticket, seconds: float) -> None:
        """Wait for the thread in the thread of the loop."""
        message = self._find(ticket)
        if message is not None:
            with self._changed:
                self._changed.wait_for(
                    lambda: message in self._done or message.answer.done(), min(seconds, threading.TIMEOUT_MAX)
                )
        self._tell(asyncio.get_running_loop())
        if message is not None and ticket.deadline is not None and ticket.deadline <= self.clock.time():
            self._late(message)

    def _tell(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the loop: settle what was done for it, in order."""
        with self._changed:
            done = [each for each in self._done if each.loop is loop]
            self._done = deque(each for each in self._done if each.loop is not loop)
        self._telling = True
        try:
            for each in done:
                assert each.outcome is not None
                each.settle(*each.outcome)
        finally:
            self._telling = False

    @property
    def can_hold(self) -> bool:
        return not self._telling

    def stats(self) -> PoolStats:
        """Counts of the moment; no thread is ever lost."""
        with self._changed:
            alive, running = int(self._thread is not None), int(self._running is not None)
            return PoolStats(alive, alive - running, len(self._line), running, self._calls, self._started, 0)

    async def aclose(self) -> None:
        """Answer all with `BackendClosed`. An action under way goes on unheard until it ends by itself."""
        with self._changed:
            self._closed = True
            left = [*self._line] if self._running is None else [self._running, *self._line]
            self._line.clear()
            self._thread = self._running = None
            self._changed.notify_all()
        for message in left:
            message.settle(b"", BackendClosed("the thread of this engine was closed", backend=self.name))

    def _start(self) -> None:
        """A thread for what follows; the one before, if it still runs, ends when it can."""
        self._started += 1
        self._running = None
        self._thread = threading.Thread(target=self._work, name=f"hybrid-compute engine {self._started}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (message := self._next()) is not None:
            message.run()
            with self._changed:
                self._done.append(message)
                self._changed.notify_all()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
                message.loop.call_soon_threadsafe(self._tell, message.loop)

    def _next(self) -> _Message | None:
        """What this thread is to do next; None once another one has its place."""
        me = threading.current_thread()
        with self._changed:
            if self._thread is me:
                self._running = None
            self._changed.wait_for(lambda: self._thread is not me or self._line)
            if self._thread is not me:
                return None
            self._calls += 1
            self._running = self._line.popleft()
            return self._running

    def _late(self, message: _Message) -> None:
        """In the loop: its time is up."""
        if message.answer.done():
            return
        task, seconds = message.ticket.task.name, message.ticket.timeout
        with self._changed:
            begun = message not in self._line
            if not begun:
                self._line.remove(message)
            elif self._running is message:
                self._start()
        what = "is left to itself" if begun else "had not begun"
        error = TaskTimeout(f"task {task!r} {what} after {seconds:g} s")
        error.started = begun
        message.settle(b"", error)
