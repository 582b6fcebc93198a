"""Values that share nothing with those they were made from."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable
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
    kind = type(value)
    if kind is not list and (kind is not dict or not _are_atoms(value)):
        return None
    copy = value.copy()
    nested: list[int] = []
    for key, each in value.items() if kind is dict else enumerate(value):
        if type(each) not in _ATOMS:
            copy[key] = flat = _flat_copy(each)
            if flat is None:
                return None
            nested.append(id(each))
    return copy if len(nested) < 2 or len(set(nested)) == len(nested) else None


def _flat_copy(value: Any) -> Any:
    """A copy of a dictionary or a list of atoms; None for anything else."""
    kind = type(value)
    if kind is dict:
        return value.copy() if _are_atoms(value) and _are_atoms(value.values()) else None
    return value.copy() if kind is list and _are_atoms(value) else None


def _are_atoms(values: Iterable[Any]) -> bool:
    return _ATOMS.issuperset(map(type, values))


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)
    except Exception:  # a class that has no name here, of another program's main file; or what cannot be told apart yet
        return dumps(value, None)
