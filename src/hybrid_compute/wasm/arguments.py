"""The arguments of a call, as a function's signature puts them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hybrid_compute.errors import InvalidInput


def by_position(
    what: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The arguments in their order, with what has a default. Raises `InvalidInput` if they are not those it takes."""
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidInput(f"{what}: {error}") from error
    bound.apply_defaults()
    return bound.args
