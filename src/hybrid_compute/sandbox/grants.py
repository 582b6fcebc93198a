"""Functions of the host that a program was granted: what it says is checked before anything is called."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from keyword import iskeyword
from typing import Any

from hybrid_compute.errors import HybridComputeError, InvalidInput
from hybrid_compute.schema import Arguments, as_object, bind_object, encode_json, input_type
from hybrid_compute.tasks import AnyTask, Task, as_task

_TAKEN = {"input", "result"}


def tasks_of(grants: Mapping[str, Callable[..., Any]]) -> dict[str, AnyTask]:
    """The granted functions, as tasks. Raises `ValueError` or `TypeError` for what cannot be granted."""
    found = {}
    for name, function in grants.items():
        if not name.isidentifier() or iskeyword(name) or name in _TAKEN:
            raise ValueError(f"a function cannot be granted as {name!r}: a program could not call it by that name")
        task = function if isinstance(function, Task) else as_task(function)
        if task.kind != "function":
            raise TypeError(f"the {task.kind} {name!r} cannot be granted: a program calls plain functions")
        input_type(task)  # raises here what would otherwise be the program's fault
        found[name] = task
    return found


def told(name: str, task: AnyTask) -> str:
    """A granted function in one line: how it is called, and what it says of itself."""
    summary = (inspect.getdoc(task.fn) or "").partition("\n")[0]
    return f"{name}{inspect.signature(task.fn, eval_str=True)}" + (f": {summary}" if summary else "")


def answer(grants: Mapping[str, AnyTask], name: str, arguments: str) -> str:
    """What the program is told: `{"value": ...}`, or `{"error": ...}` if the function raised or does not take that."""
    task = grants.get(name)
    if task is None:
        return _error(f"there is no function {name!r}")
    try:
        args, kwargs = _bound(task, json.loads(arguments))
        value = encode_json(task.fn(*args, **kwargs)).decode()
    except HybridComputeError as error:
        return _error(str(error))
    except Exception as error:
        return _error(f"{type(error).__name__}: {error}")
    return f'{{"value": {value}}}'


def _bound(task: AnyTask, given: Any) -> Arguments:
    """The arguments, each of the type that the function says. Raises `InvalidInput`."""
    match given:
        case {"args": [*args], "kwargs": {**kwargs}}:
            named = {str(key): value for key, value in kwargs.items()}
            return bind_object(task, as_object(task, tuple(args), named))
        case _:
            raise InvalidInput(f"{task.name} is called with a list of arguments and an object of named ones")


def _error(message: str) -> str:
    return json.dumps({"error": message})
