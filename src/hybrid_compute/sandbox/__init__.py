"""Python that is not trusted, run in an interpreter of its own that can reach nothing: WebAssembly is the wall.

    with Sandbox() as box:
        box.run("result = sum(input)", [1, 2, 3], timeout=2.0)     # 6

    await runtime.run(run_python, source, input)

    @task(sandbox=True)
    def score(text: str) -> float: ...

Importing this does not load wasmtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybrid_compute.sandbox.limits import Limits
from hybrid_compute.sandbox.shared import run_python

if TYPE_CHECKING:
    from hybrid_compute.sandbox.answers import Outcome as Outcome
    from hybrid_compute.sandbox.sandbox import Sandbox as Sandbox

__all__ = ["Limits", "Outcome", "Sandbox", "run_python"]


def __getattr__(name: str) -> Any:
    try:
        if name == "Sandbox":
            from hybrid_compute.sandbox.sandbox import Sandbox

            return Sandbox
        if name == "Outcome":
            from hybrid_compute.sandbox.answers import Outcome

            return Outcome
    except ModuleNotFoundError as error:
        if error.name != "wasmtime":
            raise
        from hybrid_compute.errors import BackendUnavailable

        raise BackendUnavailable(
            "sandboxes need wasmtime, which is not there: pip install 'hybrid-compute[sandbox]'", backend="wasm"
        ) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
