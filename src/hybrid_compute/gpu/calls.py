"""A call of a gpu task, or an array, as work for a device: checked, planned for, and put in its places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybrid_compute.errors import InvalidInput
from hybrid_compute.gpu.arguments import not_an_array
from hybrid_compute.gpu.array import OnDevice
from hybrid_compute.gpu.definition import Definition
from hybrid_compute.gpu.facts import Facts
from hybrid_compute.gpu.planning import Planner
from hybrid_compute.gpu.shapes import DTYPES
from hybrid_compute.gpu.work import Kept, Output, Place, Reply, Step, Uniform, Upload, Work


def work(definition: Definition, planner: Planner, args: tuple[Any, ...], facts: Facts, reply: Reply) -> Work:
    """What a device has to do for a call. Raises `InvalidInput` for arguments that do not fit."""
    values = dict(zip(definition.parameters, args, strict=True))
    arrays = {name: _checked(name, values[name], declared.dtype) for name, declared in definition.inputs.items()}
    plan = planner.plan({name: array.shape for name, array in arrays.items()}, values)
    planner.check(plan, facts)
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
    ordered = in_order(definition, places)
    return Work([Step(definition.kernel, ordered, plan.groups)] if all(plan.groups) else (), ordered, results, reply)


def upload(array: Any, reply: Reply) -> Work:
    """What a device has to do to have a copy of an array. Raises `InvalidInput` for what it does not know."""
    if isinstance(array, OnDevice):
        raise InvalidInput(f"{array!r} lies on a device already: fetch it, if it shall lie on another")
    if isinstance(array, np.ma.MaskedArray):
        raise InvalidInput(f"a device cannot have {not_an_array(array)}")
    given = np.asarray(array)
    if given.dtype.name not in DTYPES.values():
        raise InvalidInput(f"a gpu has no {given.dtype.name}, but {', '.join(DTYPES.values())}: use astype")
    place = Kept(given.shape, given.dtype.name, given.nbytes, given)
    return Work((), [place], [place], reply)


def in_order(definition: Definition, places: Mapping[str, Place]) -> Sequence[Place]:
    """The places in the order in which the shader binds them."""
    return [places[name] for name in definition.bound]


def _checked(name: str, value: Any, dtype: str) -> Any:
    """An array of the right kind, of this process or of a device."""
    found = not_an_array(value)
    if found:
        raise InvalidInput(f"{name} must be an array of {dtype}, not {found}")
    if value.dtype != dtype:
        raise InvalidInput(f"{name} is an array of {value.dtype}, and {dtype} is declared: {name}.astype({dtype!r})")
    return value
