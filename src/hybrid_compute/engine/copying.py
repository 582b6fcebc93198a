"""Values that share nothing with those they were made from."""

from __future__ import annotations

import copy
import pickle
from typing import Any

from hybrid_compute.links.codec import dumps

_ATOMS = frozenset({int, float, str, bool, bytes, type(None)})


def copied(value: Any) -> Any:
    """A value that shares nothing with the one that was given."""
    if type(value) in _ATOMS:
        return value
    simple = _simple_copy(value)  # most payloads and results: three times as quick
    return pickle.loads(_pickled(value)) if simple is None else simple


def copy_of(state: Any) -> Any:
    """A state that shares with this one nothing that changes. A class may know a quick way: `__deepcopy__`."""
    return copy.deepcopy(state) if hasattr(type(state), "__deepcopy__") else pickle.loads(_pickled(state))


def _simple_copy(value: Any) -> Any:
    """A copy of a dictionary or a list of atoms, or of such dictionaries and lists; None for anything else.

    None as well if one of those is in it twice: pickle knows how to keep that.
    """
    if (nested := _nested_in(value)) is None:
        return None
    copy = value.copy()
    for key in nested:
        if _nested_in(value[key]) != []:
            return None
        copy[key] = value[key].copy()
    return copy if len(nested) < 2 or len({id(value[key]) for key in nested}) == len(nested) else None


def _nested_in(value: Any) -> list[Any] | None:
    """Where in a dictionary or a list there is more than an atom; None if it is neither."""
    kind = type(value)
    if kind is dict and _ATOMS.issuperset(map(type, value)):
        return [key for key, each in value.items() if type(each) not in _ATOMS]
    return [at for at, each in enumerate(value) if type(each) not in _ATOMS] if kind is list else None


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)
    except Exception:  # a class that has no name here, of another program's main file; or what cannot be told apart yet
        return dumps(value, None)
