"""`@gpu_task`: a shader with its twin for the processor, as one task.

name, shapes, parameters ──> definition.py says what crosses; here a call becomes work for a device
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from hybrid_compute.errors import InvalidInput, LimitExceeded
from hybrid_compute.gpu.checking import check
from hybrid_compute.gpu.computable import Computable
from hybrid_compute.gpu.definition import Definition
from hybrid_compute.gpu.facts import FRAME
from hybrid_compute.gpu.shapes import DTYPES, Shape, bind
from hybrid_compute.gpu.wgsl import Size, features
from hybrid_compute.tasks import Task

if TYPE_CHECKING:
    from hybrid_compute.gpu.facts import Facts
    from hybrid_compute.gpu.work import Output, Place, Reply, Work

P = ParamSpec("P")
R = TypeVar("R")
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

    def is_for(self, facts: Facts) -> bool:
        """Whether a device takes it in one go."""
        together = self.total + facts.alignment * (len(self.sizes) + 1)  # at most, with its uniform
        return (
            self.largest <= facts.binding
            and together <= min(FRAME, facts.buffer)
            and max(self.groups) <= facts.workgroups
        )


class GpuFunction(Computable):
    """A function that a device can compute. Calling it runs its twin on the processor, in this thread."""

    def __init__(self, definition: Definition, cpu: Callable[..., Any], stub: Callable[..., Any]) -> None:
        functools.update_wrapper(self, stub)
        self.definition = definition
        self.cpu = cpu
        self.signature = inspect.signature(stub)
        self._stub = stub
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def here(self, *args: Any, **kwargs: Any) -> Any:
        return self.cpu(*map(_fetched, args), **{name: _fetched(each) for name, each in kwargs.items()})

    def positional(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments in the order of the parameters. Raises `InvalidInput` if they are not what those ask for."""
        if not kwargs and len(args) == len(self.definition.parameters):
            return args
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidInput(f"{self.definition.name}: {error}") from error
        bound.apply_defaults()
        return tuple(bound.arguments.values())

    def all_positional(self, calls: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        if set(map(len, calls)) == {len(self.definition.parameters)}:  # a fifth of the time that a look at each takes
            return calls
        return super().all_positional(calls)

    def work(self, args: tuple[Any, ...], facts: Facts, reply: Reply) -> Work:
        """What a device has to do for a call. Raises `InvalidInput` for arguments that do not fit."""
        from hybrid_compute.gpu.array import OnDevice
        from hybrid_compute.gpu.work import Kept, Output, Uniform, Upload

        definition = self.definition
        values = dict(zip(definition.parameters, args, strict=True))
        arrays = {name: _checked(name, values[name], declared.dtype) for name, declared in definition.inputs.items()}
        plan = self._plan({name: array.shape for name, array in arrays.items()}, values)
        if plan.largest > facts.binding:
            raise self._too_large(plan, facts)
        stays = any(isinstance(array, OnDevice) for array in arrays.values())
        places: dict[str, Place] = {}
        results: list[Output] = []
        for (name, declared), shape in zip(definition.outputs.items(), plan.outputs, strict=True):
            given = arrays.get(name)
            if isinstance(given, OnDevice):
                raise InvalidInput(f"{name} is changed in place, and what lies on a device never is: fetch it first")
            place = (Kept if stays else Output)(shape, declared.dtype, plan.sizes[name], given)
            results.append(place)
            places[name] = place
        for name, array in arrays.items():
            if name not in places:
                nbytes = plan.sizes[name]
                places[name] = array.resident(nbytes) if isinstance(array, OnDevice) else Upload(array, nbytes)
        if definition.uniform is not None:
            places[definition.uniform.name] = Uniform(definition.uniform.pack(values, plan.names))
        return self._work(places, results, plan, reply)

    def _work(self, places: Mapping[str, Place], results: Sequence[Output], plan: Plan, reply: Reply) -> Work:
        from hybrid_compute.gpu.work import Step, Work

        ordered = [places[name] for name in self.definition.bound]
        steps = () if 0 in plan.groups else (Step(self.definition.kernel, ordered, plan.groups),)
        return Work(steps, ordered, results, reply)

    # What a call asks for.

    def _plan(self, shapes: Mapping[str, Shape], values: Mapping[str, Any]) -> Plan:
        """What follows from these shapes, and the whole numbers that shapes are reckoned from."""
        counts = {name: _whole(name, values[name]) for name in self.definition.counts}
        key = (*shapes.values(), *counts.values())
        known = self._plans.get(key)
        if known is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            known = self._plans[key] = self._planned(shapes, counts)
        return known

    def _planned(self, shapes: Mapping[str, Shape], counts: Mapping[str, int]) -> Plan:
        definition = self.definition
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

    def _too_large(self, plan: Plan, facts: Facts) -> LimitExceeded:
        name = max(plan.sizes, key=plan.sizes.__getitem__)
        return LimitExceeded(
            f"{self.definition.name}: {name} has {plan.largest:,} bytes, and the device binds {facts.binding:,} at "
            f"once (max-storage-buffer-binding-size): split it, and call the task with each part",
            backend="gpu",
        )

    def lacks(self, facts: Facts) -> str:
        return ", ".join(sorted(self._features - facts.features))

    @functools.cached_property
    def _features(self) -> frozenset[str]:
        return features(self.definition.kernel.source)

    # Many calls as one.

    def joinable(self, calls: Sequence[tuple[Any, ...]], facts: Facts) -> int:
        if not self.definition.batchable:
            return 1
        columns = self._columns(calls)
        if not all(self._is_one_kind(name, column) for name, column in columns.items()):
            return 1
        first = {name: column[0] for name, column in columns.items()}
        try:
            return most(len(calls), lambda count: self._plan_for(first, count).is_for(facts))
        except InvalidInput:  # each will be told so for itself
            return 1

    def joined(self, calls: Sequence[tuple[Any, ...]], reply: Reply) -> Work:
        from hybrid_compute.gpu.work import Output, Uniform, Upload

        definition, columns = self.definition, self._columns(calls)
        first = {name: column[0] for name, column in columns.items()}
        plan = self._plan_for(first, len(calls))
        places: dict[str, Place] = {}
        results: list[Output] = []
        for (name, declared), shape in zip(definition.outputs.items(), plan.outputs, strict=True):
            place = Output(shape, declared.dtype, plan.sizes[name], columns.get(name))
            results.append(place)
            places[name] = place
        for name in definition.inputs:
            if name not in places:
                places[name] = Upload(columns[name] if name in definition.rows else first[name], plan.sizes[name])
        if definition.uniform is not None:
            places[definition.uniform.name] = Uniform(definition.uniform.pack(first, plan.names))
        return self._work(places, results, plan, reply)

    def _columns(self, calls: Sequence[tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        """What the calls give for each parameter."""
        return dict(zip(self.definition.parameters, zip(*calls, strict=True), strict=True))

    def _plan_for(self, first: Mapping[str, Any], count: int) -> Plan:
        """The plan for so many calls like the first."""
        shapes: dict[str, Shape] = {}
        for name in self.definition.inputs:
            shape = first[name].shape
            shapes[name] = (count * shape[0], *shape[1:]) if name in self.definition.rows else shape
        return self._plan(shapes, first)

    def _is_one_kind(self, name: str, column: Sequence[Any]) -> bool:
        """Whether what is given for a parameter lets the calls be joined."""
        declared, first = self.definition.inputs.get(name), column[0]
        if declared is None:
            return type(first) in (int, float) and all(type(each) is type(first) and each == first for each in column)
        if set(map(type, column)) != {_arrays()[0]} or first.dtype != declared.dtype:
            return False
        if name not in self.definition.rows:
            return all(each is first for each in column)
        return first.ndim > 0 and len({each.shape for each in column}) == 1 == len({each.dtype for each in column})

    def __repr__(self) -> str:
        return f"<GpuFunction {self.definition.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return GpuFunction, (self.definition, self.cpu, self._stub)


def most(count: int, fits: Callable[[int], bool]) -> int:
    """How many of so many fit, where fewer always fit if more do; at least one is taken."""
    if fits(count):
        return count
    taken, refused = 1, count
    while refused - taken > 1:
        middle = (taken + refused) // 2
        taken, refused = (middle, refused) if fits(middle) else (taken, middle)
    return taken


@functools.cache
def _arrays() -> tuple[Any, ...]:
    """The types of arrays: numpy is loaded with the first of them."""
    import numpy as np

    from hybrid_compute.gpu.array import OnDevice

    return np.ndarray, OnDevice


def _fetched(value: Any) -> Any:
    """An array of this process for one on a device. Raises `BackendClosed` if that is gone."""
    _, on_device = _arrays()
    return value.__array__() if isinstance(value, on_device) else value


def _whole(name: str, count: Any) -> int:
    """A number that shapes are reckoned from, of whatever integral type. Raises `InvalidInput`."""
    try:
        if isinstance(count, bool):
            raise TypeError
        return operator.index(count)
    except TypeError:
        raise InvalidInput(f"{name} must be a whole number: shapes are reckoned from it, not {count!r}") from None


def _checked(name: str, value: Any, dtype: str) -> Any:
    """An array of the right kind, of this process or of a device."""
    if not isinstance(value, _arrays()):
        raise InvalidInput(f"{name} must be an array of {dtype}, not {type(value).__name__}")
    if value.dtype != dtype:
        raise InvalidInput(f"{name} is an array of {value.dtype}, and {dtype} is declared: {name}.astype({dtype!r})")
    return value


def upload(array: Any, reply: Reply) -> Work:
    """What a device has to do to have a copy of an array. Raises `InvalidInput` for numbers that it does not know."""
    import numpy as np

    from hybrid_compute.gpu.work import Kept, Work

    given = np.asarray(array)
    if given.dtype.name not in DTYPES.values():
        raise InvalidInput(f"a gpu has no {given.dtype.name}, but {', '.join(DTYPES.values())}: use astype")
    place = Kept(given.shape, given.dtype.name, given.nbytes, given)
    return Work((), [place], [place], reply)


def gpu_task(
    *,
    wgsl: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    workgroups: int | str | Sequence[int | str] | None = None,
    cpu: Callable[..., Any] | None = None,
    batchable: bool = False,
    entry: str | None = None,
    **facts: Any,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a shader and a function of numpy that does the same into one task, which runs on a gpu or anywhere.

    The function's body is the twin for the processor, unless `cpu` is another function. `inputs` and `outputs` say
    what the storage variables of the shader are: `{"x": "f32[n]", "y": "f32[n, 4]"}`. A variable that is in both is
    changed in place. All other parameters are members of its uniform, as are the names in the shapes, if it has
    members of these names.

    `workgroups` are expressions of these names, one for each direction: `("ceil_div(n, 64)", "m")`. Without them there
    is one invocation for each element of the first output. Outputs begin as zeros. A `batchable` task does the same to
    each row, so that many calls can be joined to one. `facts` are those of `@task`.

    Raises `InvalidShader` where the shader and the declarations disagree, with line and column where it does not
    compile.

        >>> @gpu_task(
        ...     wgsl='''
        ...         struct Line { slope: f32, start: f32 }
        ...         @group(0) @binding(0) var<storage, read> x: array<f32>;
        ...         @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        ...         @group(0) @binding(2) var<uniform> line: Line;
        ...         @compute @workgroup_size(64)
        ...         fn main(@builtin(global_invocation_id) id: vec3u) {
        ...             if (id.x < arrayLength(&x)) { y[id.x] = line.slope * x[id.x] + line.start; }
        ...         }''',
        ...     inputs={"x": "f32[n]"},
        ...     outputs={"y": "f32[n]"},
        ...     batchable=True,
        ... )
        ... def along(x: Floats, slope: float, start: float) -> Floats:
        ...     return slope * x + start
    """

    def made(stub: Callable[P, R]) -> Task[P, R]:
        definition = Definition.of(stub, wgsl, inputs, outputs, workgroups=workgroups, batchable=batchable, entry=entry)
        check(definition.kernel)
        function = GpuFunction(definition, cpu or stub, stub)
        return Task(function, cost="gpu", **facts)

    return made
