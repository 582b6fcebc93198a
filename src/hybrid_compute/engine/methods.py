"""Actions that are the methods of a class: `engine.dispatch(Deck.draw, count=2)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hybrid_compute.engine.actions import ActionRegistry
from hybrid_compute.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class _Method:
    """An action that calls a method with the payload as its arguments by name."""

    fn: Callable[..., Any]

    def __call__(self, state: Any, payload: Any, /) -> Any:
        return self.fn(state, **payload)


def actions_of(cls: type) -> ActionRegistry:
    """The public methods of a class, each under its own name. Raises `ValueError` for a coroutine function."""
    actions = ActionRegistry()
    for name, fn in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_"):
            register = actions.add(name)
            register(fn if inspect.iscoroutinefunction(fn) else _Method(fn))  # which refuses the one
    return actions


def named(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of a method's action, and its payload. Raises `InvalidInput` if it does not take such arguments."""
    try:
        bound = inspect.signature(fn).bind(None, *args, **kwargs)
    except TypeError as error:
        raise InvalidInput(f"action {fn.__name__!r} does not take these arguments: {error}") from error
    state = next(iter(bound.arguments))
    return fn.__name__, {name: value for name, value in bound.arguments.items() if name != state}
