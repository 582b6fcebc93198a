"""MODULE and MODULE:TASK as they are typed, made a module and a task."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hybrid_compute.cli.exits import Misuse
from hybrid_compute.schema import input_type
from hybrid_compute.tasks import AnyTask, TaskRegistry, as_task


def load_module(name: str) -> ModuleType:
    """The module of this name, looked for in the working directory first, or the one in this `.py` file.

    Workers import it too, by the same name. Raises `Misuse` if it cannot be had.
    """
    folder, wanted = os.getcwd(), name
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise Misuse(f"there is no file {name}")
        folder, wanted = str(path.resolve().parent), path.stem
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(wanted)
    except (Exception, SystemExit) as error:  # it is a program: it may fail in any way
        raise Misuse(f"cannot import {name}: {type(error).__name__}: {error}") from error
    if path.suffix == ".py" and not _is_at(module, path):
        found = getattr(module, "__file__", None) or "part of Python"
        raise Misuse(f"cannot import {name}: another module is named {wanted!r} ({found}); rename the file")
    return module


def load_task(target: str) -> AnyTask:
    """The task MODULE:TASK, where TASK is the name of a task or function in the module, or a task's name on the wire.

    Raises `Misuse` if there is none, or if no input can be made for it.
    """
    name, colon, wanted = target.rpartition(":")
    if not colon or not name or not wanted:
        raise Misuse(f"a task is named as MODULE:TASK, not {target!r}")
    module = load_module(name)
    found = _look_up(module, wanted)
    if found is None:
        known = ", ".join(sorted(tasks_of(module))) or "none"
        raise Misuse(f"there is no task {wanted!r} in {name}; its tasks: {known}")
    if not callable(found):
        raise Misuse(f"{target} is neither a task nor a function, but of type {type(found).__name__}")
    task = as_task(found)
    try:
        input_type(task)
    except TypeError as error:
        raise Misuse(str(error)) from error
    return task


def tasks_of(module: ModuleType) -> TaskRegistry:
    """All tasks of a module. Raises `Misuse` if two have one name."""
    try:
        return TaskRegistry.of(module)
    except ValueError as error:
        raise Misuse(str(error)) from error


def _look_up(module: ModuleType, wanted: str) -> Any:
    found: Any = module
    for part in wanted.split("."):
        found = getattr(found, part, None)
    if found is None and wanted in (known := tasks_of(module)):
        return known[wanted]
    return found


def _is_at(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).exists() and path.samefile(file)
