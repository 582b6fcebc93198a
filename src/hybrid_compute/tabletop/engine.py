"""`TableEngine`: an engine whose state is a table, with a typed method for each of the token actions.

with TableEngine(stack=deck) as engine:
    engine.stack.shuffle(seed=42)
    engine.agents.create("Alice")
    hand = engine.agents["Alice"].draw(5)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hybrid_compute.clock import Clock
from hybrid_compute.engine.actions import Ask
from hybrid_compute.engine.carrier import Carrier
from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.options import WorkerOptions
from hybrid_compute.errors import InvalidInput
from hybrid_compute.tabletop.faces import Faces, Now, Soon
from hybrid_compute.tabletop.plain import check
from hybrid_compute.tabletop.plan import Setup, table_plan
from hybrid_compute.tabletop.table import Stack, Table, Token


class TableEngine(Engine[Table], Faces[Now]):
    """A table, and what can be done on it: `engine.stack`, `space`, `source`, `agents`, `game`, `loop` and others.

    `stack` are the tokens of the pile to draw from, the last one on top; it is shuffled by `stack_seed` where no other
    seed is given. The `source` is made of those of the `stacks` that it names. For the rest see `Engine`.

    These verbs wait, as `dispatch` does; those of `aio` are awaited.

        >>> async with TableEngine(stack=deck, use_worker=True) as engine:
        ...     cards = await engine.aio.stack.draw(2)
        ...     await engine.aio.space.place("river", cards[0], x=10)

    Raises `InvalidInput` for a token that is not plain JSON, and a `source` of a stack that there is not.
    """

    def __init__(
        self,
        stack: Iterable[Token] | None = None,
        *,
        stack_seed: float | None = None,
        stacks: Mapping[str, Iterable[Token]] | None = None,
        source: Iterable[str] | None = None,
        use_worker: bool = False,
        worker_options: WorkerOptions | None = None,
        workers: Carrier | None = None,
        seed: int | None = None,
        checkpoints: int = 5,
        now: Callable[[], float] = time.time,
        clock: Clock | None = None,
    ) -> None:
        setup = _setup(stack, stack_seed, stacks or {}, source)
        seed = int.from_bytes(os.urandom(8)) if seed is None else seed
        super().__init__(
            table_plan(setup, seed=seed, checkpoints=checkpoints),
            use_worker=use_worker,
            worker_options=worker_options,
            workers=workers,
            now=now,
            clock=clock,
        )

    @property
    def aio(self) -> Faces[Soon]:
        """The same verbs, to be awaited."""
        return _Aio(self)

    def _do(self, ask: Ask[Any], /) -> Any:
        return self.dispatch(ask)


class _Aio(Faces[Soon]):
    __slots__ = ("_engine",)

    def __init__(self, engine: TableEngine) -> None:
        self._engine = engine

    def _do(self, ask: Ask[Any], /) -> Any:
        return self._engine.dispatch_async(ask)


def _setup(
    stack: Iterable[Token] | None,
    seed: float | None,
    stacks: Mapping[str, Iterable[Token]],
    source: Iterable[str] | None,
) -> Setup:
    piles = {name: Stack(_tokens(f"stacks[{name!r}]", tokens)) for name, tokens in stacks.items()}
    names = None if source is None else list(source)
    for name in names or ():
        if name not in piles:
            raise InvalidInput(f"the source is made of a stack {name!r}, and `stacks` has none of that name")
    return Setup(None if stack is None else Stack(_tokens("stack", stack), seed), piles, names)


def _tokens(what: str, tokens: Iterable[Token]) -> list[Token]:
    piled = list(tokens)
    check(what, piled)
    return piled
