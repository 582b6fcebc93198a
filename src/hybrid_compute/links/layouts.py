"""Arrays at the top of a value, described instead of pickled: what most tasks on arrays take and give.

Pickle takes 15 µs to take an array apart and put it together again. Where a value is one large array of numbers, or a
short tuple of such arrays and atoms, a few fields say all there is to say.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

from hybrid_compute.links.arena import LARGE

ATOMS = frozenset({int, float, str, bytes, bool, type(None), complex})
"""Exact types whose values hold no reference: quick to pickle, and nothing in them can alias."""

NUMBERS = frozenset("?bhilqBHILQefdFD")
"""Kinds of elements (`dtype.char`) that one character says everything about."""

LONGEST = 8
"""A tuple longer than this is left to pickle, which is quicker at looking at many values."""

Place: TypeAlias = tuple[int, str, tuple[int, ...], bool]
"""`(index, dtype.char, shape, writeable)` of an array."""

Layout: TypeAlias = tuple[bool, list[Any], list[Place]]
"""Whether the value is a tuple, its items (None for each array), and the places of its arrays."""


def take_apart(value: Any) -> tuple[Layout, list[Any]] | None:
    """The layout of a value and its arrays, or None if it is of another make: then it is for pickle."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    ndarray: Any = numpy.ndarray
    several = type(value) is tuple
    if several and len(value) > LONGEST:
        return None
    items: list[Any] = list(value) if several else [value]
    arrays: list[Any] = []
    places: list[Place] = []
    for index, item in enumerate(items):
        if type(item) is ndarray:
            kind, flags = item.dtype, item.flags
            if item.nbytes < LARGE or kind.char not in NUMBERS or not kind.isnative or not flags.c_contiguous:
                return None
            arrays.append(item)
            places.append((index, kind.char, item.shape, flags.writeable))
            items[index] = None
        elif type(item) not in ATOMS or (type(item) in (str, bytes) and len(item) >= LARGE):
            return None
    if not arrays or len(set(map(id, arrays))) < len(arrays):  # pickle sees to it that one array stays one array
        return None
    return (several, items, places), arrays


def put_together(layout: Layout, views: Sequence[memoryview]) -> Any:
    """The value again, its arrays on `views`."""
    from numpy import ndarray

    several, items, places = layout
    for (index, kind, shape, writeable), view in zip(places, views, strict=True):
        items[index] = ndarray(shape, kind, view if writeable else view.toreadonly())
    return tuple(items) if several else items[0]
