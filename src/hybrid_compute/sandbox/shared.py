"""The sandbox of all tasks of this process that say no other one: `run_python`, and `@task(sandbox=True)`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from hybrid_compute.errors import BackendUnavailable
from hybrid_compute.sandbox.functions import SandboxedFunction, programs

if TYPE_CHECKING:
    from hybrid_compute.sandbox.sandbox import Sandbox

P = ParamSpec("P")
R = TypeVar("R")


@functools.lru_cache(maxsize=1)
def shared() -> Sandbox:
    """That sandbox. Raises `BackendUnavailable` if there is no wasmtime."""
    try:
        from hybrid_compute.sandbox.sandbox import Sandbox
    except ImportError as error:
        raise BackendUnavailable(
            f"sandboxes need wasmtime, which is not there ({error}): pip install 'hybrid-compute[sandbox]'",
            backend="wasm",
        ) from error
    return Sandbox()


def contain(fn: Callable[P, R]) -> SandboxedFunction[P, R]:
    """The function, whose source runs there from now on."""
    return SandboxedFunction(fn, shared)


run_python = programs(shared, "run_python", {}, __name__)
