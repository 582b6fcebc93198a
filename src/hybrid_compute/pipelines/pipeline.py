"""Pipelines: tasks at different places joined into one stream.

    items ──line──> stage 1 ──line──> stage 2 ──line──> whoever reads

A stage has as many runners as it may have calls under way. A runner takes an item from the line before it, runs the
task on it, and puts what comes of it into the line behind. A full line keeps its writers waiting: so whatever is
slow, the reader included, slows down all that comes before it, and nothing piles up. A failure is an item too: it
takes its turn in every line, stops all that comes before it, and is the last that is read.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from hybrid_compute.pipelines.flow import Flow
from hybrid_compute.runtime import Verbs
from hybrid_compute.tasks import Stage, as_task

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
I = TypeVar("I")  # noqa: E741  # an item of the input
I_contra = TypeVar("I_contra", contravariant=True)

Wrapped: TypeAlias = Coroutine[Any, Any, T] | Iterator[T] | AsyncIterator[T]
"""What a coroutine or a generator returns when it is called, which is not yet its items."""

Made: TypeAlias = Wrapped[T] | T
"""What a task returns whose items are `T`."""

AHEAD = 16
"""Items that may wait between two stages, unless the pipeline says otherwise."""


@dataclass(frozen=True, slots=True)
class Pipeline(Generic[P, T_co]):
    """Stages joined together. Made by `pipeline`; it opens nothing, and can be run any number of times."""

    stages: tuple[Stage[..., Any], ...]
    ordered: bool = True
    ahead: int = AHEAD
    source: Iterable[Any] | AsyncIterable[Any] | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a pipeline needs at least one stage")
        if self.ahead < 1:
            raise ValueError(f"ahead must be at least 1, not {self.ahead}: an item has to wait somewhere")

    def over(self: _Takes[I, T], items: Iterable[I] | AsyncIterable[I], /) -> Pipeline[[], T]:
        """The same pipeline, fed with `items`: the first stage is called for each of them, as the others are.

        They are taken in the event loop, and only as fast as the pipeline gets on, so there may be no end of them. An
        iterator can be gone through once, and so can then the pipeline that is fed with it.

            >>> await pipeline(fetch.on("remote"), clean.on("worker")).over(urls).run(rt)
        """
        assert isinstance(self, Pipeline)
        return replace(self, source=items)

    @asynccontextmanager
    async def stream(self, rt: Verbs, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[AsyncIterator[T_co]]:
        """The items of the last stage as they come, while the block is open; leaving it stops all stages.

        The first stage is called with the arguments. In order, what is read is what nested `for` loops would have
        given: all items before a failure, then the failure. As completed, it is raised when its turn comes. The error
        is that of the call, with a note that names the stage.

            >>> async with pipe.stream(rt, "access.log") as rows:
            ...     async for row in rows:
            ...         ...
        """
        flow = Flow(self.stages, rt, ordered=self.ordered, ahead=self.ahead, source=self.source)
        try:
            flow.start(args, kwargs)
            yield flow
        finally:
            await flow.aclose()

    async def run(self, rt: Verbs, /, *args: P.args, **kwargs: P.kwargs) -> list[T_co]:
        """The items of the last stage, when all are there. Errors as from `stream`.

        >>> await pipeline(words.on("worker"), shout).run(rt, "run it anywhere")
        ['RUN', 'IT', 'ANYWHERE']
        """
        async with self.stream(rt, *args, **kwargs) as items:
            return [item async for item in items]

    def __str__(self) -> str:
        return " → ".join(map(str, self.stages))

    def __repr__(self) -> str:
        return f"<Pipeline {self}>"


class _Takes(Protocol[I_contra, T]):
    """A pipeline whose first stage can be called with one item."""

    def run(self, rt: Verbs, item: I_contra, /) -> Coroutine[Any, Any, list[T]]: ...


@overload
def pipeline(a: Callable[P, Wrapped[T]], /, *, ordered: bool = True, ahead: int = AHEAD) -> Pipeline[P, T]: ...
@overload
def pipeline(a: Callable[P, T], /, *, ordered: bool = True, ahead: int = AHEAD) -> Pipeline[P, T]: ...
@overload
def pipeline(
    a: Callable[P, Made[A]], b: Callable[[A], Wrapped[T]], /, *, ordered: bool = True, ahead: int = AHEAD
) -> Pipeline[P, T]: ...
@overload
def pipeline(
    a: Callable[P, Made[A]], b: Callable[[A], T], /, *, ordered: bool = True, ahead: int = AHEAD
) -> Pipeline[P, T]: ...
@overload
def pipeline(
    a: Callable[P, Made[A]],
    b: Callable[[A], Made[B]],
    c: Callable[[B], Wrapped[T]],
    /,
    *,
    ordered: bool = True,
    ahead: int = AHEAD,
) -> Pipeline[P, T]: ...
@overload
def pipeline(
    a: Callable[P, Made[A]],
    b: Callable[[A], Made[B]],
    c: Callable[[B], T],
    /,
    *,
    ordered: bool = True,
    ahead: int = AHEAD,
) -> Pipeline[P, T]: ...
@overload
def pipeline(
    a: Callable[P, Made[A]],
    b: Callable[[A], Made[B]],
    c: Callable[[B], Made[C]],
    d: Callable[[C], Wrapped[T]],
    /,
    *,
    ordered: bool = True,
    ahead: int = AHEAD,
) -> Pipeline[P, T]: ...
@overload
def pipeline(
    a: Callable[P, Made[A]],
    b: Callable[[A], Made[B]],
    c: Callable[[B], Made[C]],
    d: Callable[[C], T],
    /,
    *,
    ordered: bool = True,
    ahead: int = AHEAD,
) -> Pipeline[P, T]: ...
@overload
def pipeline(
    a: Callable[P, Made[A]],
    b: Callable[[A], Made[B]],
    c: Callable[[B], Made[C]],
    d: Callable[[C], Made[D]],
    e: Callable[[D], Wrapped[T]],
    /,
    *,
    ordered: bool = True,
    ahead: int = AHEAD,
) -> Pipeline[P, T]: ...
@overload
def pipeline(
    a: Callable[P, Made[A]],
    b: Callable[[A], Made[B]],
    c: Callable[[B], Made[C]],
    d: Callable[[C], Made[D]],
    e: Callable[[D], T],
    /,
    *,
    ordered: bool = True,
    ahead: int = AHEAD,
) -> Pipeline[P, T]: ...
@overload
def pipeline(
    a: Callable[P, Any],
    b: Callable[[Any], Any],
    c: Callable[[Any], Any],
    d: Callable[[Any], Any],
    e: Callable[[Any], Any],
    f: Callable[[Any], Any],
    /,
    *more: Callable[[Any], Any],
    ordered: bool = True,
    ahead: int = AHEAD,
) -> Pipeline[P, Any]: ...
def pipeline(*stages: Callable[..., Any], ordered: bool = True, ahead: int = AHEAD) -> Pipeline[..., Any]:
    """Tasks joined into one stream: each item goes on to the next stage as soon as it is there.

    A stage is `task.on(place)`, or a task or function, which runs where the runtime's strategy says. It is called with
    each item of the one before; what a generator yields are items one by one. Only the first is called with the
    arguments of `run` and `stream`, once, unless the pipeline is fed with items by `over`.

    Items stay in order, or come `ordered=False` as they are completed. At most `ahead` of them wait between two stages,
    and the calls under way are at most 16 in each, or the `limit` that `on` was given.

        >>> pipe = pipeline(lines.on("remote"), parse.on("worker", limit=4), total.on("local"))
        >>> await pipe.run(rt, "access.log")
    """
    return Pipeline(tuple(map(_as_stage, stages)), ordered, ahead)


def _as_stage(given: Callable[..., Any]) -> Stage[..., Any]:
    return given if isinstance(given, Stage) else as_task(given).on()
