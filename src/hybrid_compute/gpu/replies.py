"""Who waits for a work: a thread, a call in an event loop, or many of them at once.

`done` and `failed` are called in the thread of the device, `failed` also in that of who gives it up; everybody is told
in the place where he waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from hybrid_compute.errors import BackendError
from hybrid_compute.gpu.work import Reply

Answer = asyncio.Future[Any]


class Waiting(Reply):
    """For a thread that waits."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: Future[Any] = Future()

    def done(self, results: list[Any]) -> None:
        self.future.set_result(value_of(results))

    def failed(self, error: BaseException, *, started: bool) -> None:
        self.future.set_exception(marked(error, started))


class Mailbox:
    """What is to be done in an event loop, put there by another thread: all of it with one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._letters: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._lock = threading.Lock()

    def post(self, function: Callable[..., None], *args: Any) -> None:
        """Have the function called in the event loop. Nobody is there any more once that is closed."""
        with self._lock:  # of two threads that find two letters, none would wake the loop
            self._letters.append((function, args))
            first = len(self._letters) == 1
        if first:
            try:
                self.loop.call_soon_threadsafe(self._empty)
            except RuntimeError:
                self._letters.clear()

    def _empty(self) -> None:
        while self._letters:
            function, args = self._letters[0]
            try:
                function(*args)
            except Exception as error:  # of one letter, and others wait for theirs
                self.loop.call_exception_handler(
                    {"message": "a reply of the gpu could not be told", "exception": error}
                )
            self._letters.popleft()  # only now: whoever finds it empty wakes the loop, and we are awake


class Asked(Reply):
    """For a call that waits in an event loop."""

    __slots__ = ("answer", "args", "box")

    def __init__(self, args: tuple[Any, ...], box: Mailbox) -> None:
        self.args = args
        self.box = box
        self.answer: Answer = box.loop.create_future()

    @property
    def is_wanted(self) -> bool:
        return not self.answer.done()

    def done(self, results: list[Any]) -> None:
        self.box.post(settle, self.answer, value_of(results))

    def failed(self, error: BaseException, *, started: bool) -> None:
        self.box.post(refuse, self.answer, marked(error, started))


class Joined(Reply):
    """For calls that go there as one work: each gets its own of what comes back."""

    __slots__ = ("_box", "_calls")

    def __init__(self, calls: Sequence[Asked], box: Mailbox) -> None:
        self._calls = calls
        self._box = box

    @property
    def calls(self) -> int:
        return len(self._calls)

    @property
    def is_wanted(self) -> bool:
        return any(call.is_wanted for call in self._calls)

    def done(self, results: list[Any]) -> None:
        self._box.post(self._settle, each_of(results, len(self._calls)))

    def failed(self, error: BaseException, *, started: bool) -> None:
        for call in self._calls:
            call.failed(error, started=started)

    def _settle(self, values: list[Any]) -> None:
        for call, value in zip(self._calls, values, strict=True):
            settle(call.answer, value)


class Batch(Reply):
    """For all calls of a batch: the answer is the list of their results, or the first failure."""

    __slots__ = ("_box", "_left", "_values", "answer")

    def __init__(self, count: int, box: Mailbox) -> None:
        self._box = box
        self._left = count
        self._values: list[Any] = [None] * count
        self.answer: Answer = box.loop.create_future()

    def failed(self, error: BaseException, *, started: bool) -> None:
        self._box.post(refuse, self.answer, marked(error, started))

    def part(self, begin: int, end: int) -> Reply:
        """For the calls from one number to another."""
        return _Part(self, begin, end)

    def enter(self, begin: int, values: Sequence[Any]) -> None:
        self._values[begin : begin + len(values)] = values
        self._left -= len(values)
        if not self._left:
            self._box.post(settle, self.answer, self._values)


class _Part(Reply):
    __slots__ = ("_begin", "_end", "_whole")

    def __init__(self, whole: Batch, begin: int, end: int) -> None:
        self._whole = whole
        self._begin = begin
        self._end = end

    @property
    def calls(self) -> int:
        return self._end - self._begin

    @property
    def is_wanted(self) -> bool:
        return not self._whole.answer.done()

    def done(self, results: list[Any]) -> None:
        count = self._end - self._begin
        self._whole.enter(self._begin, [value_of(results)] if count == 1 else each_of(results, count))

    def failed(self, error: BaseException, *, started: bool) -> None:
        self._whole.failed(error, started=started)


def settle(answer: Answer, value: Any) -> None:
    """Whoever has stopped waiting gets nothing, and what lies on the device goes when `value` does."""
    if not answer.done():
        answer.set_result(value)


def refuse(answer: Answer, error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def value_of(results: Sequence[Any]) -> Any:
    """What a caller gets: an array, or several."""
    return results[0] if len(results) == 1 else tuple(results)


def each_of(results: Sequence[Any], count: int) -> list[Any]:
    """What each of so many calls gets of results that have those of all of them."""
    parts = [
        each if isinstance(each, list) else list(each) if each.ndim > 1 else [each[at, ...] for at in range(count)]
        for each in results
    ]
    return parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))


def marked(error: BaseException, started: bool) -> BaseException:
    if isinstance(error, BackendError):
        error.started = started
    return error
