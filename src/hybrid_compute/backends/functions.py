"""Functions by number, for one pool: what is sent to a worker once, so that calls need only name it.

A function that the worker can import goes by reference. Others (of `__main__`, notebooks, lambdas, closures) go by
value. What such a function refers to may change between two calls, as it does in a notebook; unless it plainly refers
to nothing, it is pickled for each call, and gets a new number when the bytes differ.
"""

from __future__ import annotations

import itertools
import pickle
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from hybrid_compute.errors import NotTransferable
from hybrid_compute.links.codec import find_culprit
from hybrid_compute.links.layouts import ATOMS
from hybrid_compute.links.ticket import Function
from hybrid_compute.tasks import AnyTask, PerTask, is_importable


class Functions:
    """The functions one pool has numbered. `forget` is told the numbers of those that have gone."""

    def __init__(self, forget: Callable[[int], None]) -> None:
        self._forget = forget
        self._numbers = itertools.count(1)
        self._known = PerTask(self._number, lambda function: forget(function.number))

    def of(self, task: AnyTask) -> Function:
        """The numbered function behind a task. Raises `NotTransferable` if it cannot be sent anywhere."""
        function = self._known.known.get(id(task)) or self._known[task]
        if not function.constant:
            definition, _ = define(task)
            if definition != function.definition:
                self._forget(function.number)
                self._known[task] = fresh = self._number(task)
                fresh.cost = function.cost
                return fresh
        return function

    def _number(self, task: AnyTask) -> Function:
        definition, constant = define(task)
        return Function(next(self._numbers), task.name, task.kind, definition, constant)


def define(task: AnyTask) -> tuple[bytes, bool]:
    """`(definition, constant)`: what a worker needs to have the function, and whether that can never change."""
    reference = task.reference
    if reference is not None:
        return pickle.dumps((task.kind, "reference", reference, sys.path), 5), True
    builtin = _builtin_reference(task.fn)
    if builtin is not None:
        return pickle.dumps((task.kind, "reference", builtin, sys.path), 5), True
    import cloudpickle

    try:
        value = cloudpickle.dumps(task.fn, 5)
    except Exception as error:
        raise NotTransferable(f"task {task.name!r} cannot go to another process: {_culprit(task.fn, error)}") from error
    return pickle.dumps((task.kind, "value", value, sys.path), 5), _refers_to_nothing(task.fn)


def _builtin_reference(fn: Callable[..., Any]) -> tuple[str, str] | None:
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if not module or not name or "." in name or not is_importable(module):
        return None
    return (module, name) if getattr(sys.modules.get(module), name, None) is fn else None


def _refers_to_nothing(fn: Callable[..., Any]) -> bool:
    """Whether nothing outside the function's own code can change what it does."""
    kernels = sys.modules.get("hybrid_compute.kernels.kernel")
    if kernels is not None and isinstance(fn, kernels.Kernel):  # whose names were looked up when it was defined
        return True
    if not isinstance(fn, FunctionType) or fn.__closure__ or fn.__kwdefaults__:
        return False
    if any(type(value) not in ATOMS for value in fn.__defaults__ or ()):
        return False
    used = (fn.__globals__[name] for name in _names(fn.__code__) if name in fn.__globals__)
    return all(isinstance(value, ModuleType) and is_importable(value.__name__) for value in used)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _culprit(fn: Callable[..., Any], error: Exception) -> str:
    """Name the captured variable or global that does not pickle; cloudpickle's own words name only its type."""
    closure = getattr(fn, "__closure__", None) or ()
    captured = dict(zip(getattr(getattr(fn, "__code__", None), "co_freevars", ()), closure, strict=False))
    values: dict[str, Any] = {name: cell.cell_contents for name, cell in captured.items()}
    if isinstance(fn, FunctionType):
        values |= {name: fn.__globals__[name] for name in _names(fn.__code__) if name in fn.__globals__}
    path, culprit = find_culprit(values)
    return f"it refers to {path}, of type {type(culprit).__name__}: {error}" if path else str(error)
