"""`@gpu_task`: a shader with its twin for the processor, as one task.

definition.py   what crosses: names, shapes, parameters
planning.py     what follows from the shapes of a call
calls.py        a call as work for a device
together.py     many calls as a few works
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.checking import check
from hybrid_compute.gpu.computable import Computable
from hybrid_compute.gpu.definition import Definition
from hybrid_compute.gpu.planning import Planner
from hybrid_compute.gpu.wgsl import features
from hybrid_compute.tasks import Task

if TYPE_CHECKING:
    from hybrid_compute.gpu.facts import Facts
    from hybrid_compute.gpu.work import Reply, Work

P = ParamSpec("P")
R = TypeVar("R")


class GpuFunction(Computable):
    """A function that a device can compute. Calling it runs its twin on the processor, in this thread."""

    def __init__(self, definition: Definition, cpu: Callable[..., Any], stub: Callable[..., Any]) -> None:
        functools.update_wrapper(self, stub)
        self.definition = definition
        self.cpu = cpu
        self.signature = inspect.signature(stub)
        self._stub = stub
        self._planner = Planner(definition)

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
        from hybrid_compute.gpu.calls import work

        return work(self.definition, self._planner, args, facts, reply)

    def works(self, calls: Sequence[tuple[Any, ...]], facts: Facts, reply: Callable[[int, int], Reply]) -> list[Work]:
        from hybrid_compute.gpu.together import Together

        def apart(calls: Sequence[tuple[Any, ...]], reply: Callable[[int, int], Reply]) -> list[Work]:
            return super(GpuFunction, self).works(calls, facts, reply)

        if len(calls) == 1:
            return apart(calls, reply)
        together = Together(self.definition, self._planner, facts, apart).works(calls, reply)
        return apart(calls, reply) if together is None else together

    def lacks(self, facts: Facts) -> str:
        return ", ".join(sorted(self._features - facts.features))

    @functools.cached_property
    def _features(self) -> frozenset[str]:
        return features(self.definition.kernel.source)

    def __repr__(self) -> str:
        return f"<GpuFunction {self.definition.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return GpuFunction, (self.definition, self.cpu, self._stub)


def _fetched(value: Any) -> Any:
    """An array of this process for one on a device. Raises `BackendClosed` if that is gone."""
    from hybrid_compute.gpu.array import OnDevice

    return value.__array__() if isinstance(value, OnDevice) else value


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
    members of these names; or whole numbers that stand in a shape or in `workgroups`.

    `workgroups` are expressions of these names, one for each direction: `("ceil_div(n, 64)", "m")`. Without them there
    is one invocation for each element of the first output. Outputs begin as zeros. A `batchable` task does the same to
    each row, so that many calls can be joined to one. `facts` are those of `@task`.

    Raises `InvalidShader` where the shader and the declarations disagree, or a parameter is taken by neither, with line
    and column where it does not compile.

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
