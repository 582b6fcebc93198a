"""Messages to the worker that an engine lives in, each with those who wait for what comes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from math import inf
from pickle import loads
from typing import Any, Protocol, Self, TypeAlias

from hybrid_compute.clock import Timer
from hybrid_compute.engine import host
from hybrid_compute.engine.answer import Answer
from hybrid_compute.engine.carrier import Line
from hybrid_compute.engine.core import Failed, Outcome
from hybrid_compute.engine.host import Brief
from hybrid_compute.errors import BackendError, HybridComputeError, NotTransferable
from hybrid_compute.links.codec import READING_FAILED
from hybrid_compute.links.ticket import Ticket
from hybrid_compute.tasks import AnyTask

Fail: TypeAlias = Callable[[HybridComputeError], None]


class Home(Protocol):
    """What a message tells of itself where it comes from."""

    def count(self) -> int:
        """The number of the next message."""
        ...

    def answered(self, message: Message) -> None:
        """It is under way no more."""
        ...

    def keep(self, packed: bytes, brief: Brief) -> Outcome:
        """Log what was done, and tell of it; the outcome, as the caller needs it."""
        ...

    def lost(self, message: Message) -> None:
        """The engine does not live where this was sent."""
        ...

    def failed(self, message: Message, error: HybridComputeError) -> None:
        """There is no answer to this one."""
        ...


class Message(ABC):
    """One message to the worker, as it was sent; no more than it must be, for there may be thousands under way.

    A message that is sent again is another one: what still comes of the first is `void`, and tells nobody.
    """

    __slots__ = ("args", "home", "line", "number", "over", "task", "ticket", "timeout", "void")

    line: Line | None
    ticket: Ticket

    def __init__(self, home: Home, task: AnyTask, args: tuple[Any, ...], timeout: float | None) -> None:
        self.home = home
        self.number = home.count()
        self.task = task
        self.args = args
        self.timeout = timeout
        self.over = self.void = False
        self.line = None

    def again(self) -> Self:
        """The same message, to be sent once more."""
        self.void = True
        again = copy(self)
        again.over = again.void = False
        again.line = None
        return again

    @abstractmethod
    def settle(self, reply: Any) -> None:
        """The worker has answered. Raises `NotTransferable` if nobody here can read that."""

    @abstractmethod
    def fail(self, error: HybridComputeError) -> None:
        """There is no answer."""

    @property
    def what(self) -> str:
        """What it asks for, in the words of errors."""
        if self.begins:
            return "the beginning of the engine"
        return f"{self.args[0]!r} of the engine" if self.args else "the end of the engine"

    @property
    def actions(self) -> list[str]:
        """The types of the actions in it."""
        return []

    def explain(self, error: HybridComputeError) -> None:
        """Have the error say what went wrong, and not by which of our tasks."""
        if error.args and f"task {self.task.name!r}" in (text := str(error)):
            error.args = (text.replace(f"task {self.task.name!r}", self.what),)

    @property
    def begins(self) -> bool:
        """Whether this is what makes the engine."""
        return self.task is host.begin

    def wait_here(self) -> None:
        """Wait a moment for the answer, if the event loop would only wait as well."""
        if not self.over and self.line is not None:
            self.line.wait_here(self.ticket)

    def hold(self) -> None:
        """Wait for the answer, and hold up the event loop; or until that has to turn for there to be one."""
        if not self.over and self.line is not None:
            self.line.hold(self.ticket, inf if self.timeout is None else self.timeout)

    # As the pool sees it.

    def done(self) -> bool:
        return self.over

    def cancel(self) -> bool:
        return False

    def set_result(self, result: Any, /) -> None:
        self.over = True
        if self.void:
            return
        self.home.answered(self)
        if result is None:
            self.home.lost(self)
        else:
            try:
                self.settle(result)
            except NotTransferable as error:
                self.home.failed(self, error)

    def set_exception(self, exception: BaseException, /) -> None:
        self.over = True
        if self.void:
            return
        self.home.answered(self)
        assert isinstance(exception, HybridComputeError)
        self.home.failed(self, exception)


class Action(Message):
    """An action, whose outcome is somebody's answer."""

    __slots__ = ("answer",)

    def __init__(self, home: Home, packed: bytes, timeout: float | None, answer: Answer) -> None:
        super().__init__(home, host.do, (packed,), timeout)
        self.answer = answer

    @property
    def what(self) -> str:
        return f"action {type_of(self.args[0])!r}"

    @property
    def actions(self) -> list[str]:
        return [type_of(self.args[0])]

    def settle(self, reply: bytes) -> None:
        self.answer.settle(self.home.keep(self.args[0], read(reply)))

    def fail(self, error: HybridComputeError) -> None:
        self.answer.fail(error)


