"""A pipeline under way: runners that take items from one line, run a task on them, and fill the next line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hybrid_compute.clock import Timer
from hybrid_compute.errors import TaskTimeout
from hybrid_compute.pipelines.lines import END, Line, Turn
from hybrid_compute.runtime import Verbs
from hybrid_compute.tasks import Stage

LIMIT = 16
"""Calls of a stage that are under way at once, unless the stage says otherwise."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error on its way to the reader."""

    error: BaseException
    where: str


class _Crew:
    """The runners that fill one line. The last to leave closes it."""

    def __init__(self, line: Line, fail: Callable[[BaseException], None]) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self._line = line
        self._fail = fail
        self._left = 0

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Set one runner going."""
        self._left += 1
        self.tasks.append(asyncio.create_task(self._see_through(work)))

    def stop(self) -> None:
        if self._line.is_cut:
            return  # a second cancellation would disturb those who are tidying up after the first
        self._line.cut()
        for each in self.tasks:
            each.cancel()

    async def _see_through(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except BaseException as error:
            if not self._line.is_cut:  # somebody else has cancelled it: what is read must not simply end here
                self._fail(error)
            raise
        self._left -= 1
        if not self._left:
            self._line.close()


class Flow:
    """A pipeline under way. Iterating over it gives what comes out at its end.

    Stages are counted from 1. `lines[n]` is what stage `n` has made, and `crews[n]` makes it; those numbered 0 bring
    what the pipeline is fed with.
    """

    def __init__(
        self,
        stages: Sequence[Stage[..., Any]],
        rt: Verbs,
        *,
        ordered: bool,
        ahead: int,
        source: Iterable[Any] | AsyncIterable[Any] | None,
    ) -> None:
        if not isinstance(rt, Verbs):
            raise TypeError(f"a pipeline is run by a Runtime, in its event loop, not by {rt!r}")
        options = rt.settings
        if options.key is not None:
            raise ValueError(f"a key stands for one call, and {options.key!r} would be given to many: use run")
        self.lines = [Line(ahead, ordered=ordered) for _ in range(len(stages) + 1)]
        self._crews = [_Crew(line, self._fail) for line in self.lines]
        self._name = " → ".join(map(str, stages))
        self._source = source
        self._steps = [_Step(self, number, stage, _at(stage, rt)) for number, stage in enumerate(stages, start=1)]
        self._timeout = options.timeout
        self._clock = rt.clock
        self._timer: Timer | None = None
        self._error: BaseException | None = None

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Set all stages going: the first on each item that the pipeline is fed with, or once on the arguments."""
        if self._timeout is not None:
            self._timer = self._clock.call_at(self._clock.time() + self._timeout, self._be_late)
        steps = self._steps
        if self._source is None:
            self._crews[1].begin(partial(steps[0].run_once, args, kwargs))
            steps = steps[1:]
        elif args or kwargs:
            raise TypeError(f"pipeline {self._name} is fed with items: it takes no arguments besides")
        else:
            self._crews[0].begin(partial(self._feed, self._source))
        for step in steps:
            for _ in range(step.stage.limit or LIMIT):
                self._crews[step.number].begin(step.run)

    async def aclose(self) -> None:
        """Stop what is under way, and wait until it has stopped."""
        if self._timer is not None:
            self._timer.cancel()
        self._stop(self._crews)
        await asyncio.gather(*(task for crew in self._crews for task in crew.tasks), return_exceptions=True)

    async def pass_on(self, number: int, turn: Turn, failure: _Failure) -> None:
        """A failure takes its turn behind stage `number`; what comes before that has nothing to do any more.

        So does a `CancelledError`, which may be a task's own. If it means this runner, its line has been cut, and `put`
        raises it again.
        """
        self._stop(self._crews[:number])
        await self.lines[number].put(turn, failure, last=True)

    def where(self, number: int, item: int | None) -> str:
        """What the note on an error says."""
        stage = f"in stage {number} of {len(self._steps)}, {self._steps[number - 1].stage}"
        return stage if item is None else f"{stage}, on item {item} (counted from 0)"

    def __aiter__(self) -> Flow:
        return self

    async def __anext__(self) -> Any:
        item = await self.lines[-1].take()
        if type(item) is _Failure:
            item.error.add_note(item.where)
            self._fail(item.error)
            item = END
        if item is END:
            raise self._outcome()
        return item

    async def _feed(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        line = self.lines[0]
        turn = line.turn()
        try:
            if isinstance(items, AsyncIterable):
                async for item in items:
                    await line.put(turn, item)
                    del item  # it may be large, and the next one late
            else:
                for item in items:
                    await line.put(turn, item)
                    del item
            line.end(turn)
        except (Exception, asyncio.CancelledError) as error:
            await self.pass_on(0, turn, _Failure(error, f"in the items that pipeline {self._name} is fed with"))

    def _outcome(self) -> BaseException:
        error, self._error = self._error, None
        return error if error is not None else StopAsyncIteration()

    def _fail(self, error: BaseException) -> None:
        """The end of everything, at once."""
        if self._error is None:
            self._error = error
        self._stop(self._crews)

    def _be_late(self) -> None:
        self._fail(TaskTimeout(f"pipeline {self._name} was not done after {self._timeout:g} s"))

    @staticmethod
    def _stop(crews: Iterable[_Crew]) -> None:
        for crew in crews:
            crew.stop()


class _Step:
    """One stage of a pipeline that is under way: what its runners do."""

    def __init__(self, flow: Flow, number: int, stage: Stage[..., Any], verbs: Verbs) -> None:
        self.number = number
        self.stage = stage
        self._flow = flow
        self._verbs = verbs
        self._taken = 0

    async def run(self) -> None:
        """A runner: one item after the other."""
        before, behind = self._flow.lines[self.number - 1 : self.number + 1]
        while (item := await before.take()) is not END:
            turn = behind.turn()  # at once, or another runner would come in between
            if type(item) is _Failure:
                await self._flow.pass_on(self.number, turn, item)
                return
            self._taken += 1
            await self._call(turn, self._taken - 1, (item,), {})
            del item  # it would be kept until the next one comes

    async def run_once(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The only runner of a first stage that is called with the arguments."""
        await self._call(self._flow.lines[self.number].turn(), None, args, kwargs)

    async def _call(self, turn: Turn, item: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        line, task = self._flow.lines[self.number], self.stage.task
        try:
            if task.streams:
                async with self._verbs.stream(task, *args, **kwargs) as made:
                    async for each in made:
                        await line.put(turn, each)
                        del each
                line.end(turn)
            else:
                await line.put(turn, await self._verbs.run(task, *args, **kwargs), last=True)
        except (Exception, asyncio.CancelledError) as error:
            await self._flow.pass_on(self.number, turn, _Failure(error, self._flow.where(self.number, item)))


def _at(stage: Stage[..., Any], rt: Verbs) -> Verbs:
    """The runtime's verbs for the calls of one stage. Its time is the whole pipeline's, so tasks keep their own."""
    options = rt.settings
    place = options.strategy if stage.place is None else stage.place
    try:
        return rt.under(replace(options, strategy=place, timeout=None))
    except ValueError as error:
        error.add_note(f"in stage {stage} of a pipeline")
        raise
