"""An engine that lives in this process: what is dispatched is done at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from hybrid_compute.engine.core import Core, Failed, Outcome, Plan, Request, own
from hybrid_compute.engine.turn import Told
from hybrid_compute.errors import EngineError, NotTransferable

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
        asked = self._own(request)
        outcome = asked if isinstance(asked, Failed) else self._alone(self.core.do, asked)
        if outcome.told:
            self._tell(outcome.told)
        return outcome

    def do_many(self, requests: Sequence[Request], *, atomic: bool) -> list[Outcome]:
        """Do several, and tell of them afterwards, when listeners may dispatch more."""
        asked = [self._own(each) for each in requests]
        outcomes = self._alone(self._do_all if atomic else self._do_each, asked)
        for outcome in outcomes:
            if outcome.told:
                self._tell(outcome.told)
        return outcomes

    def _own(self, request: Request) -> Request | Failed:
        try:
            return own(request)
        except NotTransferable as error:
            return Failed(error, [], [])

    def _do_each(self, asked: list[Request | Failed]) -> list[Outcome]:
        return [each if isinstance(each, Failed) else self.core.do(each) for each in asked]

    def _do_all(self, asked: list[Request | Failed]) -> list[Outcome]:
        refused = [each for each in asked if isinstance(each, Failed)]
        return [*refused[:1]] or self.core.do_all([each for each in asked if isinstance(each, Request)])

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
