"""Named actions: functions of the state and a payload.

    actions = ActionRegistry()

    @actions.add("counter:add")
    def add(counter: dict[str, int], payload: dict[str, int]) -> int:
        counter["total"] += payload["by"]
        return counter["total"]

An action that raises has not been done: the engine puts the state back as it was. That takes time, and a copy of each
payload; a registry that is `careful` promises that its actions need neither, because they look first and change last,
and never change what came with a payload or went out as a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import iscoroutinefunction
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from hybrid_compute.errors import ActionNotFound

Handler: TypeAlias = Callable[[Any, Any], Any]
H = TypeVar("H", bound=Handler)
T = TypeVar("T")


class Ask(NamedTuple, Generic[T]):
    """An action to be done, with its payload; its own type says what `dispatch` gives for it."""

    type: str
    payload: Any


class Action(NamedTuple):
    """What is done under a name. One that only `reads` leaves the state as it is; for `careful` see above."""

    name: str
    handler: Handler
    reads: bool = False
    careful: bool = False


class ActionRegistry:
    """The actions of an engine, by name; those of other registries may be taken in."""

    def __init__(self, *others: ActionRegistry, careful: bool = False) -> None:
        self._careful = careful
        self._actions: dict[str, Action] = {}
        for other in others:
            self._actions.update(other._actions)

    def add(self, name: str, *, reads: bool = False) -> Callable[[H], H]:
        """Register the decorated function, which stays as it is.

        Raises `ValueError` if the name is taken, and for a coroutine function: actions do not wait for anything.
        """
        if not name:
            raise ValueError("an action needs a name")
        if name in self._actions:
            raise ValueError(f"there is an action {name!r} already: remove it first")

        def register(handler: H) -> H:
            if iscoroutinefunction(handler):
                raise ValueError(f"action {name!r} is a coroutine function: one action is over before the next begins")
            self._actions[name] = Action(name, handler, reads, self._careful)
            return handler

        return register

    def remove(self, name: str) -> None:
        """Forget an action. Raises `ActionNotFound`."""
        self[name]
        del self._actions[name]

    def __getitem__(self, name: str) -> Action:
        try:
            return self._actions[name]
        except (KeyError, TypeError):
            raise ActionNotFound(f"Unknown action: {name}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._actions

    def __iter__(self) -> Iterator[str]:
        """The names, in order."""
        return iter(sorted(self._actions))

    def __len__(self) -> int:
        return len(self._actions)
