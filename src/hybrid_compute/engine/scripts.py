"""Scripts: actions one after the other, with pauses between them."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterable
from typing import Any, NamedTuple

from hybrid_compute.engine.engine import Engine
from hybrid_compute.engine.turn import Told


class Step(NamedTuple):
    """An action of a script, after which it pauses for `delay` seconds."""

    type: str
    payload: Any = None
    delay: float = 0
    reversible: bool = True


class Script:
    """Steps under a name. It keeps nothing of a run: the same script may run in many engines, and again.

        >>> deal = Script("deal", [Step("stack:shuffle", {"seed": 42}, delay=0.5), Step("stack:draw", {"count": 5})])
        >>> await deal.run(engine)

    Raises `ValueError` for a delay that is no length of time.
    """

    def __init__(self, name: str, steps: Iterable[Step]) -> None:
        self.name = name
        self.steps = tuple(steps)
        for step in self.steps:
            if not step.delay >= 0:
                raise ValueError(f"script {name!r}: the delay after {step.type!r} is {step.delay!r} seconds")

    async def run(self, engine: Engine[Any]) -> list[Any]:
        """Do the steps; what each of them gave. The engine's clock measures the pauses.

        The engine tells of it by `script:start`, and `script:complete` or `script:stop`, which says at which step.
        Cancelling it stops it there, and so does a step that fails: that error is raised, and the steps before it stay
        done.
        """
        results: list[Any] = []
        self._tell(engine, "script:start", steps=len(self.steps))
        try:
            for step in self.steps:
                results.append(await engine.dispatch_async(step.type, step.payload, reversible=step.reversible))
                if step.delay:
                    await engine.clock.sleep(step.delay)
        except (CancelledError, Exception) as error:
            why = "cancelled" if isinstance(error, CancelledError) else str(error)
            self._tell(engine, "script:stop", at=len(results), reason=why)
            raise
        self._tell(engine, "script:complete")
        return results

    def _tell(self, engine: Engine[Any], type: str, **what: Any) -> None:
        engine.tell([Told(type, {"name": self.name, **what}, "engine")])
