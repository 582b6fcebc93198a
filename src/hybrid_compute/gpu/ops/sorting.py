"""Sorting along the last axis, and the largest few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.ops.operation import Operand, operation
from hybrid_compute.gpu.ops.pairs import largest_pairs, sorted_pairs, unpack
from hybrid_compute.gpu.ops.plan import Plan, Slot, Spec


def _axis(name: str, x: Spec) -> int:
    if not x.shape:
        raise InvalidInput(f"{name} needs an array with at least one axis, not a single number")
    return x.shape[-1]


def _sort_rules(x: Spec) -> Spec:
    _axis("sort", x)
    return x


def _sort_planner(plan: Plan, out: Sequence[Slot], x: Slot) -> None:
    if x.size:
        rows = x.size // x.shape[-1]
        (keys, _), width = sorted_pairs(plan, x, rows, x.shape[-1])
        unpack(plan, "key", out[0], [keys], rows, width)


@operation(_sort_rules, _sort_planner)
def sort(x: Operand) -> Any:
    """The array with each row of the last axis in ascending order. Exact; not-a-number comes last.

    >>> sort(np.array([3, 1, 2], "f4"))
    array([1., 2., 3.], dtype=float32)
    """
    return np.sort(x, -1)


def _pair_rules(keys: Spec, values: Spec) -> tuple[Spec, Spec]:
    _axis("sort_by_key", keys)
    if keys.shape != values.shape:
        raise InvalidInput(f"sort_by_key: keys {keys} and values {values} must be of one shape")
    return keys, values


def _pair_planner(plan: Plan, out: Sequence[Slot], keys: Slot, values: Slot) -> None:
    if keys.size:
        rows = keys.size // keys.shape[-1]
        pairs, width = sorted_pairs(plan, keys, rows, keys.shape[-1])
        unpack(plan, "key", out[0], [pairs[0]], rows, width)
        unpack(plan, "other", out[1], [values, pairs[1]], rows, width)


@operation(_pair_rules, _pair_planner, arrays=2)
def sort_by_key(keys: Operand, values: Operand) -> Any:
    """Keys in ascending order along the last axis, and the values that were beside them: `(keys, values)`.

    Equal keys stay in their order, and not-a-number comes last.

        >>> sort_by_key(np.array([3, 1], "f4"), np.array([10, 20], "i4"))
        (array([1., 3.], dtype=float32), array([20, 10], dtype=int32))
    """
    order = np.argsort(keys, -1, kind="stable")
    return np.take_along_axis(np.asarray(keys), order, -1), np.take_along_axis(np.asarray(values), order, -1)


def _top_rules(x: Spec, k: Any) -> tuple[Spec, Spec]:
    length = _axis("topk", x)
    if type(k) is not int or not 0 <= k <= length:
        raise InvalidInput(f"topk: of rows of {length} elements, in {x}, there are no {k!r} largest")
    shape = (*x.shape[:-1], k)
    return Spec(shape, x.dtype), Spec(shape, "int32")


def _top_planner(plan: Plan, out: Sequence[Slot], x: Slot, k: int) -> None:
    rows = math.prod(x.shape[:-1])
    if rows and k:
        pairs, width = largest_pairs(plan, x, rows, x.shape[-1], k)
        unpack(plan, "turned", out[0], [pairs[0]], rows, width)
        unpack(plan, "place", out[1], [pairs[1]], rows, width)


@operation(_top_rules, _top_planner)
def topk(x: Operand, k: int) -> Any:
    """The `k` largest of each row of the last axis, the largest first, and where they are: `(values, int32)`.

    Exact. Of equal ones that which comes first is first; not-a-number counts as largest.

        >>> topk(np.array([3, 1, 3, 2], "f4"), 2)
        (array([3., 3.], dtype=float32), array([0, 2], dtype=int32))
    """
    given = np.asarray(x)
    places = given.shape[-1] - 1 - np.argsort(given[..., ::-1], -1, kind="stable")[..., ::-1][..., :k]
    return np.take_along_axis(given, places, -1), places.astype("int32")