class Question(Message):
    """Anything else."""

    __slots__ = ("_fail", "_settle")

    def __init__(
        self,
        home: Home,
        task: AnyTask,
        args: tuple[Any, ...],
        settle: Callable[[Any], None],
        fail: Fail,
    ) -> None:
        super().__init__(home, task, args, None)
        self._settle = settle
        self._fail = fail

    def settle(self, reply: Any) -> None:
        self._settle(reply)

    def fail(self, error: HybridComputeError) -> None:
        self._fail(error)


class Batch(Message):
    """Several actions, done in order; if `atomic`, all of them or none.

    One that takes too long, or takes the worker down, fails alone: the others are sent again. They have been undone
    with the state that was lost.
    """

    __slots__ = ("_fail", "_left", "_outcomes", "_packed", "_settle", "atomic", "seen", "timer")

    def __init__(
        self,
        home: Home,
        packed: Sequence[bytes],
        atomic: bool,
        settle: Callable[[list[Outcome]], None],
        fail: Fail,
    ) -> None:
        super().__init__(home, host.do_many, (list(packed), atomic), None)
        self.atomic = atomic
        self.seen = 1
        self.timer: Timer | None = None
        self._packed = packed
        self._left = list(range(len(packed)))
        self._outcomes: dict[int, Outcome] = {}
        self._settle = settle
        self._fail = fail

    @property
    def what(self) -> str:
        if self.atomic or not self.seen:
            return f"a batch of {len(self._left)} actions"
        return f"action {self.actions[self.seen - 1]!r}"

    @property
    def actions(self) -> list[str]:
        return [type_of(packed) for packed in self.args[0]]

    def settle(self, reply: bytes) -> None:
        self.stop_looking()
        outcomes = [self.home.keep(packed, each) for packed, each in zip(self.args[0], read(reply), strict=False)]
        if self.atomic and len(outcomes) == 1:
            outcomes *= len(self._packed)
        self._outcomes.update(zip(self._left, outcomes, strict=True))
        self._end()

    def _end(self) -> None:
        self._settle([self._outcomes[at] for at in range(len(self._packed))])

    def fail(self, error: HybridComputeError) -> None:
        self.stop_looking()
        self._fail(error)

    def fail_one(self, error: HybridComputeError) -> bool:
        """Have the action fail that the worker has come to; whether others are left. Settles if there are none."""
        self._outcomes[self._left.pop(self.seen - 1)] = Failed(error, [], [])
        self.args = ([self._packed[at] for at in self._left], self.atomic)
        if not self._left:
            self._end()
        return bool(self._left)

    def again(self) -> Self:
        self.stop_looking()
        return super().again()

    def stop_looking(self) -> None:
        """Whoever looks after it need not do so any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def find(self, error: HybridComputeError) -> bool:
        """Look for the one action that has brought the worker down; whether it is known then."""
        if self.atomic or isinstance(error, NotTransferable) or self.line is None:
            return False
        if isinstance(error, BackendError):
            self.seen = self.look()
        return self.seen > 0

    def look(self) -> int:
        """Which action the worker has come to, counted from 1; 0 if it has not begun."""
        assert self.line is not None
        return self.line.step(self.ticket)


def type_of(packed: bytes) -> str:
    """The type of a packed action, if it can be read here."""
    try:
        return host.unpack(packed).type
    except NotTransferable:
        return "unknown"


def read(reply: bytes) -> Any:
    """What a worker has written. Raises `NotTransferable`: it was done there, and is not known here."""
    try:
        return loads(reply)
    except READING_FAILED as error:
        raise NotTransferable(f"what the action gave cannot be read here: {type(error).__name__}: {error}") from error
