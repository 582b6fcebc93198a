"""A shader is compiled where its task is defined, so that its faults are told there: by a process beside this one.

Not by this one: a driver starts threads, and then workers can no longer be forked from it. What was found to be good is
noted on disk, and looked at again only when it, or wgpu, has changed. Where there is no wgpu, or nothing that it could
drive, faults show when a device first compiles the shader.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_compute.gpu.shader_errors import understood
from hybrid_compute.wasm.cache import folder

if TYPE_CHECKING:
    from hybrid_compute.gpu.work import Kernel

PATIENCE = 20.0
"""Seconds after which nobody waits for the process any more."""
_IDLE = 10.0
"""Seconds without a question after which it goes."""


def check(kernel: Kernel) -> None:
    """Raise `InvalidShader` if a compiler refuses this, with the line and the column."""
    noted = _note(kernel)
    if noted is None or noted.exists():
        return
    fault = _checker.fault(kernel)
    if fault:
        raise understood(kernel.name, fault)
    if fault is not None:
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


class Checker:
    """The process that compiles, from the first question on, and anew after it has gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def fault(self, kernel: Kernel) -> str | None:
        """What is wrong with it; an empty text if nothing is, None if that cannot be found out."""
        question = json.dumps([kernel.source, kernel.entry, kernel.bindings])
        with self._lock:
            for _ in range(2):  # the first may have gone just now, for want of questions
                told = self._answer(question)
                if told is not None:
                    return None if "unknown" in told else str(told["fault"])
        return None

    def _answer(self, question: str) -> dict[str, Any] | None:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        try:
            process.stdin.write(f"{question}\n")
            process.stdin.flush()
            told: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError):  # it has gone, without an answer
            self.end()
            return None
        finally:
            late.cancel()
        return told

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner = os.getpid()
            program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # drivers chat; what matters comes as an answer
                text=True,
            )
        return self._process

    def end(self) -> None:
        """Let it go."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()


_checker = Checker()
atexit.register(_checker.end)


def serve() -> None:
    """The life of the process: a question in each line of its input, an answer in each of its output."""
    compiles = _compiler()
    while True:
        idle = threading.Timer(_IDLE, os._exit, [0])
        idle.start()
        line = sys.stdin.readline()
        idle.cancel()
        if not line:
            return
        sys.stdout.write(f"{json.dumps(compiles(*json.loads(line)))}\n")
        sys.stdout.flush()


def _compiler() -> Any:
    """What compiles, if anything here does."""
    from hybrid_compute.errors import BackendUnavailable
    from hybrid_compute.gpu.adapters import choose
    from hybrid_compute.gpu.errors import InvalidShader
    from hybrid_compute.gpu.pipelines import Pipelines
    from hybrid_compute.gpu.work import Kernel

    try:
        adapter = choose().wgpu
        pipelines = Pipelines(adapter.request_device_sync(required_features=adapter.features, required_limits={}))
    except (BackendUnavailable, RuntimeError) as error:
        reason = str(error)
        return lambda *_: {"unknown": reason}

    def compiles(source: str, entry: str, bindings: list[tuple[int, Any]]) -> dict[str, str]:
        try:
            pipelines[Kernel("it", source, entry, bindings)]
        except InvalidShader as error:
            return {"fault": str(error.__cause__)}
        return {"fault": ""}

    return compiles
