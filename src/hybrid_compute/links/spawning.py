"""A `multiprocessing` process, started by spawning, that knows how to mind its own business."""

from __future__ import annotations

import importlib
import sys
import types
from functools import cache
from multiprocessing import process, spawn
from multiprocessing.context import SpawnProcess
from typing import Any


class Process(SpawnProcess):
    """A new interpreter with this one's `sys.path`, but not its `__main__`.

    `multiprocessing` would import that again over there, and so run a script whose author did not write
    `if __name__ == "__main__"`. And it would wait at exit for processes that nobody has closed.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802  # the name is theirs
        return _launcher()(process_obj)

    def start(self) -> None:
        super().start()
        process._children.discard(self)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


@cache
def _launcher() -> Any:
    """`multiprocessing`'s own way to start a process, which finds another `get_preparation_data` where it looks."""
    windows = sys.platform == "win32"
    module: Any = importlib.import_module(f"multiprocessing.popen_spawn_{'win32' if windows else 'posix'}")
    method = "__init__" if windows else "_launch"
    code = getattr(module.Popen, method).__code__
    spawning = types.SimpleNamespace(**{**vars(spawn), "get_preparation_data": _prepare_without_main})
    return type("Popen", (module.Popen,), {method: types.FunctionType(code, {**vars(module), "spawn": spawning})})


def _prepare_without_main(name: str) -> dict[str, Any]:
    data = spawn.get_preparation_data(name)
    return {key: value for key, value in data.items() if not key.startswith("init_main")}
