"""An engine that lives in this process: what is dispatched is done at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from hybrid_compute.engine.core import Core, Outcome, Plan, Request, own
from hybrid_compute.engine.turn import Told
from hybrid_compute.errors import EngineError

A = TypeVar("A")
B = TypeVar("B")


class Here:
    """The core itself, guarded against actions and listeners that would dispatch in the middle of one."""

    def __init__(self, plan: Plan, now: int, tell: Callable[[Iterable[Told]], None]) -> None:
        self.core = Core(plan)
        self._tell = tell
        self._busy = False
        self.core.begin(now)

    def do(self, request: Request) -> Outcome:
        """Do one action, and tell of it."""
        outcome = self._alone(self.core.do, own(request))
        if outcome.told:
            self._tell(outcome.told)
        return outcome

    def do_many(self, requests: Sequence[Request], *, atomic: bool) -> list[Outcome]:
        """Do several, and tell of them afterwards, when listeners may dispatch more."""
        outcomes = self._alone(self.core.do_all if atomic else self.core.do_each, [own(each) for each in requests])
        for outcome in outcomes:
            if outcome.told:
                self._tell(outcome.told)
        return outcomes

    def _alone(self, do: Callable[[A], B], asked: A) -> B:
        if self._busy:
            raise EngineError("an action cannot dispatch another one: a policy can, and so can whoever listens")
        self._busy = True
        try:
            return self.core.wholly(do, asked)
        finally:
            self._busy = False

    def ask(self, verb: str, *args: Any) -> Any:
        """What a method of the core returns."""
        return getattr(self.core, verb)(*args)
