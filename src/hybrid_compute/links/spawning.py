"""A `multiprocessing` process, started by spawning, that knows how to mind its own business."""

from __future__ import annotations

import importlib.util
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
    """The class that starts processes, from a copy of its module in which only the preparation is another."""
    name = "multiprocessing.popen_spawn_" + ("win32" if sys.platform == "win32" else "posix")
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.spawn = types.SimpleNamespace(**{**vars(spawn), "get_preparation_data": _prepare_without_main})
    return module.Popen


def _prepare_without_main(name: str) -> dict[str, Any]:
    data = spawn.get_preparation_data(name)
    return {key: value for key, value in data.items() if not key.startswith("init_main")}
