"""A backend that answers as a test says, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hybrid_compute.backends.base import Backend
from hybrid_compute.backends.wrappers import Recorded
from hybrid_compute.calls import Call
from hybrid_compute.errors import HybridComputeError
from hybrid_compute.links.codec import OF_THE_TASK, failure_of
from hybrid_compute.tasks import AnyTask, as_task

Handler: TypeAlias = Callable[..., Any]
"""From `(task, *args, **kwargs)` to the result. It may raise, and it may be a coroutine function."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that reached a mock backend."""

    task: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Asked:
        """What `rt.run(task, *args, **kwargs)` asks."""
        return cls(task if isinstance(task, str) else as_task(task).name, args, kwargs)

    def __str__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.task}({', '.join(arguments)})"


def run_it(task: AnyTask, *args: Any, **kwargs: Any) -> Any:
    """The handler that simply runs the task."""
    return task.fn(*args, **kwargs)


class MockBackend(Backend):
    """Answers with `handler(task, *args, **kwargs)`, by default by running the task, and keeps every call in `calls`.

    What the handler raises is the answer: an error of this library as it is, any other as that of the task. For a
    generator task it returns the items. `refuses` says for a task why this place cannot run it, or None.

        >>> def lost(task, *args):
        ...     raise WorkerLost("worker 1 died", backend="worker")
        >>> worker = MockBackend(lost, name="worker", rank=0)
        >>> async with Runtime([worker, LocalBackend()]) as rt:
        ...     assert await rt.run(double, 21) == 42  # by falling back
        >>> worker.assert_asked(double, 21)
    """

    def __init__(
        self,
        handler: Handler = run_it,
        *,
        name: str = "mock",
        rank: int = 1,
        provides: Iterable[str] = ("cpu",),
        on_this_machine: bool = True,
        isolates: bool = False,
        refuses: Callable[[AnyTask], str | None] | None = None,
    ) -> None:
        self.name = name
        self.provides = frozenset(provides)
        self.on_this_machine = on_this_machine
        self.isolates = isolates
        self.rank = rank
        self.calls: list[Asked] = []
        self._handler = handler
        self._refuses = refuses

    # What a test asks.

    def assert_asked(self, task: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> None:
        """This call came here."""
        wanted = Asked.of(task, *args, **kwargs)
        if wanted not in self.calls:
            raise AssertionError(f"{self.name!r} was not asked for {wanted}; {self._what_came()}")

    def assert_not_asked(self, task: Callable[..., Any] | str | None = None, /) -> None:
        """No call came here; none of `task`, if one is given."""
        unwanted = None if task is None else Asked.of(task).task
        if any(unwanted in (None, each.task) for each in self.calls):
            raise AssertionError(f"{self.name!r} should not have been asked; {self._what_came()}")

    def _what_came(self) -> str:
        return f"what came: {', '.join(map(str, self.calls)) or 'nothing'}"

    # A backend.

    def can_run(self, task: AnyTask, /) -> bool:
        return not self.closed and (self._refuses is None or self._refuses(task) is None)

    def why_not(self, task: AnyTask, /) -> str:
        if self.closed:
            return "it is closed"
        return (self._refuses and self._refuses(task)) or super().why_not(task)

    async def run_task(self, task: AnyTask, /, *args: Any, **kwargs: Any) -> Any:
        if task.streams:
            async with self.stream_call(Call(task, args, kwargs)) as items:
                return [item async for item in items]
        answer = self._ask(task, args, kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    @asynccontextmanager
    async def stream_call(self, call: Call, /) -> AsyncGenerator[AsyncIterator[Any]]:
        async with aclosing(self._items(call)) as items:
            yield items

    # Within.

    def _ask(self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.check_open()
        self.calls.append(Asked(task.name, args, kwargs))
        return self._handler(task, *args, **kwargs)

    async def _items(self, call: Call) -> AsyncGenerator[Any]:
        """What the handler returned, item by item, in our errors and within the call's deadline."""
        items: AsyncGenerator[Any] | None = None
        try:
            items = _each(self._ask(call.task, call.args, call.kwargs))
            while True:
                async with self.within_limits(call):
                    item = await anext(items)
                yield item
        except StopAsyncIteration:
            return
        except HybridComputeError:
            raise
        except OF_THE_TASK as error:
            raise failure_of(error, call.task.name) from error
        finally:
            if items is not None:
                await items.aclose()


async def _each(items: Any) -> AsyncGenerator[Any]:
    """The items of any iterator, asynchronous or not, which is closed at the end if it can be."""
    if hasattr(items, "__aiter__"):
        try:
            async for item in items:
                yield item
        finally:
            if hasattr(items, "aclose"):
                await items.aclose()
        return
    try:
        for item in items:
            yield item
            await asyncio.sleep(0)  # so that a deadline can pass
    finally:
        if hasattr(items, "close"):
            items.close()


def replay(calls: Iterable[Recorded]) -> Handler:
    """A handler that answers what was recorded, each answer once, to the same task with equal arguments.

    >>> place = MockBackend(replay(recording.calls))
    """
    left = list(calls)

    def answer(task: AnyTask, *args: Any, **kwargs: Any) -> Any:
        for index, each in enumerate(left):
            if (each.task, each.args, each.kwargs) == (task.name, args, kwargs):
                del left[index]
                if task.streams:
                    return _again(each)
                if each.error is not None:
                    raise each.error
                return each.result
        raise AssertionError(f"no answer is recorded, or left, for {Asked(task.name, args, kwargs)}")

    return answer


def _again(recorded: Recorded) -> Iterator[Any]:
    yield from recorded.result or ()
    if recorded.error is not None:
        raise recorded.error
