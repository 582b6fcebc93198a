"""What a type hint stands for, where it is a name for another: `type Image = NDArray[np.float32]`.

Such a name has no origin of its own, so whoever asks a hint for its origin looks through the name first. That of
numpy for its arrays is one of them since numpy 2.5.
"""

from __future__ import annotations

import typing
from types import GenericAlias
from typing import Annotated, Any


def unaliased(hint: Any) -> Any:
    """The hint that a `type` alias stands for, with what it was given for its parameters; any other hint as it is.

    Only the hint itself is looked at, as far as it is known at once: within it there may be aliases, and there have to
    be in one that speaks of itself. A generic alias that was given nothing keeps its type variables.

    Raises `TypeError` for an alias that stands for itself and for nothing else.
    """
    meant = hint
    for _ in range(_LONG):
        alias = _alias(meant)
        if alias is None:
            return meant
        meant = _filled(alias, typing.get_args(meant))
    raise TypeError(f"the type {hint} stands for nothing but itself")


def bare(hint: Any) -> Any:
    """The same, without what `Annotated` adds to it, on whichever side of a name."""
    meant = unaliased(hint)
    while typing.get_origin(meant) is Annotated:
        meant = unaliased(meant.__origin__)
    return meant


def endless(hint: Any, above: tuple[Any, ...] = ()) -> Any:
    """The first alias in a hint that speaks of itself, whatever it is given; None where there is none.

    Classes are not looked into: what they hold may be of their own kind.
    """
    alias = _alias(hint)
    if alias is not None and alias in above:
        return alias
    within = [(each, above) for each in typing.get_args(hint)]
    if alias is not None:
        within.append((alias.__value__, (*above, alias)))
    return next((found for each in within if (found := endless(*each)) is not None), None)


_LONG = 100  # so many names in a row, each for the next, come to no end


def _alias(hint: Any) -> Any:
    """The alias that a hint is by itself; None for other hints."""
    alias = typing.get_origin(hint) or hint
    return None if isinstance(alias, type) or not hasattr(alias, "__value__") else alias


def _filled(alias: Any, arguments: tuple[Any, ...]) -> Any:
    """The value of an alias, with these in place of its parameters."""
    if not arguments:
        return alias.__value__
    # The value alone has its parameters in an order of its own, and not those that it does not mention.
    together: Any = GenericAlias(tuple, (*_unpacked(alias.__type_params__), alias.__value__))
    return typing.get_args(together[arguments])[-1]


def _unpacked(parameters: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(part for each in parameters for part in (each if isinstance(each, typing.TypeVarTuple) else (each,)))
