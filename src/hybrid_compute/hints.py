"""What a type hint stands for, where it is a name for another: `type Image = NDArray[np.float32]`.

Such a name has no origin of its own, so whoever asks a hint for its origin looks through the name first. That of
numpy for its arrays is one of them since numpy 2.5.
"""

from __future__ import annotations

import typing
from types import GenericAlias
from typing import Any


def unaliased(hint: Any) -> Any:
    """The hint that a `type` alias stands for, with what it was given for its parameters; any other hint as it is.

    Only the hint itself is looked at, as far as it is known at once: within it there may be aliases, and there have to
    be in one that speaks of itself. A generic alias that was given nothing keeps its type variables.
    """
    alias = typing.get_origin(hint) or hint
    if isinstance(alias, type) or not hasattr(alias, "__value__"):
        return hint
    return unaliased(_filled(alias, typing.get_args(hint)))


def _filled(alias: Any, arguments: tuple[Any, ...]) -> Any:
    """The value of an alias, with these in place of its parameters."""
    if not arguments:
        return alias.__value__
    # The value alone has its parameters in an order of its own, and not those that it does not mention.
    together: Any = GenericAlias(tuple, (*_unpacked(alias.__type_params__), alias.__value__))
    return typing.get_args(together[arguments])[-1]


def _unpacked(parameters: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(part for each in parameters for part in (each if isinstance(each, typing.TypeVarTuple) else (each,)))
