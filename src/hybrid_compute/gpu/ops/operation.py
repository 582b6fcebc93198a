"""An operation on arrays: a task that numpy computes here, and a device by a plan.

arguments ── rules ──> specs of the results      both here and there, so that both refuse the same
              plan ──> dispatches                once for each combination of shapes
            places ──> work for the device       for each call
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.arguments import not_an_array
from hybrid_compute.gpu.array import Array, GpuArray, OnDevice
from hybrid_compute.gpu.computable import Computable
from hybrid_compute.gpu.facts import Facts
from hybrid_compute.gpu.ops.half import narrow, widen
from hybrid_compute.gpu.ops.plan import Plan, Role, Slot, Spec, check
from hybrid_compute.gpu.shapes import DTYPES
from hybrid_compute.gpu.work import Constant, Kept, Output, Place, Reply, Scratch, Step, Uniform, Upload, Work
from hybrid_compute.tasks import Task

P = ParamSpec("P")
R = TypeVar("R")

Operand: TypeAlias = Array | GpuArray
"""An array of this process, or one that lies on a device."""
Rules: TypeAlias = Callable[..., Spec | tuple[Spec, ...]]
"""From the parameters, with a `Spec` for each array, to what comes out. Raises `InvalidInput`."""
Planner: TypeAlias = Callable[..., None]
"""Adds the dispatches to a plan: called with the plan, its results, and the parameters with a `Slot` for each array."""


class Decorator(Protocol):
    """Makes a function an operation, with the same parameters."""

    def __call__(self, twin: Callable[P, R], /) -> Task[P, R]: ...


Known: TypeAlias = dict[Role, Sequence[Place]]
"""The places of a plan's slots, in one call."""

_DTYPES = frozenset(DTYPES.values())
_NUMBERS = (int, float, np.generic)
_PLAIN = (int, bool, float, type(None))
_MOST_PLANS = 256


