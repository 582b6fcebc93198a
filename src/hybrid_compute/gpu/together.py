"""Many calls of a gpu task, of one kind, as a few works for a device.

batchable   one dispatch over the rows of all calls
any other   one dispatch for each, with the arrays of all calls in a row: they are laid out, copied, bound and
            fetched together, where doing so for each takes ten times what its dispatch does
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.calls import in_order
from hybrid_compute.gpu.definition import Definition
from hybrid_compute.gpu.facts import FRAME, Facts
from hybrid_compute.gpu.planning import Plan, Planner
from hybrid_compute.gpu.shapes import Shape
from hybrid_compute.gpu.work import Output, Piece, Place, Reply, Series, Step, Uniform, Upload, Work, words

SERIES = 512
"""Dispatches in a row, at most: what is bound in them is kept for the next time."""


@dataclass(frozen=True, slots=True)
class Column:
    """What many calls give for a parameter."""

    values: Sequence[Any]
    same: bool
    """Whether all give the same."""

    def part(self, begin: int, end: int) -> Column:
        return Column(self.values[begin:end], self.same)


Columns = Mapping[str, Column]
Waiting = Callable[[int, int], Reply]
"""Who waits for the calls from one number to another."""
Apart = Callable[[Sequence[tuple[Any, ...]], Waiting], list[Work]]
"""Makes a work of each call."""


class Together:
    """How a task does many calls at once. Its `parts` are those that go to the device as one work each."""

    def __init__(self, definition: Definition, planner: Planner, facts: Facts, apart: Apart) -> None:
        self._apart = apart
        self._definition = definition
        self._planner = planner
        self._facts = facts

    def works(self, calls: Sequence[tuple[Any, ...]], reply: Waiting) -> list[Work] | None:
        """The works, where `reply` tells who waits for the calls from one number to another; None if there are none.

        There are none if the calls are of different kinds, or one of them does not fit, or each is large.
        """
        columns = _columns(self._definition, calls)
        if columns is None:
            return None
        try:
            size, work = self._joining(columns, len(calls)) or self._lining_up(columns) or (1, None)
            if work is None or size == 1:
                return None
            parts = [(begin, min(begin + size, len(calls))) for begin in range(0, len(calls), size)]
            works = [work(_part(columns, begin, end), reply(begin, end)) for begin, end in parts]
        except InvalidInput:  # of one call, which will be told so
            return None
        for (begin, end), each in zip(parts, works, strict=True):
            if end - begin > 1:
                each.split = partial(self._apart, calls[begin:end], _from(begin, reply))
        return works

    # All rows of all calls, in one dispatch.

    def _joining(self, columns: Columns, count: int) -> tuple[int, Callable[[Columns, Reply], Work]] | None:
        definition = self._definition
        if not definition.batchable or not all(columns[name].same or name in definition.rows for name in columns):
            return None
        if not all(columns[name].values[0].ndim for name in definition.rows):
            return None
        self._joined_plan(columns, 1)  # what is refused alone is refused in company
        return most(count, lambda many: self._joined_plan(columns, many).is_for(self._facts)), self._joined

    def _joined_plan(self, columns: Columns, count: int) -> Plan:
        rows = self._definition.rows
        shapes = _shapes(self._definition, columns)
        many = {name: (count * shape[0], *shape[1:]) if name in rows else shape for name, shape in shapes.items()}
        return self._planner.plan(many, _firsts(columns))

    def _joined(self, columns: Columns, reply: Reply) -> Work:
        definition, count = self._definition, _count(columns)
        plan = self._joined_plan(columns, count)
        places: dict[str, Place] = {}
        results: list[Output] = []
        for (name, declared), (rows, *shape) in zip(definition.outputs.items(), plan.outputs, strict=True):
            initial = columns[name].values if name in columns else None
            place = Output(
                _each((rows // count, *shape), count), declared.dtype, plan.sizes[name], initial, parts=count
            )
            results.append(place)
            places[name] = place
        for name in definition.inputs:
            if name not in places:
                values = columns[name].values
                places[name] = Upload(values if name in definition.rows else values[0], plan.sizes[name])
        if definition.uniform is not None:
            places[definition.uniform.name] = Uniform(definition.uniform.pack(_firsts(columns), plan.names))
        ordered = in_order(definition, places)
        steps = [Step(definition.kernel, ordered, plan.groups)] if all(plan.groups) else ()
        return Work(steps, ordered, results, reply)

    # A dispatch for each call.

    def _lining_up(self, columns: Columns) -> tuple[int, Callable[[Columns, Reply], Work]] | None:
        definition, facts = self._definition, self._facts
        if not all(columns[name].same for name in definition.counts):
            return None
        plan = self._planner.plan(_shapes(definition, columns), _firsts(columns))
        if not plan.can_be_bound(facts) or not all(plan.groups) or not all(plan.sizes.values()):
            return None
        each = sum(self._stride(nbytes) for nbytes in plan.sizes.values())
        each += self._stride(definition.uniform.record.size if definition.uniform is not None else 0)
        return max(1, min(SERIES, min(FRAME, facts.buffer) // each)), self._lined_up

    def _lined_up(self, columns: Columns, reply: Reply) -> Work:
        definition, count = self._definition, _count(columns)
        plan = self._planner.plan(_shapes(definition, columns), _firsts(columns))
        places: dict[str, Place] = {}
        pieces: dict[str, Piece] = {}
        results: list[Output] = []
        for (name, declared), shape in zip(definition.outputs.items(), plan.outputs, strict=True):
            initial = columns[name].values if name in columns else None
            stride = self._stride(plan.sizes[name])
            place = Output(_each(shape, count), declared.dtype, stride * count, initial, stride=stride, parts=count)
            results.append(place)
            places[name], pieces[name] = place, Piece(words(plan.sizes[name]), stride)
        for name in definition.inputs:
            if name not in places:
                places[name], pieces[name] = self._given(columns[name], plan.sizes[name], count)
        if definition.uniform is not None:
            name = definition.uniform.name
            places[name], pieces[name] = self._uniform(columns, plan, count)
        ordered = in_order(definition, places)
        bound = [pieces[name] for name in definition.bound]
        return Work([Series(definition.kernel, ordered, plan.groups, bound, count)], ordered, results, reply)

    def _given(self, column: Column, nbytes: int, count: int) -> tuple[Place, Piece]:
        """Arrays with a piece for each call; one that all of them share goes there once."""
        if column.same:
            return Upload(column.values[0], nbytes), Piece(words(nbytes), 0)
        stride = self._stride(nbytes)
        return Upload(column.values, stride * count, stride=stride), Piece(words(nbytes), stride)

    def _uniform(self, columns: Columns, plan: Plan, count: int) -> tuple[Place, Piece]:
        uniform = self._definition.uniform
        assert uniform is not None
        if all(column.same for name, column in columns.items() if name not in self._definition.inputs):
            data = uniform.pack(_firsts(columns), plan.names)
            return Uniform(data), Piece(words(len(data)), 0)
        others = [name for name in columns if name not in self._definition.inputs]
        each = [
            uniform.pack(dict(zip(others, values, strict=True)), plan.names)
            for values in zip(*(columns[name].values for name in others), strict=True)
        ]
        stride = self._stride(len(each[0]))
        return Uniform(b"".join(data.ljust(stride, b"\0") for data in each)), Piece(words(len(each[0])), stride)

    def _stride(self, nbytes: int) -> int:
        """The bytes from one piece to the next: each begins where it can be bound."""
        alignment = self._facts.alignment
        return -(-nbytes // alignment) * alignment


def _columns(definition: Definition, calls: Sequence[tuple[Any, ...]]) -> Columns | None:
    """What the calls give for each parameter; None if their arrays differ in kind, or have nothing in them."""
    columns: dict[str, Column] = {}
    for name, values in zip(definition.parameters, zip(*calls, strict=True), strict=True):
        declared = definition.inputs.get(name)
        if declared is None:
            columns[name] = Column(values, _is_one_number(values))
        elif _is_one_kind(values, declared.dtype):
            columns[name] = Column(values, len(set(map(id, values))) == 1)
        else:
            return None
    return columns


def _is_one_number(values: Sequence[Any]) -> bool:
    """Whether all are the same number. Nothing is said of what is no plain number."""
    first = values[0]
    if type(first) not in (int, float) or set(map(type, values)) != {type(first)}:
        return False
    same = values.count(first) == len(values)
    return same and (first != 0 or len(set(map(math.copysign, repeat(1.0), values))) == 1)  # 0.0 equals -0.0


def _is_one_kind(values: Sequence[Any], dtype: str) -> bool:
    """Whether all are arrays of this process, of one shape and of this kind of numbers; and there are any in them."""
    if set(map(type, values)) != {np.ndarray} or not values[0].size:
        return False
    return len({each.shape for each in values}) == 1 and {each.dtype for each in values} == {np.dtype(dtype)}


def _shapes(definition: Definition, columns: Columns) -> dict[str, Shape]:
    return {name: columns[name].values[0].shape for name in definition.inputs}


def _firsts(columns: Columns) -> dict[str, Any]:
    return {name: column.values[0] for name, column in columns.items()}


def _count(columns: Columns) -> int:
    return len(next(iter(columns.values())).values)


def _each(shape: Shape, count: int) -> Shape:
    """The shape of what comes of so many calls; of one alone it is that of its own."""
    return shape if count == 1 else (count, *shape)


def _from(begin: int, reply: Waiting) -> Waiting:
    """The same, where numbers begin anew with this one."""
    return lambda first, last: reply(begin + first, begin + last)


def _part(columns: Columns, begin: int, end: int) -> Columns:
    return {name: column.part(begin, end) for name, column in columns.items()}


def most(count: int, fits: Callable[[int], bool]) -> int:
    """How many of so many fit, where fewer always fit if more do; at least one is taken."""
    if fits(count):
        return count
    taken, refused = 1, count
    while refused - taken > 1:
        middle = (taken + refused) // 2
        taken, refused = (middle, refused) if fits(middle) else (taken, middle)
    return taken
