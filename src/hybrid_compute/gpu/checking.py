"""A shader is compiled where its task is defined, so that its faults are told there: by a process beside this one.

Not by this one: a driver starts threads, and then workers can no longer be forked from it. What was found to be good is
noted on disk, and looked at again only when it, or wgpu, has changed. Where there is no wgpu, or nothing that it could
drive, faults show when a device first compiles the shader.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_compute.gpu.shader_errors import understood
from hybrid_compute.gpu.wgsl import features
from hybrid_compute.wasm.cache import folder

if TYPE_CHECKING:
    from hybrid_compute.gpu.work import Kernel

PATIENCE = 20.0
"""Seconds after which nobody waits for the process any more. It takes half a second, once for each shader."""


_nobody: list[str] = []
"""Why nothing here can compile, once that was heard: to ask again for each shader would take as long each time."""


def check(kernel: Kernel) -> None:
    """Raise `InvalidShader` if a compiler refuses this, with the line and the column."""
    noted = _note(kernel)
    if noted is None or noted.exists() or _nobody:
        return
    told = fault(kernel)
    if told:
        raise understood(kernel.name, told)
    if told is not None:
        _remember(noted)


def _note(kernel: Kernel) -> Path | None:
    """The file that says that this was found to be good; None where nobody could look at it."""
    try:
        told = [version("wgpu"), kernel.source, kernel.entry, kernel.bindings]
    except PackageNotFoundError:
        return None
    return folder() / "wgsl" / hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _remember(note: Path) -> None:
    try:
        note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        note.touch()
    except OSError:  # a full disk, or no home: it will be looked at again
        pass


def fault(kernel: Kernel) -> str | None:
    """What is wrong with it; an empty text if nothing is, None if that cannot be found out."""
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
    question = json.dumps([kernel.source, kernel.entry, kernel.bindings])
    try:
        ran = subprocess.run(
            [sys.executable, "-c", program],
            input=question,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        told: dict[str, Any] = json.loads(ran.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):  # a driver that fails: the device will say more
        return None
    if "unknown" in told:
        _nobody.append(str(told["unknown"]))
        return None
    found: str | None = told["fault"]
    return found


def serve() -> None:
    """The life of that process: a question as its input, and the answer as its output."""
    sys.stdout.write(json.dumps(_compiler()(*json.loads(sys.stdin.read()))))


def _compiler() -> Any:
    """What compiles, if anything here does."""
    from hybrid_compute.errors import BackendUnavailable
    from hybrid_compute.gpu.adapters import choose
    from hybrid_compute.gpu.errors import InvalidShader
    from hybrid_compute.gpu.pipelines import Pipelines
    from hybrid_compute.gpu.work import Kernel

    try:
        adapter = choose()
        device = adapter.wgpu.request_device_sync(required_features=adapter.wgpu.features, required_limits={})
        pipelines = Pipelines(device)
    except (BackendUnavailable, RuntimeError) as error:
        reason = str(error)
        return lambda *_: {"unknown": reason}

    def compiles(source: str, entry: str, bindings: list[tuple[int, Any]]) -> dict[str, str | None]:
        if features(source) - adapter.features:  # that is no fault of the shader, and others of it cannot be seen
            return {"fault": None}
        try:
            pipelines.compile(Kernel("it", source, entry, bindings))
        except InvalidShader as error:
            return {"fault": str(error.__cause__)}
        return {"fault": ""}

    return compiles