class Operation(Computable):
    """An operation, which numpy computes here and a device by its plan."""

    def __init__(self, twin: Callable[..., Any], rules: Rules, planner: Planner, arrays: int, half: bool) -> None:
        functools.update_wrapper(self, twin)
        self.name = twin.__name__
        self.signature = inspect.signature(twin)
        self._twin = twin
        self._rules = rules
        self._planner = planner
        self._arrays = arrays
        self._half = half
        self._names = tuple(self.signature.parameters)
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def here(self, *args: Any, **kwargs: Any) -> Any:
        args = self.positional(args, kwargs)
        args = tuple(np.asarray(each) if isinstance(each, OnDevice) else each for each in args)
        self._results(self._specs(args))
        found = self._twin(*args)
        return tuple(map(np.asarray, found)) if isinstance(found, tuple) else np.asarray(found)

    def positional(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments in the order of the parameters: plain numbers beside arrays as arrays, and options as plain."""
        if kwargs or len(args) != len(self._names):
            try:
                bound = self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise InvalidInput(f"{self.name}: {error}") from error
            bound.apply_defaults()
            args = bound.args
        arrays, options = args[: self._arrays], args[self._arrays :]
        if any(isinstance(each, _NUMBERS) for each in arrays):
            arrays = self._as_arrays(arrays)
        return (*arrays, *map(_plain, options)) if options else arrays

    def work(self, args: tuple[Any, ...], facts: Facts, reply: Reply) -> Work:
        plan = self.plan(args, facts)
        arrays = [each for each in args[: self._arrays] if each is not None]
        stays = any(isinstance(each, OnDevice) for each in arrays)
        kind = Kept if stays else Output
        results = [kind(shape, dtype, nbytes, written=written) for shape, dtype, nbytes, written in plan.results]
        known: Known = {
            "given": [each.resident() if isinstance(each, OnDevice) else Upload(each, each.nbytes) for each in arrays],
            "made": results,
            "between": [Scratch(nbytes) for nbytes in plan.sizes],
            "constant": [Constant(each) for each in plan.constants],
        }
        places = [place for some in known.values() for place in some]
        steps: list[Step] = []
        for dispatch in plan.dispatches:
            numbers = Uniform(dispatch.numbers)
            places.append(numbers)
            bound = [*(known[role][number] for role, number in dispatch.bound), numbers]
            steps.append(Step(dispatch.kernel, bound, dispatch.groups))
        return Work(steps, places, results, reply)

    def plan(self, args: tuple[Any, ...], facts: Facts) -> Plan:
        """How a device with these facts computes a call with arguments of these shapes."""
        count = self._arrays
        try:
            looks = [None if each is None else (each.shape, each.dtype, not_an_array(each)) for each in args[:count]]
            key = (facts, *looks, *map(_typed, args[count:]))
            known = self._plans.get(key)
        except (AttributeError, TypeError) as error:  # no arrays, or what cannot be compared with earlier calls
            self._results(self._specs(args))
            raise InvalidInput(f"{self.name}: {error}") from error
        if known is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            known = self._planned(self._specs(args), facts)
            check(self.name, [name for name, each in zip(self._names, looks, strict=False) if each], known)
            self._plans[key] = known
        return known

    def _planned(self, specs: tuple[Any, ...], facts: Facts) -> Plan:
        made = tuple(Slot("made", number, spec) for number, spec in enumerate(self._results(specs)))
        numbers = iter(range(len(specs)))
        params = [Slot("given", next(numbers), each) if isinstance(each, Spec) else each for each in specs]
        plan = Plan(facts, tuple(each for each in params if isinstance(each, Slot)), made)
        if self._half and plan.has("shader-f16"):
            self._planner(plan, made, *params)
            return plan
        wide = [plan.scratch(slot.shape, "float32") if slot.dtype == "float16" else slot for slot in made]
        self._planner(plan, wide, *(widen(plan, each) if isinstance(each, Slot) else each for each in params))
        for result, computed in zip(made, wide, strict=True):
            if result is not computed and computed in plan.written:
                narrow(plan, computed, result)
        return plan

    def _specs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        arrays = [
            self._spec(name, each) if each is not None or self._is_required(name) else None
            for name, each in zip(self._names, args[: self._arrays], strict=False)
        ]
        return (*arrays, *args[self._arrays :])

    def _spec(self, name: str, array: Any) -> Spec:
        found = not_an_array(array)
        if found:
            raise InvalidInput(f"{self.name}: {name} must be an array, not {found}")
        dtype = array.dtype.name
        if dtype not in _DTYPES:
            known = ", ".join(sorted(_DTYPES))
            raise InvalidInput(f"{self.name}: {name} is an array of {dtype}, and a gpu has {known}: use astype")
        return Spec(array.shape, dtype)

    def _is_required(self, name: str) -> bool:
        return self.signature.parameters[name].default is not None

    def _results(self, specs: tuple[Any, ...]) -> tuple[Spec, ...]:
        results = self._rules(*specs)
        return results if isinstance(results, tuple) else (results,)

    def _as_arrays(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Plain numbers take the dtype of the first array; numbers of numpy have one."""
        dtype = next((each.dtype for each in args if isinstance(each, np.ndarray | OnDevice)), None)
        return tuple(self._as_array(each, dtype) if isinstance(each, _NUMBERS) else each for each in args)

    def _as_array(self, number: Any, dtype: Any) -> Array:
        if not isinstance(number, int | float):
            return np.asarray(number)
        if dtype is None:
            raise InvalidInput(f"{self.name} needs an array, not only {number!r}")
        made = _fitting(number, dtype)
        if made is None:
            raise InvalidInput(f"{self.name}: {number!r} cannot be {dtype}, as the array beside it: use astype on that")
        return made

    def __repr__(self) -> str:
        return f"<Operation {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _found, (self.__module__, self.name)


def _plain(option: Any) -> Any:
    """A whole number of any kind as an int, and several in a row as a tuple of them; anything else as it is."""
    if type(option) in _PLAIN:
        return option
    if isinstance(option, np.ndarray):
        option = option.tolist()
    if isinstance(option, list | tuple):
        return tuple(map(_plain, option))
    return operator.index(option) if isinstance(option, Integral) else option


def _typed(option: Any) -> Any:
    """The option and what it is: 3, 3.0 and True are equal, and not all of them may be allowed."""
    return (tuple, *map(_typed, option)) if isinstance(option, tuple) else (type(option), option)


def _fitting(number: float, dtype: Any) -> Array | None:
    """The number in this dtype, where a fraction may be rounded; None if it would become another."""
    try:
        with np.errstate(all="ignore"):
            made = np.array(number, dtype)
    except (OverflowError, ValueError):
        return None
    is_other = np.isinf(made) != np.isinf(number) if made.dtype.kind == "f" else made != number
    return None if is_other else made


def _found(module: str, name: str) -> Operation:
    import importlib

    function: Operation = getattr(importlib.import_module(module), name).fn
    return function


def operation(rules: Rules, planner: Planner, *, arrays: int = 1, half: bool = False) -> Decorator:
    """Make a function of numpy an operation. Its first parameters are the arrays; one that may be None is optional.

    Where `half` is false, or the device has no 16-bit floats, such arrays are widened first, and the results narrowed.
    """

    def made(twin: Callable[P, R]) -> Task[P, R]:
        return Task(Operation(twin, rules, planner, arrays, half), name=f"gpu.{twin.__name__}", pure=True, cost="gpu")

    return made
