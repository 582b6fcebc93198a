"""How an array is walked: sizes and strides, in elements, with as few directions as will do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.shapes import Shape

Strides = tuple[int, ...]


def broadcast(name: str, *shapes: Shape) -> Shape:
    """The shape that these have together, by numpy's rules. Raises `InvalidInput` if they have none."""
    made: list[int] = []
    for sizes in itertools.zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        wanted = {size for size in sizes if size != 1} or {1}
        if len(wanted) > 1:
            raise InvalidInput(f"{name}: the shapes {' and '.join(map(str, shapes))} do not fit together")
        made += wanted
    return tuple(reversed(made))


def strides(shape: Shape) -> Strides:
    """Of an array that lies row after row."""
    made: list[int] = []
    step = 1
    for size in reversed(shape):
        made.append(step)
        step *= size
    return tuple(reversed(made))


def spread(shape: Shape, over: Shape) -> Strides:
    """The strides of an array that is broadcast to the shape `over`: 0 where it is repeated."""
    missing = len(over) - len(shape)
    own = [0 if size == 1 else step for size, step in zip(shape, strides(shape), strict=True)]
    return (0,) * missing + tuple(own)


def collapsed(shape: Shape, walks: Sequence[Strides]) -> tuple[Shape, list[Strides]]:
    """The same walks with directions joined where all of them can be, and those of size 1 left out."""
    dims: list[int] = []
    steps: list[list[int]] = [[] for _ in walks]
    for size, *each in zip(shape, *walks, strict=True):
        if size == 1:
            continue
        if dims and all(known[-1] == step * size for known, step in zip(steps, each, strict=True)):
            dims[-1] *= size
            for known, step in zip(steps, each, strict=True):
                known[-1] = step
            continue
        dims.append(size)
        for known, step in zip(steps, each, strict=True):
            known.append(step)
    if not dims:
        return (1,), [(1,) for _ in walks]
    return tuple(dims), [tuple(known) for known in steps]


def walk(index: str, dims: Sequence[str], walks: dict[str, Sequence[str]]) -> str:
    """Lines of WGSL that reckon, for the element with number `index`, where each walk is.

    `dims` are the sizes of the directions, without the outermost.
    """
    rank = len(dims) + 1
    lines = [f"var rest = {index};"]
    for at in range(rank - 1, 0, -1):
        lines += [f"let i{at} = rest % {dims[at - 1]};", f"rest /= {dims[at - 1]};"]
    lines.append("let i0 = rest;")
    for name, steps in walks.items():
        lines.append(f"let {name} = {' + '.join(f'i{at} * {step}' for at, step in enumerate(steps))};")
    return "\n".join(lines)
