"""What a gpu task declares, held against its shader: bindings, parameters and shapes. All of it plain text."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.errors import InvalidShader
from hybrid_compute.gpu.layouts import Layout, Structs, array_of
from hybrid_compute.gpu.records import Record
from hybrid_compute.gpu.shapes import Declared, Expression, Names, Shape, ceil_div
from hybrid_compute.gpu.wgsl import Access, Binding, Entry, Shader, Size, reflect

if TYPE_CHECKING:
    from hybrid_compute.gpu.work import Kernel


@dataclass(frozen=True, slots=True)
class Elements:
    """What an array of a shader consists of: numbers, or vectors, matrices and structs, which are read as a whole."""

    type: str
    """That of the array, as the shader has it."""
    scalar: str
    """What all its numbers are; an empty text where they may be of several kinds."""
    nbytes: int
    """Of one, with what follows it in an array."""
    count: int | None
    """How many there are; None if that is left to the call."""

    @classmethod
    def of(cls, kind: str, structs: Structs) -> Elements | None:
        """None if this is no array, or one of what only the compiler knows."""
        array = array_of(kind)
        element = Layout.of(array[0], structs) if array is not None else None
        return cls(kind, element.scalar, element.stride, array[1]) if array and element else None

    @property
    def least(self) -> int:
        """The bytes that must be bound to it, at least."""
        return self.nbytes * (self.count or 1)

    def fit(self, nbytes: int) -> bool:
        """Whether an array of so many bytes is one of these. An empty one is, where nobody says how many there are."""
        return nbytes % self.nbytes == 0 if self.count is None else nbytes >= self.least


@dataclass(frozen=True, slots=True)
class Uniform:
    """The uniform of a shader, and where its members come from."""

    name: str
    record: Record
    whole: bool
    """Whether one parameter is the whole record, rather than each member one."""

    def takes(self, parameter: str) -> bool:
        return self.whole or any(member.name == parameter for member in self.record.members)

    def pack(self, values: Mapping[str, Any], names: Names) -> bytes:
        """Its bytes for a call."""
        if not self.whole:
            return self.record.pack({**names, **values})
        given = values[self.name]
        try:
            members = (
                given if isinstance(given, Mapping) else {m.name: getattr(given, m.name) for m in self.record.members}
            )
            return self.record.pack(members)
        except (AttributeError, KeyError) as error:
            raise InvalidInput(f"{self.name} must have what {self.record.name} has: {error}") from None


@dataclass(frozen=True, slots=True)
class Definition:
    """A gpu task as it was declared, and found to agree with its shader."""

    name: str
    kernel: Kernel
    inputs: Mapping[str, Declared]
    outputs: Mapping[str, Declared]
    bound: tuple[str, ...]
    """The names of its bindings, by their numbers."""
    elements: Mapping[str, Elements]
    """What its arrays consist of, where the shader says that plainly."""
    uniform: Uniform | None
    counts: tuple[str, ...]
    """The parameters that shapes and workgroups are reckoned from."""
    workgroups: tuple[Expression, ...]
    entry: Entry
    batchable: bool
    parameters: tuple[str, ...]
    rows: frozenset[str]
    """The inputs that have a row for each of what comes out; of a task that is batchable."""

    @classmethod
    def of(
        cls,
        stub: Callable[..., Any],
        wgsl: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        *,
        workgroups: int | str | Sequence[int | str] | None,
        batchable: bool,
        entry: str | None,
    ) -> Definition:
        """Raises `InvalidShader` where the shader and the declarations disagree, `ValueError` for bad declarations."""
        from hybrid_compute.gpu.work import Kernel

        name, parameters = stub.__name__, tuple(inspect.signature(stub).parameters)
        shader = reflect(wgsl)
        chosen = _entry(name, shader, entry)
        given = {each: Declared.parse(text) for each, text in inputs.items()}
        made = {each: Declared.parse(text) for each, text in outputs.items()}
        elements = {
            each.name: found
            for each in shader.bindings
            if (found := Elements.of(each.type, shader.structs)) is not None
        }
        for binding in shader.bindings:
            _check(name, binding, given, made, elements.get(binding.name))
        _check_names(name, shader, given, made, parameters)
        uniform = _uniform(name, shader, given, parameters, _dims(given))
        groups = _expressions(workgroups)
        counts = _counts(name, given, made, groups, parameters)
        _check_parameters(name, parameters, given, uniform, counts)
        rows = _rows(name, given, made, elements) if batchable else frozenset[str]()
        bindings: list[tuple[int, Access]] = [(binding.number, binding.access) for binding in shader.bindings]
        return cls(
            name=name,
            kernel=Kernel(name, wgsl, chosen.name, bindings),
            inputs={each: given[each] for each in parameters if each in given},
            outputs=made,
            bound=tuple(binding.name for binding in shader.bindings),
            elements=elements,
            uniform=uniform,
            counts=counts,
            workgroups=groups,
            entry=chosen,
            batchable=batchable,
            parameters=parameters,
            rows=rows,
        )

    def nbytes(self, name: str, shape: Shape) -> int:
        """How many bytes of an array of this shape are bound. Raises `InvalidInput` if the shader cannot read it so."""
        declared, elements = self.outputs.get(name) or self.inputs[name], self.elements.get(name)
        nbytes = declared.nbytes(shape)
        if elements is None:
            return nbytes
        if not elements.fit(nbytes):
            raise InvalidInput(
                f"{self.name}: {name} is {declared.scalar}{list(shape)}, {nbytes:,} bytes; the shader has it as "
                f"{elements.type}, of {elements.nbytes} bytes each, and needs "
                + (f"{elements.count:,} of them" if elements.count else "a whole number of them")
            )
        return max(nbytes, elements.least)

    def groups(self, names: Names, first: Shape) -> Size:
        """How many workgroups a call takes."""
        if self.workgroups:
            x, y, z, *_ = [*(each.value(names) for each in self.workgroups), 1, 1]
            return x, y, z
        x, y, z = self.entry.workgroup
        count = ceil_div(math.prod(first), x * y * z)
        return (min(count, MOST) if self.entry.counts_workgroups else count), 1, 1


MOST = 65_535
"""Workgroups in one direction that every device takes."""
MOST_BYTES = 1 << 16
"""Bytes of a uniform that every device takes."""


def _entry(name: str, shader: Shader, wanted: str | None) -> Entry:
    known = ", ".join(shader.entries) or "none"
    if wanted is not None and wanted not in shader.entries:
        raise InvalidShader(f"the shader of {name} has no entry point {wanted!r}, but {known}")
    if wanted is None and len(shader.entries) != 1:
        raise InvalidShader(f"the shader of {name} needs one @compute function, or entry= to say which: it has {known}")
    return shader.entries[wanted] if wanted is not None else next(iter(shader.entries.values()))


def _check(
    name: str,
    binding: Binding,
    given: Mapping[str, Declared],
    made: Mapping[str, Declared],
    elements: Elements | None,
) -> None:
    """Whether a binding is what was declared."""
    if binding.access == "uniform":
        return
    declared = made.get(binding.name) or given.get(binding.name)
    if declared is None:
        raise InvalidShader(f"{name}: the shader binds {binding.name}, which is neither among inputs nor outputs")
    if binding.access == "read" and binding.name in made:
        raise InvalidShader(f"{name}: {binding.name} is an output, and the shader has it as var<storage, read>")
    if binding.access == "read_write" and binding.name not in made:
        raise InvalidShader(f"{name}: {binding.name} is only an input, and the shader has it as read_write")
    if binding.name in given and binding.name in made and given[binding.name] != made[binding.name]:
        raise InvalidShader(f"{name}: {binding.name} is changed in place, so it must be declared alike in both")
    if elements is not None and elements.scalar not in ("", declared.scalar):
        raise InvalidShader(f"{name}: {binding.name} is declared {declared}, and the shader has {binding.type}")


def _check_names(
    name: str,
    shader: Shader,
    given: Mapping[str, Declared],
    made: Mapping[str, Declared],
    parameters: Sequence[str],
) -> None:
    bound = {binding.name for binding in shader.bindings}
    if not made:
        raise ValueError(f"{name} has no outputs: nothing would come of it")
    for each in (*given, *made):
        if each not in bound:
            raise InvalidShader(f"{name}: {each} is declared, and the shader binds only {', '.join(sorted(bound))}")
    for each in given:
        if each not in parameters:
            raise ValueError(f"{name} has no parameter {each}, which is among its inputs")


def _uniform(
    name: str, shader: Shader, given: Mapping[str, Declared], parameters: Sequence[str], dims: frozenset[str]
) -> Uniform | None:
    others = [each for each in parameters if each not in given]
    found = [binding for binding in shader.bindings if binding.access == "uniform"]
    if len(found) > 1:
        raise InvalidShader(f"{name}: one uniform is enough, and the shader has {len(found)}")
    if not found:
        return None
    variable, kind = found[0].name, found[0].type
    if kind not in shader.structs:
        raise InvalidShader(f"{name}: the uniform {variable} must be a struct, not {kind}")
    record = Record.of(kind, shader.structs[kind])
    if record.size > MOST_BYTES:
        raise InvalidShader(
            f"{name}: {kind} has {record.size:,} bytes, and a uniform {MOST_BYTES:,} at most: make some an array"
        )
    if others == [variable]:
        return Uniform(variable, record, whole=True)
    for member in record.members:
        if member.name not in others and member.name not in dims:
            raise InvalidShader(f"{name}: nothing gives {kind}.{member.name}: no parameter, and no name in a shape")
    return Uniform(variable, record, whole=False)


def _check_parameters(
    name: str,
    parameters: Sequence[str],
    given: Mapping[str, Declared],
    uniform: Uniform | None,
    counts: Sequence[str],
) -> None:
    """Raises for one that only the twin would see."""
    for each in parameters:
        if each not in given and each not in counts and (uniform is None or not uniform.takes(each)):
            raise InvalidShader(
                f"{name}: nothing takes the parameter {each}: it is neither an input, nor a member of "
                f"{'the uniform' if uniform is None else uniform.record.name}, nor in a shape or in workgroups"
            )


def _dims(given: Mapping[str, Declared]) -> frozenset[str]:
    return frozenset(dim.name for declared in given.values() for dim in declared.dims if dim.name is not None)


def _counts(
    name: str,
    given: Mapping[str, Declared],
    made: Mapping[str, Declared],
    groups: Sequence[Expression],
    parameters: Sequence[str],
) -> tuple[str, ...]:
    """The parameters that shapes are reckoned from."""
    dims = _dims(given)
    both = sorted(dims & set(parameters))
    if both:
        raise ValueError(f"{name}: {both[0]} is a parameter and a size of an array: which of them counts?")
    shapes = [dim for declared in (*given.values(), *made.values()) for dim in declared.dims]
    wanted = {each for expression in (*shapes, *groups) for each in expression.names}
    unknown = sorted(wanted - dims - set(parameters))
    if unknown:
        raise ValueError(f"{name}: {unknown[0]} stands in a shape, and no array has it as a size, and no parameter")
    return tuple(each for each in parameters if each in wanted - dims)


def _expressions(workgroups: int | str | Sequence[int | str] | None) -> tuple[Expression, ...]:
    if workgroups is None:
        return ()
    each = [workgroups] if isinstance(workgroups, int | str) else workgroups
    if not 1 <= len(each) <= 3:
        raise ValueError(f"workgroups has one to three directions, not {len(each)}")
    return tuple(Expression(str(one)) for one in each)


def _rows(
    name: str, given: Mapping[str, Declared], made: Mapping[str, Declared], elements: Mapping[str, Elements]
) -> frozenset[str]:
    """The inputs of which calls can be joined: they have as many rows as everything that comes out."""
    lengths = {declared.dims[0].name if declared.dims else None for declared in made.values()}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(f"{name} is batchable, so all outputs must begin with the same name: f32[n], f32[n, 4]")
    rows = frozenset(each for each, declared in given.items() if declared.dims and declared.dims[0].name in lengths)
    if not rows:
        raise ValueError(f"{name} is batchable, so an input must have the rows of its outputs")
    (length,) = lengths
    for declared in (*given.values(), *made.values()):
        others = declared.dims[1:] if declared.dims and declared.dims[0].name == length else declared.dims
        if any(length in dim.names for dim in others):
            raise ValueError(f"{name} is batchable, and {declared} would grow with the number of calls, by {length}")
    for each in (*rows, *made):
        if each in elements and elements[each].count is not None:
            raise ValueError(
                f"{name} is batchable, and the shader has {each} as {elements[each].type}, of so many rows"
            )
    return rows
