"""What follows from the shapes of a call: what comes out, how many workgroups there are, how many bytes it takes."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.gpu.facts import FRAME
from hybrid_compute.gpu.shapes import Shape, bind
from hybrid_compute.gpu.wgsl import Size

if TYPE_CHECKING:
    from hybrid_compute.gpu.definition import Definition
    from hybrid_compute.gpu.facts import Facts

_MOST_PLANS = 256


class Plan:
    """What follows from the shapes of a call."""

    __slots__ = ("groups", "largest", "names", "outputs", "sizes", "total")

    def __init__(
        self, names: Mapping[str, int], outputs: Sequence[Shape], groups: Size, sizes: Mapping[str, int]
    ) -> None:
        self.names = names
        self.outputs = outputs
        self.groups = groups
        self.sizes = sizes
        """The bytes of each array."""
        self.largest = max(sizes.values())
        self.total = sum(sizes.values())

    def can_be_bound(self, facts: Facts) -> bool:
        """Whether a device takes its arrays and its workgroups."""
        return self.largest <= facts.binding and max(self.groups) <= facts.workgroups

    def is_for(self, facts: Facts) -> bool:
        """Whether a device takes it in one go."""
        together = self.total + facts.alignment * (len(self.sizes) + 1)  # at most, with its uniform
        return self.can_be_bound(facts) and together <= min(FRAME, facts.buffer)


class Planner:
    """The plans of a task: each is made once for all calls of the same shapes."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._known: dict[tuple[Any, ...], Plan] = {}

    def plan(self, shapes: Mapping[str, Shape], values: Mapping[str, Any]) -> Plan:
        """What follows from these shapes, and the whole numbers that shapes are reckoned from."""
        counts = {name: _whole(name, values[name]) for name in self._definition.counts}
        key = (*shapes.values(), *counts.values())
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MOST_PLANS:
                self._known.clear()
            known = self._known[key] = self._planned(shapes, counts)
        return known

    def _planned(self, shapes: Mapping[str, Shape], counts: Mapping[str, int]) -> Plan:
        definition = self._definition
        names = bind(((name, definition.inputs[name], shape) for name, shape in shapes.items()), counts)
        outputs = [declared.shape(names) for declared in definition.outputs.values()]
        for name, shape in zip(definition.outputs, outputs, strict=True):
            if any(size < 0 for size in shape):
                raise InvalidInput(f"{name} would have the shape {shape}")
        groups = definition.groups(names, outputs[0])
        if min(groups) < 0:
            raise InvalidInput(f"{definition.name} would need {groups} workgroups")
        sizes = {name: definition.nbytes(name, shape) for name, shape in shapes.items()}
        sizes |= {name: definition.nbytes(name, shape) for name, shape in zip(definition.outputs, outputs, strict=True)}
        return Plan(names, outputs, groups, sizes)

    def check(self, plan: Plan, facts: Facts) -> None:
        """Raises `LimitExceeded` for an array that the device cannot bind."""
        if plan.largest > facts.binding:
            name = max(plan.sizes, key=plan.sizes.__getitem__)
            raise LimitExceeded(
                f"{self._definition.name}: {name} has {plan.largest:,} bytes, and the device binds {facts.binding:,} "
                f"at once (max-storage-buffer-binding-size): split it, and call the task with each part",
                backend="gpu",
            )


def _whole(name: str, count: Any) -> int:
    """A number that shapes are reckoned from, of whatever integral type. Raises `InvalidInput`."""
    try:
        if isinstance(count, bool):
            raise TypeError
        return operator.index(count)
    except TypeError:
        raise InvalidInput(f"{name} must be a whole number: shapes are reckoned from it, not {count!r}") from None
