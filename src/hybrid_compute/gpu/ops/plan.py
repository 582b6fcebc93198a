"""What follows from the shapes of a call: the arrays of an operation, and the dispatches that compute it.

shapes, dtypes, facts ──> Plan of slots and dispatches ──> operation.py gives the slots their places

A plan knows no data. One that was made is used for every call of the same shapes.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hybrid_compute.errors import LimitExceeded
from hybrid_compute.gpu.ops.shader import LANES
from hybrid_compute.gpu.shapes import Shape, ceil_div

if TYPE_CHECKING:
    import numpy as np

    from hybrid_compute.gpu.facts import Facts
    from hybrid_compute.gpu.ops.shader import Shader
    from hybrid_compute.gpu.wgsl import Size
    from hybrid_compute.gpu.work import Kernel

    Array = np.ndarray[Any, np.dtype[Any]]

Role = Literal["given", "made", "between", "constant"]
_FEW_LANES = 16
"""Two of the vectors of 256 bits that a processor computes with."""
_SIZES = {"float32": 4, "float16": 2, "int32": 4, "uint32": 4}


@dataclass(frozen=True, slots=True)
class Spec:
    """Shape and dtype of an array."""

    shape: Shape
    dtype: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * _SIZES[self.dtype]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Slot:
    """An array of a plan. `constant` ones are the plan's own; `between` ones live from one dispatch to another."""

    role: Role
    number: int
    spec: Spec

    @property
    def shape(self) -> Shape:
        return self.spec.shape

    @property
    def dtype(self) -> str:
        return self.spec.dtype

    @property
    def size(self) -> int:
        return self.spec.size


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A kernel, the array for each of its bindings, its numbers as bytes, and how many workgroups there are."""

    kernel: Kernel
    bound: tuple[tuple[Role, int], ...]
    numbers: bytes
    groups: Size


@dataclass
class Plan:
    """Slots and dispatches, in the order in which they are done. Made by calling `step`."""

    facts: Facts
    given: tuple[Slot, ...]
    made: tuple[Slot, ...]
    between: list[Slot] = field(default_factory=list[Slot])
    constants: list[Array] = field(default_factory=list["Array"])
    dispatches: list[Dispatch] = field(default_factory=list[Dispatch])
    written: set[Slot] = field(default_factory=set[Slot])
    """What steps write, which is always all of it. Results that are not among them are zeros."""

    @functools.cached_property
    def results(self) -> list[tuple[Shape, str, int, bool]]:
        """Shape, dtype, bytes of all results, and whether steps write them. When all steps are there."""
        return [(slot.shape, slot.dtype, slot.spec.nbytes, slot in self.written) for slot in self.made]

    @functools.cached_property
    def sizes(self) -> list[int]:
        """Bytes of all that lies between steps. When all steps are there."""
        return [slot.spec.nbytes for slot in self.between]

    def has(self, feature: str) -> bool:
        return feature in self.facts.features

    @property
    def subgroups(self) -> bool:
        return self.has("subgroup")

    def lanes(self, length: int) -> int:
        """How many invocations go along a row of so many elements together, as one workgroup.

        A processor has them one after the other, and goes through all of them again from barrier to barrier: there
        each has 64 elements.
        """
        if not self.facts.software:
            return LANES
        return min(LANES, max(_FEW_LANES, 1 << (ceil_div(length, 64) - 1).bit_length()))

    def scratch(self, shape: Sequence[int], dtype: str) -> Slot:
        """An array for what one step leaves to another."""
        slot = Slot("between", len(self.between), Spec(tuple(shape), dtype))
        self.between.append(slot)
        return slot

    def constant(self, array: Array) -> Slot:
        """An array that is the same in every call."""
        slot = Slot("constant", len(self.constants), Spec(array.shape, array.dtype.name))
        array.setflags(write=False)  # what is on a device is found again by it
        self.constants.append(array)
        return slot

    def step(self, shader: Shader, slots: Sequence[Slot], numbers: Sequence[float], groups: int) -> None:
        """Have so many workgroups run this. It is left out where there are none."""
        if groups > 0:
            self.written.update(slots)
            packed = padded(struct.pack(shader.format, *numbers))
            bound = tuple[tuple[Role, int], ...]((slot.role, slot.number) for slot in slots)
            size = folded(groups, self.facts.workgroups)
            self.dispatches.append(Dispatch(shader.kernel, bound, packed, size))


def check(name: str, params: Sequence[str], plan: Plan) -> None:
    """Raises `LimitExceeded` for a plan that a device with its facts cannot do, and says which array is too large."""
    binding, workgroups = plan.facts.binding, plan.facts.workgroups
    given = ", ".join(f"{param} {slot.spec}" for param, slot in zip(params, plan.given, strict=True))
    arrays = [*zip(params, plan.given, strict=True), *(("a result", slot) for slot in plan.made)]
    arrays += [("what lies between its steps", slot) for slot in plan.between]
    for what, slot in arrays:
        if slot.spec.nbytes > binding:
            raise LimitExceeded(
                f"{name} of {given}: {what}, {slot.spec}, is {slot.spec.nbytes:,} bytes, more than the device binds at "
                f"once, {binding:,} (max-storage-buffer-binding-size): split it",
                backend="gpu",
            )
    if any(max(dispatch.groups) > workgroups for dispatch in plan.dispatches):
        raise LimitExceeded(
            f"{name} of {given}: that needs more than {workgroups:,} times {workgroups:,} workgroups, which is all "
            f"that the device takes (max-compute-workgroups-per-dimension): split it",
            backend="gpu",
        )


def padded(numbers: bytes) -> bytes:
    """As a uniform has them: in pieces of 16 bytes."""
    return numbers.ljust(max(16, ceil_div(len(numbers), 16) * 16), b"\0")


def folded(groups: int, most: int) -> Size:
    """So many workgroups, or a few more, in two directions, of which each takes `most`.

    In shaders theirs is `group`: they stop at the end.
    """
    rows = ceil_div(groups, most)
    return ceil_div(groups, rows), rows, 1
