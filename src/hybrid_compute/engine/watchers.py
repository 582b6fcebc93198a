"""What looks on inside the engine, after each action that went well, and may do more: policies, and what others make.

class Refill:
    name = "refill"

    def see(self, inside: Inside, entry: Entry) -> None:
        if not inside.state["stack"]:
            inside.dispatch("stack:reset")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from hybrid_compute.engine.turn import Told

DEPTH: Final = 10
"""How deep actions that follow from one another may nest: then nobody is asked any more."""


class Unwatched(Told):
    """A watcher has said that it, or another one, is to look on no more. Nobody else can tell such an event."""

    __slots__ = ()


class Entry(NamedTuple):
    """An action that was done, as the log keeps it."""

    serial: int
    type: str
    payload: Any
    timestamp: int
    reversible: bool = True


class Inside(Protocol):
    """The engine, as it is seen from inside."""

    @property
    def state(self) -> Any: ...

    @property
    def history(self) -> list[Entry]: ...

    def dispatch(self, type: str, payload: Any = None) -> Any:
        """Do another action, now. Raises what it raises."""
        ...

    def later(self, work: Callable[[Inside, Entry], object]) -> None:
        """Have `work` done on this action once all have seen it, and all that they did is over."""
        ...

    def tell(self, type: str, payload: Any) -> None:
        """Tell whoever listens to the engine."""
        ...

    def unwatch(self, name: str) -> None:
        """Have the watcher of this name look on no more, here and wherever the engine goes on."""
        ...


class Watcher(Protocol):
    """Somebody who looks on. What `see` raises changes no outcome, and is told as `engine:error`."""

    name: str

    def see(self, inside: Inside, entry: Entry) -> None: ...


@dataclass(slots=True)
class Policy:
    """Does `effect` after each action for which `condition` holds; after the first one only, if `once`.

    `hits` counts from 0 again where an engine goes on in another worker.
    """

    name: str
    condition: Callable[[Inside, Entry], bool]
    effect: Callable[[Inside, Entry], object]
    once: bool = False
    enabled: bool = True
    hits: int = 0

    def see(self, inside: Inside, entry: Entry) -> None:
        if not self.enabled or not self.condition(inside, entry):
            return
        self.hits += 1
        if self.once:
            inside.unwatch(self.name)
        inside.tell("policy:triggered", {"name": self.name, "hits": self.hits})
        self.effect(inside, entry)
