"""The interpreter that sandboxes are made of: compiled, and linked with all that it may reach. One for a process."""

from __future__ import annotations

import os
import threading

from wasmtime import component

from hybrid_compute.sandbox import imports, prepare
from hybrid_compute.wasm.engines import Engine, engine_for


class Interpreter:
    """Python, as a component of WebAssembly."""

    def __init__(self) -> None:
        self.engine: Engine = engine_for(prepare.PROFILE)
        self.compiled: component.Component = prepare.load(self.engine.engine)
        self.linker = component.Linker(self.engine.engine)
        imports.link(self.linker, self.compiled)


def interpreter() -> Interpreter:
    """That of this process. The first call loads it; the first one on a machine makes it, which takes half a minute.

    Raises `BackendUnavailable` if it is not there and cannot be made.
    """
    global _loaded  # noqa: PLW0603  # one process has one
    with _lock:
        if _loaded is None:
            _loaded = Interpreter()
        return _loaded


def is_loaded() -> bool:
    """Whether it is there in this process."""
    return _loaded is not None


_loaded: Interpreter | None = None
_lock = threading.Lock()


def _forget() -> None:
    """In a forked child: the engine is another one, and a lock that some thread held is free."""
    global _loaded, _lock
    _loaded, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
